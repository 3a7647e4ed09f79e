"""Figures of Gibbs chains: their samples beside ancestral ones, and their states step by step."""

import math

import numpy as np
from matplotlib.figure import Figure

from pyro_hvae.evaluation import GibbsReport, proposition_note
from pyro_hvae.plots.figure_base import new_figure, run_name
from pyro_hvae.plots.image_grid import draw_image_grid, strips_height
from pyro_hvae.plots.layer_figures import draw_image_panel
from pyro_hvae.plots.vector_scale import find_scale
from pyro_hvae.runs import OpenRun

SHOWN = 64  # samples in a panel


def plot_gibbs_samples(run: OpenRun, report: GibbsReport) -> Figure:
    """Figure 2 of Zhao et al. 2017: E[x | z] of the last states of 64 chains beside 64 ancestral samples."""
    values, sites = report.values, ", ".join(report.chains.sites)
    shown = run.images(max(report.chains.mean[-1][:SHOWN], report.ancestral[:SHOWN], key=len).cpu())
    height = 1.2 + strips_height(len(shown), find_scale(run, shown)) if shown.dim() == 2 else 6.1
    figure = new_figure(11, height, f"Samples of {run_name(run)}")
    left, right = np.asarray(figure.subfigures(1, 2))

    def distance(name: str) -> str:
        d = values["distance"][name]["means"]
        if math.isnan(d["value"]):
            return f"{values['diverged']} of {values['chains']} chains diverged"
        return f"energy distance of E[x|z], as shown, to test data {d['value']:.3f} $\\pm$ {d['stderr']:.3f}"

    corrected = f", guide resampled among {values['particles']}" if values["particles"] > 1 else ""
    title = f"Gibbs chains on {sites}{proposition_note(values)}, step {values['steps']}{corrected}"
    draw_image_panel(left, run, report.chains.mean[-1][:SHOWN].cpu(), f"{title}\n{distance('gibbs')}")
    ancestral = f"Ancestral sampling of all layers\n{distance('ancestral')}"
    draw_image_panel(right, run, report.ancestral[:SHOWN], ancestral)
    return figure


def plot_gibbs_chains(run: OpenRun, report: GibbsReport) -> Figure:
    """E[x | z] of the first chains during their run: a row for each chain, a column for each step."""
    trail, steps = report.chains.trail.cpu(), report.chains.trail_steps
    chains = trail.shape[1]
    title = f"E[x|z] along Gibbs chains on {', '.join(report.chains.sites)}\n{run_name(run)}"
    figure = new_figure(0.75 * len(steps) + 0.6, 0.75 * chains + 1.1, title)
    above, beside = [f"step {s}" if s else "start" for s in steps], [f"chain {i + 1}" for i in range(chains)]
    images = run.images(trail.transpose(0, 1).flatten(0, 1))
    draw_image_grid(figure.subplots(), images, len(steps), above, beside, find_scale(run, images))
    return figure
