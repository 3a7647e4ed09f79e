"""Data sets by name or path: files/ fetches and decodes, sets/ reads, generated/ draws; `dataset_registry` is the table."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
