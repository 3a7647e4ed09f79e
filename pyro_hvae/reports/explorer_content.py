"""What the explorer of a page holds of a run: codes, pictures, decoded grids, a graph and traversals, all computed before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_hvae.data import Batch, Rows, given_of
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation import random_subset
from pyro_hvae.inference import (
    decode_points,
    first_row,
    join_sites,
    latents,
    prior_latents,
    reconstruct,
    traverse,
)
from pyro_hvae.objectives import inputs_for, site_graph
from pyro_hvae.plots import dataset_scale
from pyro_hvae.reports.code_planes import Plane, decode_places, held_layers
from pyro_hvae.reports.explorer_columns import describe_columns, pack
from pyro_hvae.reports.picture_sheets import Tile, draw_sheet, picture_bytes
from pyro_hvae.reports.run_pictures import TRAVERSAL_DATA, pick_test_datum
from pyro_hvae.reports.run_rows import RowSet, join_sets, select_rows
from pyro_hvae.runs import OpenRun, describe_values
from pyro_hvae.runtime import fixed_seed

PLANES = 6  # maps of a run
GRIDS = (33, 25, 17, 11, 7, 5)  # cells along an axis, odd: one is the middle
PICTURED, NODES, NEIGHBOURS = 4000, 1000, 10
SAMPLE = 64  # pictures by which the bytes of one are measured
STEPS, MOST = 11, 8  # of traversals: steps, and dimensions of a layer
# Shares of the room for pictures; what they leave is for data and their reconstructions.
GRID_SHARE, NODE_SHARE, SLIDER_SHARE = 0.45, 0.15, 0.1


@dataclass(frozen=True, eq=False)
class _Encoded:
    """Data of a run with their codes.

    Attributes:
        sets: the data, in pieces. codes: site -> posterior means (n, d). columns: name -> (n,), what stands beside.
        about: which data these are.
    """

    sets: Sequence[RowSet]
    codes: Mapping[str, np.ndarray]
    columns: Mapping[str, np.ndarray]
    about: str

    def read(self, index: np.ndarray) -> Iterator[Any]:
        """The data at sorted places, piece by piece."""
        start = 0
        for rows in self.sets:
            mine = index[(index >= start) & (index < start + len(rows.x))] - start
            if len(mine):
                yield rows.x[torch.from_numpy(mine)]
            start += len(rows.x)


@dataclass(frozen=True, eq=False)
class _Reference:
    """The test datum whose code is held where one layer varies.

    Attributes:
        codes: site -> (1, *event). given: inputs of the model, one row. graph: of the model's sites.
        about: which datum it is.
    """

    datum: Any
    codes: Mapping[str, Tensor]
    given: Mapping[str, Tensor]
    graph: Any
    about: str

    @classmethod
    def choose(cls, run: OpenRun, image: int, seed: int) -> "_Reference":
        datum = pick_test_datum(run, image, seed)
        with fixed_seed(seed):
            codes = latents(run.guide, datum, mean=True)
            given = first_row(inputs_for(run.model, given_of(datum)))
        under = describe_values(run, given)
        about = f"test datum {image}" + (f" and its {under}" if under else "")
        return cls(datum, codes, given, site_graph(run.model, datum), about)

    @property
    def parents(self) -> tuple[str, ...]:
        """The layers that x depends on directly."""
        return tuple(sorted(self.graph.predecessors("x")))


def explore(
    run: OpenRun, budget: int, points: int = 60_000, part: str | None = None, image: int = 0, seed: int = 0
) -> dict[str, Any]:
    """The values of the explorer as plain numbers and texts, about as many bytes as the budget.

    Arguments:
        points: at most so many data on the maps. part: as for `select_rows`, by default all.
        image: the test datum whose code is held where one layer varies. seed: of all choices and draws.

    Raises:
        ConfigError: as `select_rows` and `pick_test_datum`. DataError: for an exported model without data.
    """
    encoded, reference = _encode(run, points, part, seed), _Reference.choose(run, image, seed)
    planes, left_out = _choose_planes(encoded.codes, reference)
    maps = [_describe_plane(plane, encoded.codes) for plane in planes]
    count, columns = len(next(iter(encoded.codes.values()))), describe_columns(run.dataset, encoded.columns)
    order = np.random.default_rng(seed).permutation(count)
    notes = [f"Without a map: {', '.join(left_out)}."] * bool(left_out)
    content: dict[str, Any] = {"about": encoded.about, "count": count, "columns": columns, "maps": maps, "notes": notes}
    drawn = dict[str, Tensor]()  # what the sheets show

    # Bytes: all there are for pictures, those of a decoded one, of a datum with its reconstruction, and of a code.
    room = budget - sum(len(one["places"]) for one in maps) - sum(len(one["values"]) for one in columns)
    of_one, of_pair = _measure_pictures(run, encoded, np.sort(order[:SAMPLE]))
    of_code = 16 / 3 * sum(encoded.codes[site].shape[1] for site in reference.parents)

    cells = next((c for c in GRIDS if c * c * len(planes) <= GRID_SHARE * room / of_one), GRIDS[-1])
    for number, (plane, one) in enumerate(zip(planes, maps, strict=True)):
        held, matter = held_layers(reference.graph, plane.sites)
        one |= {"cells": cells, "held": f"{', '.join(matter)} of {reference.about}" if matter else ""}
        places = plane.grid(cells)
        drawn[f"grid{number}"] = decode_places(run, plane, places, reference.codes, held, reference.given)
    try:
        sliders, drawn["sliders"] = _traverse(run, reference, int(SLIDER_SHARE * room / of_one / STEPS), seed)
        content["sliders"] = sliders
    except ConfigError as error:
        notes.append(f"Without sliders: {error}")
    samples = int(min(NODES, max(50, NODE_SHARE * room / (of_one + of_code))))
    nodes, drawn["nodes"] = _draw_nodes(run, samples, reference, list(zip(planes, maps, strict=True)), seed)
    left = room - of_one * sum(map(len, drawn.values())) - of_code * samples
    pictured = np.sort(order[: int(min(PICTURED, max(16, left / (of_pair + of_code))))])
    drawn["data"], drawn["reconstructions"] = _read_pictures(run, encoded, pictured)
    ends = np.concatenate([encoded.codes[site][pictured] for site in reference.parents], 1)
    content["nodes"] = nodes | {"ends": pack(ends.astype(np.float32))}
    return content | {"pictured": pack(pictured.astype(np.uint32))} | _draw(run, drawn)


def _encode(run: OpenRun, points: int, part: str | None, seed: int) -> _Encoded:
    """Codes of the data of a part, or of as many random ones."""
    sets, about = select_rows(run, None, part, "all")
    total = sum(len(rows.x) for rows in sets)
    if total > points:
        chosen, start, fewer = np.sort(np.random.default_rng(seed).permutation(total)[:points]), 0, list[RowSet]()
        for rows in sets:
            mine = chosen[(chosen >= start) & (chosen < start + len(rows.x))] - start
            start += len(rows.x)
            if len(mine):
                x = Rows.of(rows.x).take(torch.from_numpy(mine))
                fewer.append(RowSet(x, {name: values[mine] for name, values in rows.beside.items()}))
        sets, about = fewer, f"{points:,} random ones of {about}"

    def compute(rows: RowSet) -> dict[str, np.ndarray]:
        with fixed_seed(seed):
            found = latents(run.guide, rows.x.to(run.device), mean=True)
        return {site: value.flatten(1).double().cpu().numpy() for site, value in found.items()}

    arrays = join_sets(sets, compute)
    codes = {name: values for name, values in arrays.items() if values.ndim == 2}
    return _Encoded(sets, codes, {name: values for name, values in arrays.items() if values.ndim == 1}, about)


def _choose_planes(codes: Mapping[str, np.ndarray], reference: _Reference) -> tuple[list[Plane], list[str]]:
    """A plane for all layers that x depends on directly, where these are several, and for each layer; the names without one."""
    layers = sorted(codes, key=lambda name: (len(name), name))
    joint = [reference.parents] if len(reference.parents) > 1 else []
    wanted = [*joint, *((site,) for site in layers)]
    planes = [Plane.fit(np.concatenate([codes[site] for site in sites], 1), sites) for sites in wanted[:PLANES]]
    return planes, [", ".join(sites) for sites in wanted[PLANES:]]


def _describe_plane(plane: Plane, codes: Mapping[str, np.ndarray]) -> dict[str, Any]:
    places = plane.places(np.concatenate([codes[site] for site in plane.sites], 1))
    steps = (65535 * (places - plane.low) / (plane.high - plane.low)).round().clip(0, 65535)
    return {
        "name": ", ".join(plane.sites),
        "axes": plane.names,
        "plane": len(plane.mean) > 2,
        "low": plane.low.tolist(),
        "high": plane.high.tolist(),
        "places": pack(steps.astype(np.uint16)),
    }


def _read_pictures(run: OpenRun, encoded: _Encoded, index: np.ndarray) -> tuple[Tensor, Tensor]:
    """The data at sorted places, with NaN in missing entries, and their reconstructions."""
    data, reconstructions = list[Tensor](), list[Tensor]()
    for batch in encoded.read(index):
        batch = batch.to(run.device)
        data.append((batch.with_nan() if isinstance(batch, Batch) else batch).cpu())
        reconstructions.append(reconstruct(run.model, run.guide, batch).cpu())
    return torch.cat(data), torch.cat(reconstructions)


def _measure_pictures(run: OpenRun, encoded: _Encoded, index: np.ndarray) -> tuple[float, float]:
    """The bytes of a decoded picture, and of a datum with its reconstruction, by some data."""
    data, decoded = map(run.images, _read_pictures(run, encoded, index))
    pixels = Tile.measure([data, decoded]).pixels
    pairs = sum(picture_bytes(pixels(x), exact=False) for x in (data, decoded))
    return picture_bytes(pixels(decoded)), pairs


def _draw_nodes(
    run: OpenRun, count: int, reference: _Reference, maps: Sequence[tuple[Plane, dict[str, Any]]], seed: int
) -> tuple[dict[str, Any], Tensor]:
    """Samples of the prior, nodes of a graph as `interpolate` has it with two data, and E[x | z] of them."""
    sites = reference.parents
    with fixed_seed(seed):
        prior = prior_latents(run.model, count, given=reference.given)
    for plane, one in maps:
        if set(plane.sites) <= set(sites):
            places = (plane.places(join_sites(prior, plane.sites)) - plane.low) / (plane.high - plane.low)
            one["nodes"] = pack(places.astype(np.float32))
    nodes = join_sites(prior, sites)
    packed = pack(nodes.astype(np.float32))
    described = {"sites": ", ".join(sites), "width": nodes.shape[1], "neighbours": NEIGHBOURS, "nodes": packed}
    return described, decode_points(run.model, nodes, sites, prior, reference.given)


def _traverse(run: OpenRun, reference: _Reference, rows: int, seed: int) -> tuple[dict[str, Any], Tensor]:
    """Traversals of a datum: of every layer the dimensions in use, the largest first, as many rows as there is room for."""
    data = random_subset(run.dataset.test, TRAVERSAL_DATA, seed).x.to(run.device)
    most = max(1, min(MOST, rows // len(reference.codes)))
    one = traverse(run.model, run.guide, reference.datum, data, steps=STEPS, most=most, seed=seed)
    units = [{"layer": unit.site, "name": unit.name, "variance": unit.variance} for unit in one.units]
    described = {"units": units, "values": one.values.tolist(), "left_out": one.describe_left_out(), "from": reference.about}
    return described, one.images.flatten(0, 1).cpu()


def _draw(run: OpenRun, values: Mapping[str, Tensor]) -> dict[str, Any]:
    """The sheets of what is drawn, in pictures of one kind, and for vectors how they are drawn."""
    images = {name: run.images(x) for name, x in values.items()}
    scale = dataset_scale(run.dataset, images["data"])
    tile = Tile.measure(images.values(), shared=bool(scale and scale.shared))
    sheets = {name: draw_sheet(tile.pixels(x), exact=name not in ("data", "reconstructions")) for name, x in images.items()}
    if scale is None or tile.low is None or tile.high is None:
        return {"sheets": sheets, "vector": None}
    names, ends = [str(name) for name in scale.names], {"low": tile.low.tolist(), "high": tile.high.tolist()}
    return {"sheets": sheets, "vector": {"names": names, "shared": scale.shared, **ends}}
