"""Conditionals: modules whose `forward(*parents)` returns a distribution, one family a file.

Whoever shares the object shares its weights. Every conditional broadcasts over leading plate dimensions, so the same object
serves a batch (B,), particles (K, B), or a grid of anything.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
