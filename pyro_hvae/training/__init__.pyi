from .experiment_plan import plan as plan
from .experiment_plan import resumed as resumed
from .experiment_plan import train as train
from .loop import fit as fit
