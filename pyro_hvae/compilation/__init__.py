"""A loss and its gradients recorded as one graph and compiled."""
