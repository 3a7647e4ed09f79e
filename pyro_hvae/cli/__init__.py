"""The command line: flags, streams, exit codes. A command is one library call."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
