"""Generative programs: `model(x=None, size=1)` with a plate `data`, latents z1 ... zL and the observed site x."""

from pyro_hvae.models.chain import Chain as Chain
from pyro_hvae.models.ladder import Ladder as Ladder
from pyro_hvae.models.ladder import Rung as Rung

__all__ = ["Chain", "Ladder", "Rung"]
