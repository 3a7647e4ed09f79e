"""The directed graph of a model's sites, read from the program, and which sites a Gibbs chain may keep."""

from collections.abc import Callable, Collection
from typing import Any

import networkx as nx
import torch
from pyro.infer.inspect import get_dependencies
from torch import Tensor

from pyro_hvae.data import Batch, x_of
from pyro_hvae.errors import ConfigError, require_known
from pyro_hvae.objectives.given_inputs import given_for
from pyro_hvae.runtime import evaluation_mode


def site_graph(model: Callable[..., Any], x: Tensor | Batch) -> nx.DiGraph:
    """The directed graph of the model's sites, with an edge from every site to those that depend on it directly.

    Arguments:
        x: a few data of shape (B, *event); their values do not matter.
    """
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), evaluation_mode(model):
        given = given_for(model, x[:2])
        dependencies: Any = get_dependencies(model, (x_of(x[:2]),), given)["prior_dependencies"]
    graph = nx.DiGraph()
    graph.add_nodes_from(dependencies)
    graph.add_edges_from((up, down) for down, ups in dependencies.items() for up in ups if up != down)
    return graph


def parents(model: Callable[..., Any], x: Tensor | Batch, site: str = "x") -> list[str]:
    """The sites that `site` depends on directly, sorted by name: z1 for a Markov chain, all latents for a skip model."""
    return sorted(site_graph(model, x).predecessors(site))


def resolve_sites(model: Callable[..., Any], x: Tensor | Batch, sites: Collection[str] | str) -> tuple[str, ...]:
    """The names of the sites that a chain keeps, with "all" for every latent; `check_sites` checks them."""
    graph = site_graph(model, x)
    every = [name for name in graph if name != "x"]
    names = tuple(every) if sites == "all" else (sites,) if isinstance(sites, str) else tuple(dict.fromkeys(sites))
    check_sites(graph, names)
    return names


def check_sites(graph: nx.DiGraph, sites: Collection[str]) -> None:
    r"""Raises unless drawing x (and all other latents) ancestrally with `sites` held gives $p(x \mid z_S)$.

    Holding a site is an intervention. It equals conditioning if and only if x is d-separated from S once the arrows out of S
    are removed (the second rule of Pearl's do-calculus). That is true for z1 of a Markov chain and for all latents of any
    model; false for z1 of a model with a skip z2 -> x, where a kept z1 has information about the z2 that is drawn anew.

    Raises:
        ConfigError: for no site, an unknown one, or a set that is not valid, naming the sites to add.
    """
    latents = [name for name in graph if name != "x"]
    if not sites:
        raise ConfigError(f"no site to keep. Name some of {', '.join(latents)}, or 'all'.")
    for name in sites:
        require_known("latent site", name, latents)
    cut = graph.copy()
    cut.remove_edges_from(list(graph.out_edges(sites)))
    if not nx.is_d_separator(cut, set(sites), {"x"}, set()):
        missing = sorted(set(graph.predecessors("x")) - set(sites))
        raise ConfigError(
            f"a chain that keeps only {', '.join(sorted(sites))} would redraw x from the wrong distribution: x also depends on "
            f"{', '.join(missing)}, about which the kept sites carry information. Add {'it' if len(missing) == 1 else 'them'}: "
            f"sites {','.join(sorted({*sites, *missing}))}, or all."
        )
