from .likelihoods import LIKELIHOODS as LIKELIHOODS
from .presets import PRESETS as PRESETS
from .presets import preset as preset
from .recipe import Recipe as Recipe
from .recipe import Stage as Stage
from .recipe import stage_lengths as stage_lengths
from .recipe_registry import RECIPES as RECIPES
from .recipe_registry import build as build
