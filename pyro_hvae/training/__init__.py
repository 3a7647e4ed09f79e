"""Training: the loop of all recipes, its steps, and experiments from plan to trained run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
