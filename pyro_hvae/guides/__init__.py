"""Inference programs: `guide(x)` samples every latent of the model in the plate `data`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
