"""Hierarchical variational autoencoders as Pyro model/guide pairs.

The public names stand in `__init__.pyi`, here and in every room. They load on first use, so that `import pyro_hvae as hv` and
the command line start at once.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
