"""Graph interpolations between two data, and jumps in the decoded data along them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data import Batch, Split, given_of
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.inference import Interpolation, first_row, interpolate
from pyro_hvae.metrics import step_lengths, wrap
from pyro_hvae.objectives import inputs_for
from pyro_hvae.runs import OpenRun, describe_values, mean_size


def graph_paths(
    run: OpenRun,
    nodes: int = 1000,
    k: int = 10,
    seed: int = 0,
    ends: tuple[int, int] | None = None,
    under: Mapping[str, Tensor] | None = None,
) -> dict[str, Interpolation]:
    """Name -> graph path between two test data, or for every pair of ends of the data set (pendulum: 0 and 180 degrees).

    All paths use the same prior samples. A pair that these do not connect is left out; `DataError` where none is connected.

    Arguments:
        under: encoded conditions, one row each, of prior and decoder; default: the mean size, and those beside the ends, which
            then are equal. Ends that are not chosen are the first datum and the next one of equal conditions, or else the
            first two data, under the conditions of the first.

    Raises:
        ConfigError: for ends out of range, and where chosen ends differ in conditions that `under` lacks.
    """
    under = mean_size(run) | dict(under or {})
    data = run.dataset
    if ends is not None:
        if not all(0 <= i < len(data.test) for i in ends):
            raise ConfigError(f"--from and --to are indices of the {len(data.test)} test data, got {ends[0]} and {ends[1]}.")
        pairs = {f"test datum {ends[0]} to {ends[1]}": data.test.x[list(ends)]}
    else:
        split, part = (data.test, "test") if len(data.test) > 1 else (data.train, "training")
        known = {} if run.conditions else data.ends  # they have no conditions
        if not known and len(split) < 2:
            raise DataError("an interpolation needs two data as its ends, and there is only one.")
        pairs = known or _first_pair(split, part, set(split.x.given) - set(under))
    found: dict[str, Interpolation] = {}
    for name, pair in pairs.items():
        if ends is not None:
            _require_one_condition(run, pair, under)
        given = given_of(pair.to(run.device))
        one = {**first_row(inputs_for(run.model, given)), **under}
        name += f" under {describe_values(run, one)}" if one else ""
        start, end = (pair.with_nan() if isinstance(pair, Batch) else pair).to(run.device)
        beside: dict[str, Any] = {"given": given, "under": one}
        try:
            found[name] = interpolate(run.model, run.guide, start, end, nodes=nodes, k=k, seed=seed, **beside)
        except DataError:
            if not found and pair is list(pairs.values())[-1]:
                raise
    return found


def _first_pair(split: Split, part: str, names: set[str]) -> dict[str, Any]:
    """The first datum and the next one with equal values of the named inputs, or simply the next one where none has them."""
    second = 1
    if names:
        given = split.x.given_at(torch.arange(len(split)))
        alike = torch.stack([(given[name] == given[name][:1]).flatten(1).all(1) for name in names]).all(0)
        second = next(iter(alike.nonzero().flatten()[1:].tolist()), 1)
    name = f"the first two {part} data" if second == 1 else f"{part} datum 0 to {second}"
    return {name: split.x[[0, second]]}


def _require_one_condition(run: OpenRun, pair: Tensor | Batch, under: Mapping[str, Tensor]) -> None:
    """Raises `ConfigError` for two data of different conditions that `under` lacks."""
    given = given_of(pair)
    differ = [c for c in run.conditions if c.key not in under and not torch.equal(*given[c.key])]
    if differ:
        first, last = (", ".join(f"{c.name}={c.describe(given[c.key][end])}" for c in differ) for end in (0, 1))
        raise ConfigError(
            f"the ends of the path have different conditions, {first} and {last}, and the path is decoded under one. Say "
            f"which: --given {first.replace(', ', ',')}."
        )


def largest_jump(run: OpenRun, images: Tensor) -> dict[str, float]:
    """Largest angular step in degrees and largest squared error to a genuine image, of decoded images along a path.

    For data without an angle: the largest root mean squared pixel change from one image to the next.
    """
    if run.dataset.read_angles is None:
        frames = images.flatten(1).numpy()
        return {"max_pixel_change": step_lengths(frames).max().item() / math.sqrt(frames.shape[1])}
    angles, squares = run.dataset.read_angles(images)
    return {"max_jump_deg": float(np.degrees(np.abs(wrap(np.diff(angles))).max())), "max_squared_error": float(squares.max())}


def discontinuities(dense: Tensor, share: float = 0.1) -> list[int]:
    """Indices i of jumps of decoded data (t, *event): the step from i to i + 1 is longer than a share of the whole path.

    Lengths are Euclidean; each of 199 equal steps is half a per cent, so there are at most nine jumps. The paper marks
    discontinuities without a definition; this one is ours.

    >>> discontinuities(torch.tensor([[0.0], [1.0], [2.0], [30.0], [31.0]]), share=0.5)
    [2]
    """
    steps = step_lengths(dense.flatten(1).numpy())
    return np.flatnonzero(steps > share * steps.sum()).tolist()


def interpolation(run: OpenRun, draws: int = 4, nodes: int = 1000, k: int = 10) -> dict[str, Any]:
    """Graph interpolation over several draws of the prior, on 200 equidistant points of each path.

    A path is good when no step turns the pendulum by more than 10 degrees and no image is a blend (squared error to the
    nearest genuine image at most 1, summed over pixels).
    """
    if run.dataset.read_angles is None:
        raise ConfigError(
            f"the metric 'interpolation' needs data with a readable angle, such as pendulum, not '{run.dataset.name}'."
        )
    if run.conditions:
        raise ConfigError(
            "the metric 'interpolation' is of paths between two images without conditions, but this run is given "
            f"{', '.join(condition.name for condition in run.conditions)}. Measure 'smoothness' instead."
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
