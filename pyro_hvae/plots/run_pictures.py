"""Draws one kind of picture of an opened run on request, and says where it is and what it shows."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.evaluation import discontinuities, graph_paths, largest_jump
from pyro_hvae.evaluation.encoded_data import random_subset
from pyro_hvae.evaluation.gibbs_evaluation import proposition_note, sample_by_gibbs
from pyro_hvae.inference.layer_effects import grid_layers, layer_grid, layer_samples, layer_shares, sample_noise
from pyro_hvae.inference.traversal import traverse
from pyro_hvae.plots import figures
from pyro_hvae.plots import hierarchy_figures as panels
from pyro_hvae.plots import information_flow_figure as flow_panels
from pyro_hvae.plots import latent_space_figures as journeys
from pyro_hvae.plots.reconstruction_figure import ALONE, FULL, reconstruct_test, reconstruction_panels
from pyro_hvae.plots.several_runs import called, place
from pyro_hvae.plots.traversal_figure import traversal_panels
from pyro_hvae.runs.run_loading import OpenRun
from pyro_hvae.runtime.random_state import fixed_seed

__all__ = [
    "draw_all",
    "draw_gibbs",
    "draw_interpolation",
    "draw_layer_grids",
    "draw_layers",
    "draw_reconstructions",
    "draw_samples",
    "draw_traversals",
]

POINTS = 10_000  # test data over which the variances of a traversal's dimensions are taken


def _count(count: int) -> int:
    if count < 1:
        raise ConfigError(f"--n must be at least 1, got {count}.")
    return count


def draw_all(run: OpenRun) -> list[Path]:
    """The standard pictures of a run, into its figures folder; what cannot be drawn for this run is left out."""
    folder = run.directory.path / "figures"
    rows = run.directory.rows()
    drawn = figures.training_pictures(run, rows) if rows else {}
    if flow_panels.has_information(rows):
        drawn["information_flow"] = flow_panels.information_flow(rows, f"Information flow of {figures.run_name(run)}")
    try:
        found = graph_paths(run)
    except DataError:
        found = {}  # no ends connected through the prior: the latent space is still worth looking at
    drawn["latent_space"] = journeys.latent_space(run, found)
    if found:
        drawn["interpolation"] = journeys.path_strips(run, found)
    drawn["reconstructions"] = reconstruction_panels([run], reconstruct_test([run]))
    drawn["samples"] = figures.samples(run)
    return [figures.save(figure, folder / f"{name}.png") for name, figure in drawn.items()]


def draw_interpolation(run: OpenRun, nodes: int, k: int, seed: int, first: int | None, second: int | None) -> dict[str, Any]:
    """The graph and the strips of data along its shortest paths.

    Raises:
        ConfigError: when only one end is given. DataError: when the ends cannot be connected.
    """
    if (first is None) != (second is None):
        raise ConfigError("--from and --to go together: give both or neither.")
    ends = None if first is None or second is None else (first, second)
    if nodes < 2:
        raise ConfigError(f"--nodes must be at least 2, got {nodes}.")
    found = graph_paths(run, nodes, k, seed, ends)
    folder = run.directory.path / "figures"
    paths = [
        figures.save(journeys.latent_space(run, found), folder / "latent_space.png"),
        figures.save(journeys.path_strips(run, found), folder / "interpolation.png"),
    ]
    measured = [
        {
            "path": name,
            "k": way.path.neighbours,
            "points": len(way.path.points),
            "length": way.path.length,
            **largest_jump(run, way.dense),
            "discontinuities": len(discontinuities(way.dense)),
        }
        for name, way in found.items()
    ]
    text = _named(paths)
    text += [", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()) for row in measured]
    text += [
        f"path {name}: not connected by {nodes} prior samples" for name in run.dataset.ends if not ends and name not in found
    ]
    return {"figures": [str(p) for p in paths], "nodes": nodes, "paths": measured, "text": "\n".join(text)}


def draw_samples(run: OpenRun, count: int, seed: int) -> dict[str, Any]:
    """A grid of samples."""
    path = figures.save(figures.samples(run, _count(count), seed), run.directory.path / "figures" / "samples.png")
    return {"figures": [str(path)], "n": count, "text": f"Picture: {path}"}


def draw_reconstructions(runs: Sequence[OpenRun], count: int, picture: Path | None = None) -> dict[str, Any]:
    """Test data above the reconstructions of each run, and what its features alone keep.

    Arguments:
        picture: the file to draw into; default figures/reconstructions.png of the first run.

    Raises:
        ConfigError: for runs of different data, no data to show, and a name of another kind of file.
    """
    path = place(runs, picture, "reconstructions.png")
    found = reconstruct_test(runs, _count(count))
    figures.save(reconstruction_panels(runs, found), path)
    n = len(found[0].data)
    values, text = [], [f"Reconstructions at the posterior means of {n} test data"]
    for run, one in zip(runs, found, strict=True):
        about = called(run)
        features = {"features_rmse": one.rmse[ALONE]} if ALONE in one.rmse else {}
        values.append({**about, "rmse": one.rmse[FULL], **features})
        text.append(f"{about['name']} ({about['run']}): {one}")
    return {"figures": [str(path)], "n": n, "runs": values, "text": "\n".join([*text, *_named([path])])}


def draw_gibbs(run: OpenRun, steps: int, **options: Any) -> dict[str, Any]:
    """Chains beside ancestral samples and the chains' way, with distances and diagnostics kept in eval/gibbs.json.

    Arguments:
        steps, options: of `sample_by_gibbs`.
    """
    with tqdm(total=steps, unit="step", disable=None) as bar:
        report = sample_by_gibbs(run, steps=steps, progress=bar.update, **options)
    values, folder = report.values, run.directory.path / "figures"
    run.directory.write_json("eval/gibbs.json", values)
    pictures = {"gibbs": panels.gibbs_beside_ancestral, "gibbs_chains": panels.chain_trails}
    kept = "-".join(values["sites"])
    paths = [figures.save(draw(run, report), folder / f"{name}_{kept}.png") for name, draw in pictures.items()]
    return {"figures": [str(p) for p in paths], **values, "text": "\n".join([*_gibbs_lines(values), *_named(paths)])}


def _gibbs_lines(values: dict[str, Any]) -> list[str]:
    lines = [
        f"Gibbs chain on {', '.join(values['sites'])}{proposition_note(values)}: {values['chains']} chains from "
        f"{values['init']}, {values['steps']} steps, {values['burn_in']} of them burn-in"
        + (f"; guide resampled among {values['particles']} draws" if values["particles"] > 1 else "")
        + ("" if values["noise"] else "; without observation noise, which is not the chain of the propositions"),
        f"Energy distance to {values['samples']} test data   of draws x ~ p(x|z)   of means E[x|z]   (around 0: the same law)",
    ]
    names = {"gibbs": "Gibbs chain", "ancestral": "ancestral sampling", "test": "other test data"}
    for key, name in names.items():
        draws, means = (values["distance"][key][kind] for kind in ("draws", "means"))
        both = [f"{d['value']:8.4f} +- {d['stderr']:.4f}" for d in (draws, means)]
        lines.append(f"  {name:32s} {both[0]:>22s} {both[1]:>18s}")
    for site, d in values["diagnostics"].items():
        if d is None:
            lines.append(f"{site}: no diagnostics (they need at least four chains and four kept draws)")
            continue
        if math.isnan(d["rhat"]):
            lines.append(
                f"{site}: the chains diverged, some draws are NaN or infinite. Start from data with fewer --steps, or evaluate "
                "another checkpoint (--checkpoint best)"
            )
            continue
        lines.append(
            f"{site}: rank-normalised split R-hat at most {d['rhat']:.3f} (median {d['rhat_median']:.3f}), bulk and tail "
            f"effective sample size at least {d['ess']:.0f} (median {d['ess_median']:.0f}) and {d['ess_tail']:.0f} of "
            f"{d['draws']} draws"
        )
        if d["rhat"] > 1.05:
            lines.append(
                f"  R-hat is above 1.05: the chains have not mixed in {site} and depend on their start (try more --steps)"
            )
    if "class_changed" in values:
        lines.append(
            f"Chains that ended nearest to another class than they began: {values['class_changed']:.0%} "
            f"(independent data: {values['class_changed_if_independent']:.0%})"
        )
    return lines


def draw_layers(
    run: OpenRun, count: int, seed: int, image: int | None, site: str | None, outer: int, inner: int
) -> dict[str, Any]:
    """What each layer's noise does to x: a panel a layer, with the layer's share of the variance.

    Arguments:
        image: fix the other layers at the code of this test datum. site: draw only this layer's panel.
    """
    x = None if image is None else _test_datum(run, image, seed)
    with fixed_seed(seed):
        shares = layer_shares(run.model, outer, inner)
    images = {}
    for name in shares if site is None else [site]:
        with fixed_seed(seed):  # the same fixed draw in every panel
            images[name] = layer_samples(run.model, name, _count(count), run.guide, x).cpu()
    about = "a draw of the others fixed" if image is None else f"the others fixed at the code of test datum {image}"
    which = (f"_{site}" if site else "") + ("" if image is None else f"_image{image}")
    path = run.directory.path / "figures" / f"layers{which}.png"
    figures.save(panels.layer_panels(run, images, shares, about), path)
    values = {"share": {name: asdict(shares[name]) for name in sorted(shares)}, "outer": outer, "inner": inner, "seed": seed}
    run.directory.write_json("eval/layers.json", values)
    text = [
        "Share of the variance of E[x|z] that is left when all other layers' noise is fixed, averaged over that noise",
        "(total Sobol index; where layers interact the shares add up to more than one):",
    ]
    text += [f"  {name}  {d['share']:.4f} +- {d['stderr']:.4f}" for name, d in values["share"].items()]
    return {"figures": [str(path)], **values, "text": "\n".join([*text, *_named([path])])}


def draw_layer_grids(run: OpenRun, cells: int, reach: float, seed: int, image: int | None, site: str | None) -> dict[str, Any]:
    """What each 2-d layer's noise does to x, systematically: a panel a layer, from the bottom up.

    Arguments:
        image: fix the other layers at the code of this test datum instead of drawing them anew for every cell.
        site: draw only this layer's panel.
    """
    x = None if image is None else _test_datum(run, image, seed)
    with fixed_seed(seed):
        every, planes = sample_noise(run.model, 1), grid_layers(run.model, site)
    images = {}
    for name in reversed(planes):
        with fixed_seed(seed):
            images[name] = layer_grid(run.model, name, cells, reach, run.guide, x).cpu()
    about = "the others drawn anew for every cell" if image is None else f"the others at the code of test datum {image}"
    which = (f"_{site}" if site else "") + ("" if image is None else f"_image{image}")
    path = run.directory.path / "figures" / f"layer_grid{which}.png"
    figures.save(panels.grid_panels(run, images, reach, about), path)
    left = {} if site else {name: value.numel() for name, value in every.items() if name not in planes}
    text = [f"Left out: {name}, which has {size} dimensions (a grid explores two)." for name, size in left.items()]
    values = {"layers": list(images), "left_out": left, "cells": cells, "reach": reach, "seed": seed}
    return {"figures": [str(path)], **values, "text": "\n".join([*text, *_named([path])])}


def draw_traversals(
    runs: Sequence[OpenRun], image: int = 0, seed: int = 0, picture: Path | None = None, **options: Any
) -> dict[str, Any]:
    """x as one latent dimension at a time varies around the code of a test datum: a panel a run, a row a dimension in use.

    Arguments:
        image: which test datum. seed: of the test data taken for the variances, and of the draws there.
        picture: the file to draw into; default figures/traversals.png of the first run.
        options: reach, steps, most and draws of `traverse`.

    Raises:
        ConfigError: for runs of different data, an image that there is none of, a name of another kind of file, and as
            `traverse`, naming the run.
    """
    path, first = place(runs, picture, "traversals.png"), runs[0]
    x, data, found = _test_datum(first, image, seed), random_subset(first.dataset.test, POINTS, seed).x, []
    for run in runs:
        try:
            one = traverse(run.model, run.guide, x.to(run.device), data.to(run.device), seed=seed, **options)
        except ConfigError as error:
            raise ConfigError(f"{run.directory.path}: {error}") from error
        found.append(one)
    figures.save(traversal_panels(runs, found, f"test datum {image}"), path)
    values, text = [], [f"Latent dimensions by the variance of their posterior means over {len(data)} test data"]
    for run, one in zip(runs, found, strict=True):
        about = called(run)
        values.append({**about, "rows": [asdict(unit) for unit in one.units], "dead": one.dead})
        text += [f"{about['name']} ({about['run']}):"]
        text += [f"  {unit.name:8s} {unit.variance:.4f}" for unit in one.units]
        text += [f"  dead and left out: {', '.join(f'{n} of {site}' for site, n in one.dead.items() if n) or 'none'}"]
    given = {"image": image, **options, "seed": seed, "data": len(data)}
    return {"figures": [str(path)], **given, "runs": values, "text": "\n".join([*text, *_named([path])])}


def _test_datum(run: OpenRun, image: int, seed: int) -> Tensor:
    """One test datum (1, *event) on the run's device; `seed` is that of data binarised anew whenever they are read."""
    test = run.dataset.test.x
    if not 0 <= image < len(test):
        raise ConfigError(f"--image is the index of one of the {len(test)} test data, got {image}.")
    with fixed_seed(seed):
        return test[image : image + 1].to(run.device)


def _named(paths: list[Any]) -> list[str]:
    return [f"Picture: {path}" for path in paths]
