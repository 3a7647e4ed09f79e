"""Draws one kind of picture of an opened run on request, and says where it is and what it shows."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pyro_hvae import figures, journeys, panels
from pyro_hvae.devices import seeded
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.evaluation import discontinuities, largest_jump, paths_between
from pyro_hvae.experiments import OpenRun
from pyro_hvae.layers import layer_samples, layer_shares
from pyro_hvae.sampling import of_proposition, sample_by_gibbs

__all__ = ["draw_all", "draw_gibbs", "draw_interpolation", "draw_layers", "draw_reconstructions", "draw_samples"]


def _count(count: int) -> int:
    if count < 1:
        raise ConfigError(f"--n must be at least 1, got {count}.")
    return count


def draw_all(run: OpenRun) -> list[Path]:
    """The standard pictures of a run, into its figures folder; what cannot be drawn for this run is left out."""
    folder = run.directory.path / "figures"
    rows = run.directory.rows()
    kappa = run.experiment.schedule_options.get("kappa")
    drawn = {}
    if rows:
        drawn["training"] = figures.training_curves(rows, f"Training of {figures.run_name(run)}", kappa**2 if kappa else None)
    try:
        found = paths_between(run)
    except DataError:
        found = {}  # no ends connected through the prior: the latent space is still worth looking at
    drawn["latent_space"] = journeys.latent_space(run, found)
    if found:
        drawn["interpolation"] = journeys.path_strips(run, found)
    drawn["reconstructions"] = figures.reconstructions(run)
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
    found = paths_between(run, nodes, k, seed, ends)
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


def draw_reconstructions(run: OpenRun, count: int) -> dict[str, Any]:
    """Test data above reconstructions."""
    path = run.directory.path / "figures" / "reconstructions.png"
    figures.save(figures.reconstructions(run, min(_count(count), len(run.dataset.test))), path)
    return {"figures": [str(path)], "n": count, "text": f"Picture: {path}"}


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
        f"Gibbs chain on {', '.join(values['sites'])}{of_proposition(values)}: {values['chains']} chains from "
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
        lines.append(
            f"{site}: split R-hat at most {d['rhat']:.3f} (median {d['rhat_median']:.3f}), effective sample size at least "
            f"{d['ess']:.0f} (median {d['ess_median']:.0f}) of {d['draws']} draws"
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
    test = run.dataset.test.x
    if image is not None and not 0 <= image < len(test):
        raise ConfigError(f"--image is the index of one of the {len(test)} test data, got {image}.")
    x = None if image is None else test[image : image + 1].to(run.device)
    with seeded(seed):
        shares = layer_shares(run.model, outer, inner)
    images = {}
    for name in shares if site is None else [site]:
        with seeded(seed):  # the same fixed draw in every panel
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


def _named(paths: list[Any]) -> list[str]:
    return [f"Picture: {path}" for path in paths]
