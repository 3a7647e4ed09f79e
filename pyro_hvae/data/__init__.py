"""Data sets by name or path, as `Dataset`s of compactly stored `Rows`; see `table` for adding one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
