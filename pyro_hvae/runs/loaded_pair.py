"""The trained pair of a run or an exported model, with the units of its data."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pyro_hvae.data import Batch, read_handed
from pyro_hvae.errors import ConfigError
from pyro_hvae.runs.experiment import Experiment
from pyro_hvae.runs.handed_over import has_known_data
from pyro_hvae.runs.opened_run import OpenRun


class _Parts(NamedTuple):
    model: nn.Module
    guide: nn.Module
    config: Experiment


class LoadedPair(_Parts):
    """The trained pair of a run, in evaluation mode, and the configuration of the run: `model, guide, config = pair`.

    Attributes:
        run: the opened run.
    """

    run: OpenRun

    def __new__(cls, run: OpenRun) -> "LoadedPair":
        pair = super().__new__(cls, run.model, run.guide, run.experiment)
        pair.run = run
        return pair

    def prepare(self, data: Any, given: Mapping[str, Any] | None = None) -> Tensor | Batch:
        """Data as the programs read them: columns in their order, standardised as those of the run, conditions beside x.

        Arguments:
            data: a DataFrame of pandas or the path of a table, with the columns of x by name in any order; or an array, a
                tensor or the path of a file of arrays (n, *event), images as bytes or as floats in [0, 1]. NaN is missing.
            given: beside an array, condition -> its values, classes by name or numbers; tables have them as columns.

        Returns:
            x (n, *event), float32 on the device of the pair; a `Batch` where values are missing or conditions given.

        Raises:
            ConfigError: for a condition that is lacking or unknown, and a pair that a script trained on its own tensors.
            DataError: for other columns, another shape, or values that are no numbers.
        """
        run = self.run
        if run.held is None and not has_known_data(self.config):
            raise ConfigError(
                "this pair was trained on tensors of a script, whose columns and units the run does not know. Hand x over as "
                "the script did: hv.encode(pair.guide, x)"
            )
        key = str(run.experiment.data_options.get("key", ""))
        return read_handed(data, run.dataset, run.conditions, given, key).to(run.device)

    def restore(self, x: Tensor | np.ndarray) -> Tensor:
        """x of the programs (n, *event) in the units of the data, the inverse of `prepare`; float64 where it was scaled."""
        x, data = torch.as_tensor(x), self.run.dataset
        return data.inverse(x) if data.inverse else x

    def __repr__(self) -> str:
        return f"LoadedPair({self.run.describe()})"

    def _repr_html_(self) -> str:
        return self.run._repr_html_()
