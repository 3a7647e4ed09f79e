"""Generative programs: `model(x=None, size=1)` with a plate `data`, latents z1 ... zL and the observed site x."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
