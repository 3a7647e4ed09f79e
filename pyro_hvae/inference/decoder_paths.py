"""Paths between data through the codes of any decoder: along a graph of codes, straight, and as a geodesic."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.inference.foreign_decoder import ForeignDecoder
from pyro_hvae.inference.geodesic_curves import minimise_energy
from pyro_hvae.inference.neighbour_graph import GraphPath, resample_path, shortest_paths
from pyro_hvae.metrics import CurveMeasures, measure_curves
from pyro_hvae.runtime import evaluation_mode

MOST_ROWS = 2**14  # codes of one call of the decoder
BYTES = 2**25  # of what these decode to, in float64


@dataclass(frozen=True, eq=False)
class Curves(CurveMeasures):
    """Curves of one kind between all pairs, with measures of what they decode to (see `CurveMeasures`), each of shape (m,).

    Attributes:
        codes: the points of the curves (m, points, d). A pair without a curve has NaN everywhere.
    """

    codes: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Paths:
    """Paths between m pairs of data.

    Attributes:
        graph: the shortest paths through the graph of codes, at equidistant points. straight: straight lines between codes.
        geodesic: curves of least decoded energy; None where no gradients are at hand.
        graph_paths: the nodes of the graph paths; None for a pair that the graph does not connect.
    """

    graph: Curves
    straight: Curves
    geodesic: Curves | None
    graph_paths: Sequence[GraphPath | None]

    def __len__(self) -> int:
        return len(self.graph_paths)

    def __repr__(self) -> str:
        kinds = {"graph": self.graph, "straight": self.straight, "geodesic": self.geodesic}
        lengths = [f"{name} {np.nanmedian(one.length):.4g}" for name, one in kinds.items() if one is not None]
        count = "1 pair" if len(self) == 1 else f"{len(self):,} pairs"
        apart = sum(path is None for path in self.graph_paths)
        return f"Paths of {count}, {apart:,} not connected; median decoded length: {', '.join(lengths)}"


def paths(
    encode: Callable[[Any], Any] | None,
    decode: Callable[[Any], Any],
    data: Any,
    pairs: Any,
    *,
    k: int = 10,
    most: int = 50,
    points: int = 50,
    vjp: Callable[[Any], tuple[Any, Callable[[Any], Any]]] | None = None,
    geodesics: bool = True,
) -> Paths:
    r"""The path through a graph of codes, the straight line and the geodesic between pairs of data, of any two functions.

    The graph joins each code to its k nearest (Klushyn et al. 2019, section 2.3, with codes of data in the place of prior
    samples; give both together for a graph of both). The geodesic minimises the energy $T \sum_t |f(z_{t+1}) - f(z_t)|^2$ of
    the decoded curve, from the straight line and from the graph path, and is the lower of the two. It is a local minimum, and
    knows what codes decode to, not where data are. Every curve is measured at equally many points: `length`, `energy`,
    `smoothness` and `largest_jump`, in the units of decode.

    Arguments:
        encode: data -> codes (n, d), arrays or tensors; None where the data are codes.
        decode: codes (r, d) -> (r, ...), every row by itself. It gets what the codes are: arrays, or tensors of their type and
            device, whose gradients are torch's. Modules that the two use are in evaluation mode meanwhile.
        data: what encode takes, n of them. pairs: indices (m, 2) of the ends among the data.
        k: neighbours of a node. most: a pair that k neighbours do not connect is tried with more, up to so many.
        points: of a curve, with both ends.
        vjp: for geodesics of a decode of arrays: z -> (decode(z), pull), where pull(v) is J(z)^T v of every row, as `jax.vjp`
            has it.
        geodesics: False leaves geodesics out.

    The decoder is called with up to 16,384 codes at a time, with fewer where what they decode to is large.

    Raises:
        ConfigError: for codes that are not finite or not (n, d), pairs out of range, a decode that returns another number of
            rows or values that are not finite. DataError: for fewer than two data, or if no pair is connected.

    >>> codes = torch.stack([torch.ones(20), torch.linspace(0, 2, 20)], 1)  # radius and angle in a plane
    >>> found = paths(None, lambda z: z[:, :1] * torch.stack([z[:, 1].cos(), z[:, 1].sin()], 1), codes, [[0, 19]])
    >>> found  # 2 along the arc, 2 sin(1) along its chord
    Paths of 1 pair, 0 not connected; median decoded length: graph 2, straight 2, geodesic 1.683
    >>> found.graph.energy.round(2), found.geodesic.codes.shape
    (array([4.]), (1, 50, 2))
    """
    if points < 3:
        raise ConfigError(f"a curve has three points or more, got points={points}. Example: points=50.")
    with evaluation_mode(encode, decode, vjp):
        codes, like = _encode(encode, data)
        pairs = np.asarray(pairs)
        if not pairs.size:
            raise ConfigError("there are no pairs. Give indices of data, two for each path. Example: pairs=[[0, 1], [0, 2]].")
        found = shortest_paths(codes, pairs, k, most)
        _require_connected(found, codes, most)
        decoder = ForeignDecoder(decode, like, vjp)
        size = decoder(codes[:2]).shape[1]
        at_once = max(1, min(MOST_ROWS, BYTES // (8 * size)) // (2 * points))  # two starts of a geodesic
        parts = list[tuple[Curves, Curves, Curves | None]]()
        for first in range(0, len(pairs), at_once):
            some = slice(first, first + at_once)
            parts.append(_draw_curves(decoder, codes[pairs[some]], found[some], points, geodesics))
    graph, straight, geodesic = zip(*parts, strict=True)
    shortest = [one for one in geodesic if one is not None]
    return Paths(_join(graph), _join(straight), _join(shortest) if shortest else None, found)


def _encode(encode: Callable[[Any], Any] | None, data: Any) -> tuple[np.ndarray, Any]:
    """The codes (n, d) in float64, and as the encoder gives them."""
    with torch.no_grad():
        like = data if encode is None else encode(data)
    like = like.detach() if isinstance(like, Tensor) else np.asarray(like)
    array = like.cpu().double().numpy() if isinstance(like, Tensor) else like
    counted = hasattr(data, "__len__") and not isinstance(data, Mapping)  # of named arrays the length is that of the names
    count = len(data) if counted else len(array) if array.ndim else 0
    if array.ndim != 2 or array.dtype.kind not in "fiu" or len(array) != count:
        raise ConfigError(
            f"codes are numbers of shape (n, d), one row for each datum, got shape {array.shape} of {array.dtype} for {count} "
            "data. Let encode return such codes, or, without encode, give them in the place of the data."
        )
    codes = array.astype(np.float64)
    if len(codes) < 2:
        raise DataError(f"a path lies between two data, got {len(codes)}. Give two or more.")
    if wrong := (~np.isfinite(codes).all(1)).sum():
        raise ConfigError(
            f"{wrong} of {len(codes)} codes have NaN or infinite values. Leave these data out, or look at encode."
        )
    return codes, like


def _require_connected(found: Sequence[GraphPath | None], codes: np.ndarray, most: int) -> None:
    if len(found) and all(path is None for path in found):
        raise DataError(
            f"the graph of {len(codes)} codes connects none of {len(found)} pairs with up to {min(most, len(codes) - 1)} "
            f"neighbours: there are gaps between them. Give more data, or more neighbours: most={2 * most}."
        )


def _draw_curves(
    decoder: ForeignDecoder, ends: np.ndarray, found: Sequence[GraphPath | None], points: int, geodesics: bool
) -> tuple[Curves, Curves, Curves | None]:
    """The curves of pairs of ends (m, 2, d): along the graph, straight, and geodesics if they are wanted and can be found."""
    share = np.linspace(0, 1, points)[:, None]
    straight = ends[:, :1] * (1 - share) + ends[:, 1:] * share
    graph = straight.copy()
    for place, path in enumerate(found):
        if path is not None:
            graph[place] = resample_path(path.points, points)
    ways, lines = _measure(decoder, graph), _measure(decoder, straight)
    shortest = _measure(decoder, _geodesics(decoder, straight, graph)) if geodesics and decoder.differentiable else None
    apart = [place for place, path in enumerate(found) if path is None]
    for values in vars(ways).values():
        values[apart] = np.nan
    return ways, lines, shortest


def _geodesics(decoder: ForeignDecoder, *starts: np.ndarray) -> np.ndarray:
    """Of the curves that are found from several starts, those of the least energy."""
    found = minimise_energy(decoder, np.concatenate(starts))
    energy = _measure(decoder, found).energy.reshape(len(starts), -1)
    return found.reshape(len(starts), *starts[0].shape)[energy.argmin(0), np.arange(energy.shape[1])]


def _measure(decoder: ForeignDecoder, curves: np.ndarray) -> Curves:
    frames = decoder(curves.reshape(-1, curves.shape[-1]))
    return Curves(**vars(measure_curves(frames.reshape(*curves.shape[:2], -1))), codes=curves)


def _join(parts: Sequence[Curves]) -> Curves:
    return Curves(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})
