"""The report of Gibbs chains on a run: pictures, values kept in eval/gibbs.json, and text."""

import math
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pyro_hvae.evaluation import proposition_note, sample_by_gibbs
from pyro_hvae.plots import plot_gibbs_chains, plot_gibbs_samples
from pyro_hvae.reports.run_pictures import picture_report, save_figures
from pyro_hvae.runs import OpenRun


def draw_gibbs(run: OpenRun, steps: int, picture: Path | None = None, **options: Any) -> dict[str, Any]:
    """Draws the samples of `sample_by_gibbs` beside ancestral ones, and the chains; measures distances and diagnostics.

    Arguments:
        picture: as in `save_figures`.
    """
    with tqdm(total=steps, unit="step", disable=None) as bar:
        report = sample_by_gibbs(run, steps=steps, progress=bar.update, **options)
    values = report.values
    run.directory.write_json("eval/gibbs.json", values)
    sites = "-".join(values["sites"])
    figures = {f"gibbs_{sites}": plot_gibbs_samples(run, report), f"gibbs_chains_{sites}": plot_gibbs_chains(run, report)}
    return picture_report(save_figures(run, figures, picture), [gibbs_text(values)], **values)


def gibbs_text(values: dict[str, Any]) -> str:
    """Chains, energy distances, and whether the chains have mixed, for people."""
    lines = [
        f"Gibbs chain on {', '.join(values['sites'])}{proposition_note(values)}: {values['chains']} chains from "
        f"{values['init']}, {values['steps']} steps, {values['burn_in']} of them burn-in"
        + (f"; guide resampled among {values['particles']} draws" if values["particles"] > 1 else "")
        + ("" if values["noise"] else "; without observation noise, which is not the chain of the propositions"),
        f"Energy distance to {values['samples']} test data   of draws x ~ p(x|z)   of means E[x|z]   (around 0: the same law)",
    ]
    for key, name in {"gibbs": "Gibbs chain", "ancestral": "ancestral sampling", "test": "other test data"}.items():
        draws, means = (values["distance"][key][kind] for kind in ("draws", "means"))
        both = ["none" if math.isnan(d["value"]) else f"{d['value']:8.4f} +- {d['stderr']:.4f}" for d in (draws, means)]
        lines.append(f"  {name:32s} {both[0]:>22s} {both[1]:>18s}")
    if values["diverged"]:
        lines.append(
            f"{values['diverged']} of {values['chains']} chains diverged: their states became NaN or infinite, or left "
            "the test data by more than 1000 standard deviations. So there is no distance, and no diagnostics. Start from data "
            "with fewer --steps, or evaluate another checkpoint (--checkpoint best)."
        )
    for site, d in values["diagnostics"].items() if not values["diverged"] else ():
        if d is None:
            lines.append(f"{site}: no diagnostics (they need at least four chains and four kept draws)")
        else:
            least, median, tail = (min(d[key], d["draws"]) for key in ("ess", "ess_median", "ess_tail"))
            lines.append(
                f"{site}: rank-normalised split R-hat at most {d['rhat']:.3f} (median {d['rhat_median']:.3f}), bulk and tail "
                f"effective sample size at least {least:.0f} (median {median:.0f}) and {tail:.0f} of {d['draws']} draws"
            )
        if d and d["rhat"] > 1.05:
            lines.append(
                f"  R-hat is above 1.05: the chains have not mixed in {site} and depend on their start (try more --steps)"
            )
    if "class_changed" in values:
        lines.append(
            f"Chains that ended nearest to another class than they began: {values['class_changed']:.0%} "
            f"(independent data: {values['class_changed_if_independent']:.0%})"
        )
    return "\n".join(lines)
