"""Inference programs: `guide(x)` samples every latent of the model inside the plate `data`."""

from pyro_hvae.guides.bottom_up import BottomUp as BottomUp

__all__ = ["BottomUp"]
