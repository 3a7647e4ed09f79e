"""Metrics of a trained run with their protocol: each takes an `OpenRun` and options, and returns a dict of primitives."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
