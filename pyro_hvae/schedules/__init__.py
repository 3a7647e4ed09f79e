"""Schedules: controllers that watch the constraint and say how much the rate weighs.

Each holds its state as 0-dim tensors in buffers (`state_dict`, `to(device)`), knows nothing of Pyro, and gives the
weights of an `ELBO`'s sites: the observed site gets lambda = 1 / beta.
"""

from pyro_hvae.schedules.geco_and_rewo import Geco as Geco
from pyro_hvae.schedules.geco_and_rewo import Rewo as Rewo
from pyro_hvae.schedules.progressive import Progressive as Progressive
from pyro_hvae.schedules.schedule import Alphas as Alphas
from pyro_hvae.schedules.schedule import Constant as Constant
from pyro_hvae.schedules.schedule import Schedule as Schedule
from pyro_hvae.schedules.warm_up import Ramp as Ramp
from pyro_hvae.schedules.warm_up import WarmUp as WarmUp

__all__ = ["Alphas", "Constant", "Geco", "Progressive", "Ramp", "Rewo", "SCHEDULES", "Schedule", "WarmUp"]

SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "warmup": WarmUp,
    "ramp": Ramp,
    "geco": Geco,
    "rewo": Rewo,
    "progressive": Progressive,
}
