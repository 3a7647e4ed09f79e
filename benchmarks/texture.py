"""Global VAE against Standard VAE on textured triangles: position and size read off their codes, and the paper's ablations.

    python -m benchmarks.texture                                # all variants, three seeds, two runs at a time
    python -m benchmarks.texture --variants global standard     # figure 11 alone

Equal images, codes of 16, networks, batches, learning rate and steps for both (see the presets of `texture` and `vae` on
triangles). Errors are root mean squares on 2,000 fresh test images: position in pixels of 64, size in per cent (the square
root of the triangle's share of the frame), each beside what the image's mean colour and a constant guess reach. Trains by
the command line (finished runs are kept) and writes benchmarks/results/texture.json.
"""

import json
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.common import arguments, flags, measured, over_seeds, save, trained
from pyro_hvae.plots.figure_base import BLUE, ORANGE

GLOBAL, STANDARD = ["texture", "--dataset", "triangles"], ["vae", "--dataset", "triangles"]
# End to end a step costs ten times as much, and degenerates in few: 250 of them, of 16 images.
JOINT = ["--batch-size", "16", "--steps", "12250", *flags(["texture_share=0.979592"])]
VARIANTS = {
    "global": GLOBAL,
    "standard": STANDARD,
    "standard, twice the steps": [*STANDARD, "--steps", "3000"],
    "patches side by side": [*GLOBAL, *flags(["overlap=false", "patch=8"])],
    "end to end": [*GLOBAL, *JOINT, *flags(["joint=features"])],
    "end to end, pixels": [*GLOBAL, *JOINT, *flags(["joint=pixels"])],
}
# The paper's second challenge, and textures that nothing tells the place of: on the first seed alone, unless asked for by name.
CHALLENGES = {
    **{
        f"{name}, {side}": [*recipe, *flags(options)]
        for name, options in {
            "shifted textures": ["shifted=true"],
            "one texture": ["count=1"],
            "checkerboard": ["names=checkerboard"],
            "low contrast": ["names=faint"],
        }.items()
        for side, recipe in (("global", GLOBAL), ("standard", STANDARD))
    },
}
TRAIN = 4_000  # images that the probe learns from: those of the run


def measure(variant: str, seed: int, runs: Path) -> dict[str, Any]:
    out = runs / f"{variant.replace(', ', '-').replace(' ', '_')}-seed{seed}"
    seconds = trained(out, *(VARIANTS | CHALLENGES)[variant], "--seed", str(seed))
    found = measured(out, "regression", "-o", f"train={TRAIN}")
    row: dict[str, Any] = {"variant": variant, "seed": seed, "cpu_seconds": seconds}
    row |= {f"{kind}.{name}": found[kind][name] for kind in ("rmse", "mae") for name in ("position", "size")}
    for control, errors in found["controls"].items():
        row |= {f"{control}.{name}": errors["rmse"][name] for name in ("position", "size")}
    if variant.startswith("end to end"):
        checked = measured(out, "degeneracy")
        row |= {key: checked[key] for key in ("variance", "pretrained", "ratio", "rate", "degenerate")}
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds with their standard deviations."""
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == variant]
        line: dict[str, Any] = {"variant": variant, "seeds": len(mine)}
        shown = {"position": "rmse.position", "size": "rmse.size", "by colour": "mean_colour.position"}
        shown |= {"by nothing": "constant.position"}
        for name, key in shown.items():
            values = [row[key] for row in mine]
            line[name] = f"{statistics.fmean(values):.3g}" + (f" +- {statistics.stdev(values):.2g}" if len(values) > 1 else "")
        line["degenerate"] = (
            " ".join(f"{row['ratio']:.1e}{'!' if row['degenerate'] else ''}" for row in mine if "ratio" in row) or None
        )
        line["CPU s"] = round(statistics.fmean(row["cpu_seconds"] for row in mine))
        lines.append(line)
    return lines


def figure(rows: list[dict[str, Any]]) -> Figure:
    """Figure 11 of the paper: each run's error, the means, and what the colour and a constant guess reach."""
    names = [name for name in dict.fromkeys(row["variant"] for row in rows) if name in VARIANTS]
    drawn = Figure(figsize=(10, 0.45 * len(names) + 1.6), dpi=110, layout="constrained")
    drawn.suptitle("Position and size of triangles read off the code (Sahoo 2020, figure 11)", fontsize=11)
    for axis, kind, unit in zip(
        drawn.subplots(1, 2, sharey=True), ("position", "size"), ("pixels of 64", "per cent"), strict=True
    ):
        for place, name in enumerate(names):
            values = [row[f"rmse.{kind}"] for row in rows if row["variant"] == name]
            axis.plot(values, [place] * len(values), "o", color=BLUE, alpha=0.6, label=None if place else "a run")
            axis.plot(
                [statistics.fmean(values)] * 2, [place - 0.3, place + 0.3], color="black", label=None if place else "mean"
            )
        for control, label, style in (("mean_colour", "mean colour alone", "--"), ("constant", "constant guess", ":")):
            axis.axvline(rows[0][f"{control}.{kind}"], color=ORANGE, linestyle=style, label=label)
        axis.set(xscale="log", xlabel=f"RMS error ({unit}, log scale), lower is better", title=kind)
        axis.set_yticks(range(len(names)), names)
        axis.grid(alpha=0.3)
    drawn.axes[0].invert_yaxis()
    drawn.legend(*drawn.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return drawn


def main() -> None:
    parser = arguments(__doc__, "texture", "0-2")
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS, *CHALLENGES])
    parser.add_argument("--picture", type=Path, metavar="FILE.png")
    args = parser.parse_args()

    from pyro_hvae.reports import format_table

    with ProcessPoolExecutor(args.jobs) as pool:  # processes, so that each counts its own children's CPU time
        jobs = over_seeds(args.variants or VARIANTS, args.seeds)
        jobs += [] if args.variants else over_seeds(CHALLENGES, "-".join(args.seeds.split("-")[:1] * 2))
        made = [pool.submit(measure, name, seed, args.runs) for name, seed in jobs]
        rows = [future.result() for future in made]
    summary = summarise(rows)
    print(format_table(summary))
    save(args.save, {"summary": summary, "runs": rows})
    if args.picture:
        figure(rows).savefig(args.picture)


if __name__ == "__main__":
    main()
