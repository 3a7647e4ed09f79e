"""The report of the layers of a hierarchy: pictures of the noise of each layer, and its share of the variance."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from pyro_hvae.data import Batch
from pyro_hvae.inference import LEAST_BLOCKS, NotEstimable, grid_layers, layer_grid, layer_samples, layer_shares, sample_noise
from pyro_hvae.objectives import given_for
from pyro_hvae.plots import plot_layer_grids, plot_layer_samples
from pyro_hvae.reports.run_pictures import pick_test_datum, picture_report, require_count, save_figures
from pyro_hvae.runs import OpenRun, describe_given, describe_values, draw_given, parse_given
from pyro_hvae.runtime import fixed_seed


def draw_layers(
    run: OpenRun,
    count: int,
    seed: int,
    image: int | None,
    site: str | None,
    outer: int,
    inner: int,
    given: Mapping[str, str] | None = None,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Draws samples of the noise of each layer with the others fixed; keeps the shares of the variance in eval/layers.json.

    Arguments:
        image: fix the other layers at the code of this test datum. site: draw only this layer's panel.
        given: values of conditions as typed. Others are in shares those of random training data, and in a picture those of the
            test datum, or of one random training datum. picture: as in `save_figures`.
    """
    typed = parse_given(run, given or {})
    x, one = _choose(run, image, seed, typed)
    shares, refusal = {}, None
    with fixed_seed(seed):
        try:
            # As many conditions as there are blocks of draws or more: the standard error is then one over conditions, too.
            shares = layer_shares(run.model, outer, inner, given=draw_given(run, max(LEAST_BLOCKS, outer * inner), typed))
        except NotEstimable as error:
            refusal = str(error)
        sites = [site] if site else list(sample_noise(run.model, 1, given=one))
    images, beside = {}, {"given": one} if x is None else {"under": one}
    for name in sites:
        with fixed_seed(seed):  # the same fixed draw in every panel
            images[name] = layer_samples(run.model, name, require_count(count), run.guide, x, **beside).cpu()
    about = "a draw of the others fixed" if image is None else f"the others fixed at the code of test datum {image}"
    about += f", {describe_values(run, one)}" if one else ""
    files = save_figures(run, {f"layers{_suffix(site, image)}": plot_layer_samples(run, images, shares, about)}, picture)
    values = {"share": {name: asdict(shares[name]) for name in sorted(shares)}, "outer": outer, "inner": inner, "seed": seed}
    values |= {"not_estimable": refusal} if refusal else {}
    values |= {"given": about_given} if (about_given := describe_given(run, typed)) else {}
    run.directory.write_json("eval/layers.json", values)
    lines = (
        [f"No shares: {refusal}"]
        if refusal
        else [
            "Share of the variance of E[x|z] that is left when all other layers' noise is fixed, averaged over that noise",
            "(total Sobol index; where layers interact the shares add up to more than one):",
            *([f"({about_given}, which does not vary within a draw)"] if about_given else []),
            *(f"  {name}  {d['share']:.4f} +- {d['stderr']:.4f}" for name, d in values["share"].items()),
        ]
    )
    return picture_report(files, lines, **values)


def draw_layer_grids(
    run: OpenRun,
    cells: int,
    reach: float,
    seed: int,
    image: int | None,
    site: str | None,
    given: Mapping[str, str] | None = None,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Draws a panel for each layer of two dimensions, from the bottom up, with the noise of that layer on a grid.

    Arguments:
        image, site, given, picture: as in `draw_layers`; without an image the other layers are drawn anew for every cell.
    """
    x, one = _choose(run, image, seed, parse_given(run, given or {}))
    with fixed_seed(seed):
        noise, planes = sample_noise(run.model, 1, given=one), grid_layers(run.model, site, one)
    images, beside = {}, {"given": one} if x is None else {"under": one}
    for name in reversed(planes):
        with fixed_seed(seed):
            images[name] = layer_grid(run.model, name, cells, reach, run.guide, x, **beside).cpu()
    about = "the others drawn anew for every cell" if image is None else f"the others at the code of test datum {image}"
    about += f", {describe_values(run, one)}" if one else ""
    files = save_figures(run, {f"layer_grid{_suffix(site, image)}": plot_layer_grids(run, images, reach, about)}, picture)
    left_out = {} if site else {name: value.numel() for name, value in noise.items() if name not in planes}
    lines = [f"Left out: {name}, which has {size} dimensions (a grid explores two)." for name, size in left_out.items()]
    return picture_report(files, lines, layers=list(images), left_out=left_out, cells=cells, reach=reach, seed=seed)


def _choose(
    run: OpenRun, image: int | None, seed: int, typed: Mapping[str, Tensor]
) -> tuple[Tensor | Batch | None, dict[str, Tensor]]:
    """A test datum, if any, and the conditions of a picture, one row each."""
    x = None if image is None else pick_test_datum(run, image, seed)
    with fixed_seed(seed):
        return x, draw_given(run, 1, typed) if x is None else {**given_for(run.model, x), **typed}


def _suffix(site: str | None, image: int | None) -> str:
    """The end of a picture's name: which layer it shows, and at which test datum."""
    return (f"_{site}" if site else "") + ("" if image is None else f"_image{image}")
