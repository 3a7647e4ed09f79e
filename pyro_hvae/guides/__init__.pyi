from .autoregressive import Autoregressive as Autoregressive
from .bottom_up import BottomUp as BottomUp
from .ladder_heads import Heads as Heads
from .top_down import TopDown as TopDown
from .top_down import fuse as fuse
