"""Graph capture: a loss and its gradients recorded as one graph, compared with the eager pass, and compiled."""

# Not called `capture`: a sub-package of that name would take the place of the function `hv.capture` when it is imported.
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
