"""The table of schedules that `--schedule` chooses from."""

from pyro_hvae.schedules.geco_and_rewo import Geco, Rewo
from pyro_hvae.schedules.progressive import Progressive
from pyro_hvae.schedules.schedule import Constant, Schedule
from pyro_hvae.schedules.warm_up import Cyclical, Ramp, WarmUp

SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "warmup": WarmUp,
    "cyclical": Cyclical,
    "ramp": Ramp,
    "geco": Geco,
    "rewo": Rewo,
    "progressive": Progressive,
}
