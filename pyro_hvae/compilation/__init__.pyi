from .captured_loss import Captured as Captured
from .captured_loss import CaptureWarning as CaptureWarning
from .captured_loss import capture as capture
from .inductor import compile_obstacle as compile_obstacle
from .policy import CHAIN as CHAIN
from .policy import compiles as compiles
from .policy import remark as remark
