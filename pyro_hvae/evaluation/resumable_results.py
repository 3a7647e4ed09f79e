"""Results of long evaluations in a file of the run, so that an interrupted evaluation continues."""

import hashlib
import json
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from pyro_hvae.runtime import atomic_write

EVERY = 20.0  # seconds between two writes


class ResumableResults:
    """Values of the data evaluated so far, in order, with their protocol.

    Every protocol (weights, number of samples) has a file of its own.

    Attributes:
        path: of the file. columns: name -> values so far, float64.
    """

    def __init__(self, folder: Path, name: str, protocol: Mapping[str, Any], names: tuple[str, ...]) -> None:
        self.protocol, self.written = json.dumps(dict(protocol)), time.monotonic()
        self.path = path = folder / f"{name}-{hashlib.sha256(self.protocol.encode()).hexdigest()[:8]}.npz"
        self.columns = {name: np.empty(0) for name in names}
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                if str(file["protocol"]) == self.protocol:
                    unknown = np.full(len(file[names[0]]), np.nan)  # a column that older versions did not keep
                    self.columns = {name: (file[name] if name in file else unknown).astype(np.float64) for name in names}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
            pass  # absent or damaged: start from no results

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def add(self, **values: torch.Tensor) -> None:
        """Appends a batch, and writes the file now and then."""
        # One assignment: an interrupt must not leave columns of different lengths.
        self.columns = {name: np.concatenate([self.columns[name], value.cpu().numpy()]) for name, value in values.items()}
        if time.monotonic() - self.written > EVERY:
            self.write()

    def write(self) -> None:
        with atomic_write(self.path, "Free some space; the earlier results are kept.", shared=True) as part:
            with open(part, "wb") as file:
                # The stub takes any keyword for `allow_pickle`.
                np.savez(file, protocol=np.array(self.protocol), **self.columns)  # type: ignore[arg-type]
        self.written = time.monotonic()
