"""Graph interpolations between two data, and jumps in the decoded data along them."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.inference import Interpolation, interpolate
from pyro_hvae.metrics import wrap
from pyro_hvae.runs import OpenRun


def graph_paths(
    run: OpenRun, nodes: int = 1000, k: int = 10, seed: int = 0, ends: tuple[int, int] | None = None
) -> dict[str, Interpolation]:
    """Name -> graph path between two test data, or for every pair of ends of the data set (pendulum: 0 and 180 degrees).

    All paths use the same prior samples. A pair that these do not connect is left out; `DataError` where none is connected.
    """
    data = run.dataset
    if ends is not None:
        if not all(0 <= i < len(data.test) for i in ends):
            raise ConfigError(f"--from and --to are indices of the {len(data.test)} test data, got {ends[0]} and {ends[1]}.")
        pairs = {f"test datum {ends[0]} to {ends[1]}": data.test.x[list(ends)]}
    else:
        split, part = (data.test, "test") if len(data.test) > 1 else (data.train, "training")
        if not data.ends and len(split) < 2:
            raise DataError("an interpolation needs two data as its ends, and there is only one.")
        pairs = data.ends or {f"the first two {part} data": split.x[:2]}
    found: dict[str, Interpolation] = {}
    for name, pair in pairs.items():
        start, end = pair.to(run.device)
        try:
            found[name] = interpolate(run.model, run.guide, start, end, nodes=nodes, k=k, seed=seed)
        except DataError:
            if not found and name == list(pairs)[-1]:
                raise
    return found


def largest_jump(run: OpenRun, images: Tensor) -> dict[str, float]:
    """Largest angular step in degrees and largest squared error to a genuine image, of decoded images along a path.

    For data without an angle: the largest root mean squared pixel change from one image to the next.
    """
    if run.dataset.read_angles is None:
        change = (images[1:] - images[:-1]).flatten(1).square().mean(1).sqrt()
        return {"max_pixel_change": change.max().item()}
    angles, squares = run.dataset.read_angles(images)
    return {"max_jump_deg": float(np.degrees(np.abs(wrap(np.diff(angles))).max())), "max_squared_error": float(squares.max())}


def discontinuities(dense: Tensor, share: float = 0.1) -> list[int]:
    """Indices i of jumps of decoded data (t, *event): the step from i to i + 1 is longer than a share of the whole path.

    Lengths are Euclidean; each of 199 equal steps is half a per cent, so there are at most nine jumps. The paper marks
    discontinuities without a definition; this one is ours.

    >>> discontinuities(torch.tensor([[0.0], [1.0], [2.0], [30.0], [31.0]]), share=0.5)
    [2]
    """
    steps = (dense[1:] - dense[:-1]).flatten(1).double().norm(dim=1)
    return torch.nonzero(steps > share * steps.sum()).flatten().tolist()


def interpolation(run: OpenRun, draws: int = 4, nodes: int = 1000, k: int = 10) -> dict[str, Any]:
    """Graph interpolation over several draws of the prior, on 200 equidistant points of each path.

    A path is good when no step turns the pendulum by more than 10 degrees and no image is a blend (squared error to the
    nearest genuine image at most 1, summed over pixels).
    """
    if run.dataset.read_angles is None:
        raise ConfigError(
            f"the metric 'interpolation' needs data with a readable angle, such as pendulum, not '{run.dataset.name}'."
        )
    if draws < 1:
        raise ConfigError(f"draws={draws}: at least one draw of the prior is needed. Example: -o draws=4.")
    paths = []
    for seed in range(draws):
        try:
            path = next(iter(graph_paths(run, nodes, k, seed).values()))
        except DataError:
            jump = {"max_jump_deg": math.inf, "max_squared_error": math.inf}
        else:
            jump = largest_jump(run, path.dense)
        paths.append({**jump, "good": jump["max_jump_deg"] <= 10 and jump["max_squared_error"] <= 1})
    return {"good": sum(p["good"] for p in paths), "draws": draws, "paths": paths, "nodes": nodes, "k": k}
