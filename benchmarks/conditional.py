"""Conditional samples and codes of the digits: are the samples of the class that was asked for, and does a code keep its style?

    python -m benchmarks.conditional               # hvae and vae, three seeds; about six minutes on two cores

Trains a recipe on scikit-learn's digits with the class as a given input, and judges it by a support vector machine that never
saw the model (its own accuracy on test digits stands beside). `means` and `draws`: share of 2,000 samples, 200 a class, that it
assigns to the class that was asked for. `slant` and `ink`: codes of the test digits are decoded under each of the nine other
classes; the correlation of a stroke measure with that of the digit's own reconstruction, over the digits of every own class,
averaged over pairs of classes. `shuffled` is the same for codes of other digits of that class: the value of no style at all.
`changed`: share of these images that are of the new class. The settings were chosen on seed 0. Writes
benchmarks/results/conditional.json.
"""

import statistics

from benchmarks import studies

# Few units: what a code need not say about its class it does not say.
RECIPES = {"hvae": {"dims": (3, 3, 3)}, "vae": {"latent": 3, "sigma": 0.2, "squash": True}}
EACH = 200  # samples a class


def measure(args: studies.Args, name: str, seed: int) -> studies.Row:
    import time

    import torch
    from sklearn.svm import SVC

    import pyro_hvae as hv
    from pyro_hvae.data import condition_on, digits
    from pyro_hvae.metrics import STROKES

    torch.set_num_threads(1)
    data, (digit,) = condition_on(digits(), ["class"])
    start = time.process_time()
    torch.manual_seed(seed)
    (stage,) = hv.recipes.build(name, data.train.x.sample(), RECIPES[name])
    settings = hv.TrainConfig(steps=args.steps, batch_size=64, lr=1e-3, lr_decay=0.5, seed=seed)
    hv.fit(stage.objective, data.train.x, settings, hv.WarmUp(warmup=0.2), progress=False)
    model, guide = stage.objective.model, stage.objective.guide
    row: studies.Row = {"recipe": name, "seed": seed, "cpu_seconds": time.process_time() - start}

    judge = SVC(C=10.0)
    known = [data.train, data.validation]
    judge.fit(
        torch.cat([split.x.alone[:] for split in known]).flatten(1), torch.cat([split.factors["class"] for split in known])
    )

    def share(x: torch.Tensor, classes: torch.Tensor) -> float:
        return float(judge.score(x.clamp(0, 1).flatten(1).numpy(), classes.numpy()))

    own, x = data.test.factors["class"], data.test.x[:]
    row["judge"] = share(x.x, own)
    torch.manual_seed(seed)
    asked = torch.arange(digit.width).repeat_interleave(EACH)
    for kind, mean in (("means", True), ("draws", False)):
        drawn = hv.generate(model, len(asked), mean=mean, given={digit.key: digit.encode(asked)})
        row[kind] = share(drawn["x"], asked)
    under = [hv.reconstruct(model, guide, x, under={digit.key: digit.encode(torch.tensor([k]))}) for k in range(digit.width)]
    reconstructed = hv.reconstruct(model, guide, x)
    pairs = [(a, b) for a in range(digit.width) for b in range(digit.width) if a != b]
    row["changed"] = statistics.fmean(share(under[b][own == a], torch.full_like(own[own == a], b)) for a, b in pairs)
    for measured in ("slant", "ink"):
        before, after = STROKES[measured](reconstructed), [STROKES[measured](images) for images in under]
        for kind in ("", " shuffled"):
            found = []
            for a, b in pairs:
                here = (own == a).nonzero()[:, 0]
                other = here[torch.randperm(len(here))] if kind else here
                found.append(torch.corrcoef(torch.stack([before[here], after[b][other]]))[0, 1].item())
            row[measured + kind] = statistics.fmean(found)
    return row


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    """Means over the seeds, with their standard deviations."""
    line: studies.Row = {"recipe": rows[0]["recipe"], "seeds": len(rows)}
    for name in ("judge", "means", "draws", "changed", "slant", "slant shuffled", "ink", "ink shuffled"):
        line[name] = studies.mean_and_deviation([row[name] for row in rows], 3)
    return [line | {"CPU s": studies.mean_cpu_seconds(rows)}]


if __name__ == "__main__":
    parser = studies.study_parser(__doc__, "conditional", "10-12", recipes=RECIPES)
    parser.add_argument("--steps", type=int, default=3000)
    args = parser.parse_args()
    studies.run_study(args, studies.over_seeds(args.recipes, args.seeds), measure, summarise, steps=args.steps)
