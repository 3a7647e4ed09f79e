"""Recipes: a system of a paper is one row that joins a model, a guide, a bound and a schedule."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
