"""Reports on runs and data sets: texts, tables, pictures and the values behind them.

A function here makes all of what one command prints or writes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
