"""Position and size of textured triangles, read off the codes of a Global and a Standard VAE, with the paper's ablations.

    python -m benchmarks.texture                                # all variants, three seeds; about an hour on two cores
    python -m benchmarks.texture --variants global standard     # figure 11 alone

Both VAEs have equal images, codes of 16, networks, batches, learning rate and steps (see the presets of `texture` and `vae`
on triangles). Errors are root mean squares on 2,000 fresh test images: position in pixels of 64, size in per cent (the square
root of the triangle's share of the frame). The errors of the image's mean colour and of a constant guess stand beside them.
Trains by the command line; finished runs are kept. Writes benchmarks/results/texture.json.
"""

import statistics
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import studies
from pyro_hvae.plots.figure_base import BLUE, ORANGE

GLOBAL, STANDARD = ["texture", "--dataset", "triangles"], ["vae", "--dataset", "triangles"]
# End to end, a step costs ten times as much and few steps degenerate: 250 of them, of 16 images.
JOINT = ["--batch-size", "16", "--steps", "12250", *studies.flags(["texture_share=0.979592"])]
VARIANTS = {
    "global": GLOBAL,
    "standard": STANDARD,
    "standard, twice the steps": [*STANDARD, "--steps", "3000"],
    "patches side by side": [*GLOBAL, *studies.flags(["overlap=false", "patch=8"])],
    "end to end": [*GLOBAL, *JOINT, *studies.flags(["joint=features"])],
    "end to end, pixels": [*GLOBAL, *JOINT, *studies.flags(["joint=pixels"])],
}
# The paper's other challenges, and textures that are shifted at random. They run on the first seed alone, unless asked for.
CHALLENGES = {
    f"{name}, {side}": [*recipe, "-o", option]
    for name, option in {
        "shifted textures": "shifted=true",
        "one texture": "count=1",
        "checkerboard": "names=checkerboard",
        "low contrast": "names=faint",
    }.items()
    for side, recipe in (("global", GLOBAL), ("standard", STANDARD))
}
TRAIN = 4_000  # images that the probe is fitted to: the run's own training images


def measure(args: studies.Args, variant: str, seed: int) -> studies.Row:
    out = args.runs / f"{variant.replace(', ', '-').replace(' ', '_')}-seed{seed}"
    seconds = studies.train(out, *(VARIANTS | CHALLENGES)[variant], "--seed", str(seed))
    found = studies.run_metric(out, "regression", "-o", f"train={TRAIN}")
    row: studies.Row = {"variant": variant, "seed": seed, "cpu_seconds": seconds}
    row |= {f"{kind}.{name}": found[kind][name] for kind in ("rmse", "mae") for name in ("position", "size")}
    for control, errors in found["controls"].items():
        row |= {f"{control}.{name}": errors["rmse"][name] for name in ("position", "size")}
    if variant.startswith("end to end"):
        degeneracy = studies.run_metric(out, "degeneracy")
        row |= {key: degeneracy[key] for key in ("variance", "pretrained", "ratio", "rate", "degenerate")}
    return row


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    """Means over seeds with their standard deviations."""
    columns = {"position": "rmse.position", "size": "rmse.size", "by colour": "mean_colour.position"}
    columns |= {"by nothing": "constant.position"}
    line: studies.Row = {"variant": rows[0]["variant"], "seeds": len(rows)}
    line |= {name: studies.mean_and_deviation([row[key] for row in rows], 3) for name, key in columns.items()}
    ratios = [f"{row['ratio']:.1e}{'!' if row['degenerate'] else ''}" for row in rows if "ratio" in row]
    return [line | {"degenerate": " ".join(ratios) or None, "CPU s": studies.mean_cpu_seconds(rows)}]


def figure(rows: list[studies.Row]) -> Figure:
    """Figure 11 of the paper: the error of each run, the means, and the errors of the mean colour and of a constant guess."""
    names = [name for name in dict.fromkeys(row["variant"] for row in rows) if name in VARIANTS]
    drawn = Figure(figsize=(10, 0.45 * len(names) + 1.6), dpi=110, layout="constrained")
    drawn.suptitle("Position and size of triangles read off the code (Sahoo 2020, figure 11)", fontsize=11)
    units = {"position": "pixels of 64", "size": "per cent"}
    for axis, (kind, unit) in zip(drawn.subplots(1, 2, sharey=True), units.items(), strict=True):
        for y, name in enumerate(names):
            values = [row[f"rmse.{kind}"] for row in rows if row["variant"] == name]
            axis.plot(values, [y] * len(values), "o", color=BLUE, alpha=0.6, label=None if y else "a run")
            axis.plot([statistics.fmean(values)] * 2, [y - 0.3, y + 0.3], color="black", label=None if y else "mean")
        for control, label, style in (("mean_colour", "mean colour alone", "--"), ("constant", "constant guess", ":")):
            axis.axvline(rows[0][f"{control}.{kind}"], color=ORANGE, linestyle=style, label=label)
        axis.set(xscale="log", xlabel=f"RMS error ({unit}, log scale), lower is better", title=kind)
        axis.set_yticks(range(len(names)), names)
        axis.grid(alpha=0.3)
    drawn.axes[0].invert_yaxis()
    drawn.legend(*drawn.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return drawn


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "texture", "0-2")
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS, *CHALLENGES])
    parser.add_argument("--picture", type=Path, metavar="FILE.png")
    args = parser.parse_args()
    jobs = studies.over_seeds(args.variants or VARIANTS, args.seeds)
    jobs += [] if args.variants else studies.over_seeds(CHALLENGES, "-".join(args.seeds.split("-")[:1] * 2))
    rows = studies.run_study(args, jobs, measure, summarise)
    if args.picture:
        figure(rows).savefig(args.picture)
