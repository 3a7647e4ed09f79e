from .chain import Chain as Chain
from .encoding_model import EncodingModel as EncodingModel
from .ladder import Ladder as Ladder
from .ladder import Rung as Rung
from .ladder_registry import LADDERS as LADDERS
from .ladder_registry import ladder_networks as ladder_networks
