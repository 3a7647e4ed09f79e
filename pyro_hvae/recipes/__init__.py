"""Recipes: each builds the system of a paper, a model and guide with a bound and a schedule; presets are beside them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
