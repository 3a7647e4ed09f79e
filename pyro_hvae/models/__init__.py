"""Generative programs `model(x=None, size=1)`: plate `data`, latents z1 ... zL, observed site x. Networks of ladders."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
