"""Schedules: controllers that set the weights of a training step's terms, some from the terms of the last step."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
