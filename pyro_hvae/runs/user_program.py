"""Loads a user's own pair from a file that the user names; never from a path in a run or a checkpoint."""

import importlib.util

from torch import Tensor, nn

from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError, HVAEError
from pyro_hvae.objectives import ELBO
from pyro_hvae.runs.program_spec import split_program_spec

Program = tuple[nn.Module, nn.Module] | tuple[nn.Module, nn.Module, ELBO]


def program_from_file(spec: str, x: Tensor | Batch) -> Program:
    """Calls `build(x)` of a user's file, given as FILE.py:FUNCTION; it returns (model, guide) or (model, guide, ELBO).

    With conditions or missing entries x is a `Batch`. Its `given` holds encoded conditions, (n, width) by the keys under which
    model and guide get them.

    This runs the user's code, so `spec` must be typed by the user.

    Raises:
        ConfigError: for a file or function that does not exist, raises, or returns something else.
    """
    path, name = split_program_spec(spec)
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None:
        raise ConfigError(f"--program '{spec}': '{path}' is not a Python file.")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        function = getattr(module, name, None)
        if not callable(function):
            raise ConfigError(f"--program '{spec}': '{path}' has no function '{name}'.")
        pair = function(x)
    except HVAEError:
        raise
    except (Exception, SystemExit) as error:  # any error of the user's code
        raise ConfigError(
            f"--program '{spec}' raised {type(error).__name__}: {error}. See where with 'pyro-hvae --traceback'."
        ) from error
    kinds = (nn.Module, nn.Module, ELBO)
    if not (isinstance(pair, tuple) and len(pair) in (2, 3) and all(map(isinstance, pair, kinds[: len(pair)]))):
        got = f"({', '.join(type(part).__name__ for part in pair)})" if isinstance(pair, tuple) else type(pair).__name__
        raise ConfigError(f"--program '{spec}' must return (model, guide) or (model, guide, ELBO), got {got}.")
    return pair
