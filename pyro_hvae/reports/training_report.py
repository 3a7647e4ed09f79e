"""The report of a finished training: pictures, the metrics that belong to the data set, and text."""

from collections.abc import Mapping
from typing import Any

from pyro_hvae.errors import ConfigError
from pyro_hvae.evaluation import feature_state
from pyro_hvae.inference import likelihood_name
from pyro_hvae.reports.metric_report import SPACES
from pyro_hvae.reports.run_measurement import measure_metric
from pyro_hvae.runs import OpenRun, draw_given
from pyro_hvae.runtime import fixed_seed
from pyro_hvae.training import choose_validation


def report_training(run: OpenRun) -> dict[str, Any]:
    """Draws the standard pictures of a trained run, and measures its angle error on data with an angle."""
    from pyro_hvae.reports.run_pictures import draw_standard_pictures  # matplotlib takes a second

    files, left_out = draw_standard_pictures(run)
    report: dict[str, Any] = {"run": str(run.directory.path), "step": run.step, "figures": [str(path) for path in files]}
    report |= {"left_out": left_out} if left_out else {}
    if ending := run.directory.read_json("run.json").get("stopped_early"):
        report["stopped_early"] = ending
    final = run.directory.rows()[-1:]
    report |= {key: row[key] for row in final for key in ("elbo", "validation_elbo", "beta") if key in row}
    with fixed_seed(0):
        report |= {"likelihood": likelihood_name(run.objective.model, draw_given(run, 1)), "space": run.space}
    data, batch = run.dataset, run.experiment.train.batch_size
    report["bound_of"] = (
        f"{len(choose_validation(data.validation.x))} validation data"
        if "validation_elbo" in report
        else f"a batch of {min(batch, len(data.train))}"
    )
    if run.stage.pixels and run.stage.pixels.variance:
        report["features"] = feature_state(run)
    if "angle" in run.dataset.train.factors:
        try:
            report["angle"] = measure_metric(run, "angle")
        except ConfigError:
            pass  # a code of other than two dimensions has no polar angle; 'metrics RUN angle' says so
    return report


def training_text(report: Mapping[str, Any]) -> str:
    """The last lines of `train`: run, pictures, bound, and what was measured."""
    lines = [f"Run: {report['run']} (step {report['step']})"]
    lines += [report["stopped_early"]] if "stopped_early" in report else []
    lines += [f"Picture: {path}" for path in report["figures"]]
    lines += [f"No picture '{name}': {reason}" for name, reason in report.get("left_out", {}).items()]
    if "elbo" in report:
        bound = report["validation_elbo"] if "validation_elbo" in report else report["elbo"]
        of = SPACES.get(report["space"], f" of features ({report['space']})")
        how = f"{report['likelihood']}; {report['bound_of']}"
        lines.append(f"Bound: {bound:.3f} nats per datum{of} ({how}), beta {report['beta']:.3g}")
    if features := report.get("features"):
        of = f" ({features['images']} test images)" if "images" in features else ""
        lines.append(
            f"Features: variance over patches {features['ratio']:.2g} of what it was before they were trained, rate of their "
            f"code {features['rate']:.3g} nats per datum{of}"
        )
        if features["degenerate"]:
            lines.append(
                "  The run is degenerate: its features are constant, and so predicted without error by a code that says "
                "nothing. Train them first and hold them fixed (-o joint=none), or add the pixels' error (-o joint=pixels)."
            )
    if angle := report.get("angle"):
        paper = f" (paper: {angle['paper']} rad)" if angle["paper"] else ""
        lines.append(f"Angle error: {angle['mae_rad']:.4f} rad on held-out images{paper}")
    return "\n".join(lines)
