"""The command line: options, output streams, exit codes. A command makes one call to the library.

No module here imports torch at its top, so that help and errors come at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
