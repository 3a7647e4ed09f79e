"""Controllers that watch the terms of a training step and set the weights of its sites."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
