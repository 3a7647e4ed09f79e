"""Schedules: controllers that watch the constraint and say how much the rate weighs.

Each holds its state as 0-dim tensors in buffers (`state_dict`, `to(device)`), knows nothing of Pyro, and gives the
weights of an `ELBO`'s sites: the observed site gets lambda = 1 / beta.
"""

from pyro_hvae.schedules.annealing import Ramp as Ramp
from pyro_hvae.schedules.annealing import WarmUp as WarmUp
from pyro_hvae.schedules.constrained import Geco as Geco
from pyro_hvae.schedules.constrained import Rewo as Rewo
from pyro_hvae.schedules.progressive import Progressive as Progressive
from pyro_hvae.schedules.schedule import Alphas as Alphas
from pyro_hvae.schedules.schedule import Constant as Constant
from pyro_hvae.schedules.schedule import Schedule as Schedule

__all__ = ["Alphas", "Constant", "Geco", "Progressive", "Ramp", "Rewo", "SCHEDULES", "Schedule", "WarmUp"]

SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "warmup": WarmUp,
    "ramp": Ramp,
    "geco": Geco,
    "rewo": Rewo,
    "progressive": Progressive,
}
