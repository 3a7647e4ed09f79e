"""Inference programs: `guide(x)` samples every latent of the model inside the plate `data`."""

from pyro_hvae.guides.autoregressive import Autoregressive as Autoregressive
from pyro_hvae.guides.bottom_up import BottomUp as BottomUp
from pyro_hvae.guides.ladder_heads import Heads as Heads
from pyro_hvae.guides.top_down import TopDown as TopDown
from pyro_hvae.guides.top_down import fuse as fuse

__all__ = ["Autoregressive", "BottomUp", "Heads", "TopDown", "fuse"]
