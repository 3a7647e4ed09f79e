"""Generative programs: `model(x=None, size=1)` with a plate `data`, latents z1 ... zL and the observed site x."""

from pyro_hvae.models.chain import Chain as Chain

__all__ = ["Chain"]
