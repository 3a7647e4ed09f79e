"""Pictures of opened runs: each function draws one kind into files, and returns their paths with what they show."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from pyro_hvae.data import Batch
from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation import discontinuities, graph_paths, largest_jump, random_subset
from pyro_hvae.inference import Interpolation, traverse
from pyro_hvae.plots import (
    FEATURES,
    FULL,
    check_picture_path,
    describe_jump,
    has_information,
    plot_information_flow,
    plot_interpolation,
    plot_latent_space,
    plot_reconstructions,
    plot_samples,
    plot_training,
    plot_traversals,
    reconstruct_test_data,
    run_name,
    save_figure,
)
from pyro_hvae.runs import OpenRun, describe_given, describe_values, parse_given
from pyro_hvae.runtime import fixed_seed

TRAVERSAL_DATA = 10_000  # test data over which the variances of a traversal's dimensions are taken


def draw_standard_pictures(run: OpenRun) -> tuple[list[Path], dict[str, str]]:
    """Draws the standard pictures of a run into its figures folder; those that fail cost a finished run nothing but themselves.

    Returns:
        The files, and the reason for each picture that was left out.
    """
    rows, paths = run.directory.rows(), dict[str, Interpolation]()
    with contextlib.suppress(Exception):  # where the prior connects no ends, the latent space can still be drawn
        paths = graph_paths(run)
    pictures: dict[str, Callable[[], Mapping[str, Any]]] = {
        "training": lambda: plot_training(run, rows) if rows else {},
        "information_flow": lambda: (
            {"information_flow": plot_information_flow(rows, f"Information flow of {run_name(run)}")}
            if has_information(rows)
            else {}
        ),
        "latent_space": lambda: {"latent_space": plot_latent_space(run, paths)},
        "interpolation": lambda: {"interpolation": plot_interpolation(run, paths)} if paths else {},
        "reconstructions": lambda: {"reconstructions": plot_reconstructions([run], reconstruct_test_data([run]))},
        "samples": lambda: {"samples": plot_samples(run)},
    }
    files, left_out = list[Path](), dict[str, str]()
    for name, draw in pictures.items():
        try:
            files += save_figures(run, draw())
        except Exception as error:
            left_out[name] = f"{type(error).__name__}: {error}"
    return files, left_out


def draw_interpolation(
    run: OpenRun,
    nodes: int,
    k: int,
    seed: int,
    first: int | None,
    second: int | None,
    given: Mapping[str, str] | None = None,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Draws the data along the shortest paths of a graph of prior samples, and the graph.

    Arguments:
        given: values of conditions as typed, of the prior and of the decoder.
        picture: as in `save_figures`.

    Raises:
        ConfigError: when only one end is given, and as `parse_given`, `graph_paths` and `save_figures`.
        DataError: when the ends cannot be connected.
    """
    if (first is None) != (second is None):
        raise ConfigError("--from and --to go together: give both or neither.")
    ends = None if first is None or second is None else (first, second)
    if nodes < 2:
        raise ConfigError(f"--nodes must be at least 2, got {nodes}.")
    under = parse_given(run, given or {})
    paths = graph_paths(run, nodes, k, seed, ends, under)
    figures = {"interpolation": plot_interpolation(run, paths), "latent_space": plot_latent_space(run, paths, given=under)}
    rows = [
        {
            "path": name,
            "k": one.path.neighbours,
            "points": len(one.path.points),
            "length": one.path.length,
            **largest_jump(run, one.dense),
            "discontinuities": len(discontinuities(one.dense)),
        }
        for name, one in paths.items()
    ]
    lines = [
        f"{name}: {len(one.path.points)} points of the {one.path.neighbours}-NN graph, length {one.path.length:.4g} in latent "
        f"space; {describe_jump(largest_jump(run, one.dense), run.dataset.space)}; {row['discontinuities']} discontinuities"
        for (name, one), row in zip(paths.items(), rows, strict=True)
    ]
    missing = [name for name in run.dataset.ends if not ends and name not in paths]
    lines += [f"path {name}: not connected by {nodes} prior samples" for name in missing]
    report = picture_report(save_figures(run, figures, picture), [], nodes=nodes, paths=rows)
    return report | {"text": "\n".join([report["text"], *lines])}


def draw_samples(
    run: OpenRun, count: int, seed: int, picture: Path | None = None, given: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Draws a grid of samples into a file; default figures/samples.png of the run.

    Arguments:
        given: values of conditions as typed; others are those of random training data.

    Raises:
        ConfigError: for a count below one, a file name that is no picture's, and as `parse_given`.
    """
    file, values = _shared_picture([run], picture, "samples.png"), parse_given(run, given or {})
    figure, about = plot_samples(run, require_count(count), seed, values), describe_given(run, values)
    return picture_report(
        [save_figure(figure, file)], [f"Samples {about}"] if about else [], n=count, **({"given": about} if about else {})
    )


def draw_reconstructions(
    runs: Sequence[OpenRun], count: int, picture: Path | None = None, given: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Draws test data above their reconstructions by each run, and by the features alone of a run on features.

    Arguments:
        picture: the file to draw into; default figures/reconstructions.png of the first run.
        given: values of conditions as typed, under which the codes are decoded instead of the data's own.

    Raises:
        ConfigError: for runs of different data, a count below one, a file name that is no picture's, and as `parse_given`.
    """
    file, under = _shared_picture(runs, picture, "reconstructions.png"), [parse_given(run, given or {}) for run in runs]
    reconstructions = reconstruct_test_data(runs, require_count(count), under)
    save_figure(plot_reconstructions(runs, reconstructions), file)
    n = len(reconstructions[0].data)
    values, lines = [], [f"Reconstructions at the posterior means of {n} test data"]
    for run, one in zip(runs, reconstructions, strict=True):
        features = {"features_rmse": one.rmse[FEATURES]} if FEATURES in one.rmse else {}
        space = {} if one.space == "data" else {"space": one.space}
        space |= {"given": one.under} if one.under else {}
        values.append({**_identify(run), "rmse": one.rmse[FULL], **features, **space})
        lines.append(f"{run_name(run)} ({run.directory.path}): {one}")
    return picture_report([file], lines, n=n, runs=values)


def draw_traversals(
    runs: Sequence[OpenRun],
    image: int = 0,
    seed: int = 0,
    picture: Path | None = None,
    given: Mapping[str, str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Draws x as one latent dimension at a time varies around the code of a test datum; a row for each dimension in use.

    Arguments:
        image: the index of the test datum. seed: of the choice of test data for the variances, and of the draws there.
        picture: the file to draw into; default figures/traversals.png of the first run.
        given: values of conditions as typed, under which the codes are decoded instead of the datum's own.
        options: reach, steps, most and draws of `traverse`.

    Raises:
        ConfigError: for runs of different data, an index out of range, a file name that is no picture's, and as `traverse`,
            with the run's path.
    """
    file, traversals, about, count = _shared_picture(runs, picture, "traversals.png"), [], f"test datum {image}", 0
    for run in runs:
        x, data = pick_test_datum(run, image, seed), random_subset(run.dataset.test, TRAVERSAL_DATA, seed).x
        under, count = parse_given(run, given or {}), len(data)
        about = f"test datum {image}" + (f" under {describe_values(run, under)}" if under else "")
        try:
            one = traverse(run.model, run.guide, x, data.to(run.device), seed=seed, under=under, **options)
        except ConfigError as error:
            raise ConfigError(f"{run.directory.path}: {error}") from error
        traversals.append(one)
    save_figure(plot_traversals(runs, traversals, about), file)
    values, lines = [], [f"Latent dimensions by the variance of their posterior means over {count} test data"]
    for run, one in zip(runs, traversals, strict=True):
        values.append({**_identify(run), "rows": [asdict(unit) for unit in one.units], "dead": one.dead, "hidden": one.hidden})
        lines += [f"{run_name(run)} ({run.directory.path}):"]
        lines += [f"  {unit.name:8s} {unit.variance:.4f}" for unit in one.units]
        lines += [f"  {one.describe_left_out()}"]
    return picture_report(
        [file], lines, image=image, **options, **({"given": dict(given)} if given else {}), seed=seed, data=count, runs=values
    )


def save_figures(run: OpenRun, figures: Mapping[str, Any], picture: Path | None = None) -> list[Path]:
    """Writes figures by name into the folder of a run's pictures.

    Arguments:
        picture: a file for the first of them instead; the others go beside it, with their names at the end of its own.

    Raises:
        ConfigError: for a file name that is no picture's.
    """
    if picture is None:
        return [save_figure(figure, run.directory.results / "figures" / f"{name}.png") for name, figure in figures.items()]
    check_picture_path(picture)
    files = [picture, *(picture.with_stem(f"{picture.stem}_{name}") for name in [*figures][1:])]
    return [save_figure(figure, file) for figure, file in zip(figures.values(), files, strict=True)]


def picture_report(files: Iterable[Path], lines: Iterable[str], /, **values: Any) -> dict[str, Any]:
    """The files of pictures, values, and their text: the lines, then one for each picture."""
    names = [str(file) for file in files]
    return {"figures": names, **values, "text": "\n".join([*lines, *(f"Picture: {name}" for name in names)])}


def require_count(count: int) -> int:
    """Returns a number of images, or raises `ConfigError` if it is below one."""
    if count < 1:
        raise ConfigError(f"--n must be at least 1, got {count}.")
    return count


def pick_test_datum(run: OpenRun, image: int, seed: int) -> Tensor | Batch:
    """One test datum (1, *event), with what stands beside it, on the run's device.

    Arguments:
        seed: of data that are binarised anew at every reading.
    """
    test = run.dataset.test.x
    if not 0 <= image < len(test):
        raise ConfigError(f"--image is the index of one of the {len(test)} test data, got {image}.")
    with fixed_seed(seed):
        return test[image : image + 1].to(run.device)


def _identify(run: OpenRun) -> dict[str, str]:
    return {"run": str(run.directory.path), "name": run_name(run)}


def _shared_picture(runs: Sequence[OpenRun], picture: Path | None, name: str) -> Path:
    """The file into which several runs are drawn: the given one, or the one of this name in the first run's figures.

    Raises:
        ConfigError: for a file name that is no picture's, and for runs of different data.
    """
    if picture:
        check_picture_path(picture)
    first, *others = runs
    for other in others:
        if _describe_data(other) != _describe_data(first):
            raise ConfigError(
                f"runs side by side show the same test data, but {first.directory.path} has other data "
                f"({_describe_data(first)}) than {other.directory.path} ({_describe_data(other)}). Draw them one by one."
            )
    return picture or first.directory.results / "figures" / name


def _describe_data(run: OpenRun) -> str:
    """Name, options, identity and shape of a run's data as they are now: what a run recorded depends on its version."""
    e, data = run.experiment, run.dataset
    shape = f"shape {' x '.join(map(str, data.shape))}"  # without the columns that are given beside x
    return ", ".join(
        [e.dataset, *(f"{k}={v}" for k, v in sorted(e.data_options.items())), *filter(None, [data.identity]), shape]
    )
