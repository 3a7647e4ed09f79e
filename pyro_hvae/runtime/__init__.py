"""The process and its machine: devices, random states, signals, atomic files, and the folders of data, cache and runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
