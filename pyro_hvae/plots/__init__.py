"""Figures of runs and data. Each function takes values or an opened run and returns a matplotlib figure.

No other room imports matplotlib.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
