"""Draws one kind of picture of an opened run on request, and says where it is and what it shows."""

from typing import Any

from pyro_hvae import figures
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation import largest_jump, path_between
from pyro_hvae.experiments import OpenRun

__all__ = ["draw_interpolation", "draw_reconstructions", "draw_samples"]


def _count(count: int) -> int:
    if count < 1:
        raise ConfigError(f"--n must be at least 1, got {count}.")
    return count


def draw_interpolation(run: OpenRun, nodes: int, k: int, seed: int, first: int | None, second: int | None) -> dict[str, Any]:
    """The graph and the strip of images along its shortest path.

    Raises:
        ConfigError: when only one end is given. DataError: when the ends cannot be connected.
    """
    if (first is None) != (second is None):
        raise ConfigError("--from and --to go together: give both or neither.")
    ends = None if first is None or second is None else (first, second)
    if nodes < 2:
        raise ConfigError(f"--nodes must be at least 2, got {nodes}.")
    found = path_between(run, nodes, k, seed, ends)
    folder = run.directory.path / "figures"
    paths = [
        figures.save(figures.latent_space(run, found), folder / "latent_space.png"),
        figures.save(figures.path_strip(run, found), folder / "interpolation.png"),
    ]
    jump = largest_jump(run, found.dense)
    values = {"nodes": nodes, "k": found.path.neighbours, "points": len(found.path.points), "length": found.path.length, **jump}
    text = [f"Picture: {path}" for path in paths]
    text += [", ".join(f"{key} {value:.4g}" for key, value in values.items())]
    return {"figures": [str(p) for p in paths], **values, "text": "\n".join(text)}


def draw_samples(run: OpenRun, count: int, seed: int) -> dict[str, Any]:
    """A grid of samples."""
    path = figures.save(figures.samples(run, _count(count), seed), run.directory.path / "figures" / "samples.png")
    return {"figures": [str(path)], "n": count, "text": f"Picture: {path}"}


def draw_reconstructions(run: OpenRun, count: int) -> dict[str, Any]:
    """Test data above reconstructions."""
    path = run.directory.path / "figures" / "reconstructions.png"
    figures.save(figures.reconstructions(run, min(_count(count), len(run.dataset.test))), path)
    return {"figures": [str(path)], "n": count, "text": f"Picture: {path}"}
