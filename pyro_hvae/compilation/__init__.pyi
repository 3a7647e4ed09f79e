from .captured_loss import Captured as Captured
from .captured_loss import CaptureWarning as CaptureWarning
from .captured_loss import capture as capture
from .inductor import compile_obstacle as compile_obstacle
from .policy import ROWS_PER_CHAIN_STEP as ROWS_PER_CHAIN_STEP
from .policy import decide_evaluation as decide_evaluation
from .policy import decide_training as decide_training
from .policy import print_line as print_line
