from .experiment_plan import plan as plan
from .experiment_training import resume_experiment as resume_experiment
from .experiment_training import train as train
from .history import History as History
from .loop import fit as fit
from .optimizers import MakeOptimizer as MakeOptimizer
from .optimizers import check_optimizer as check_optimizer
from .validation import choose_validation as choose_validation
