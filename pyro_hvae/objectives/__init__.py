"""Objectives of training: the program contract, effect handlers, Monte Carlo estimates and the ELBO family."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
