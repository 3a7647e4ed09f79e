"""Bits per dimension of 8-bit images under discretised logistics: `vae`, `hvae` and `vlae` beside PNG.

    python -m benchmarks.bits_per_dimension        # rooms and real textures, one seed; two hours on one core

Images of 3 x 32 x 32 pixels: rooms (side=32), and crops of 64 photographed textures (ambientCG, in the folder of data), where
training, validation and test have other textures: 400 random crops of each of 50, and 16 crops that do not overlap of each of
6 and of 8. Of the rooms as many images, drawn at random. Networks of the rooms' presets. `bits` and `bound`: log-likelihood by
importance samples and the bound of the test images, over the number of dimensions; `error` is the standard error of `bits` over
images, which are alike in a texture. `PNG`: of the same images, in a file each, of which the header is about 0.2 bits, and side
by side in one file. Writes benchmarks/results/bits_per_dimension.json.
"""

import io
import math
from pathlib import Path
from typing import Any

from benchmarks import studies

SIDE, EACH, TILES = 32, 400, (50, 6, 8)  # crops of a training texture; textures of training, validation and test
CONV = ["network=conv", "hidden=16,32,32,64", "activation=relu"]
RECIPES = {
    "vae": [*CONV, "latent=10"],
    "hvae": [*CONV, "dims=10,10,10", "upper=128,128"],
    "vlae": ["network=pro-shapes", "width=16", "dims=3,3,3"],
}
NATS = math.log(2) * 3 * SIDE**2  # of a bit per dimension


def textures() -> list[Any]:
    """Crops of training, validation and test textures, each (n, 32, 32, 3)."""
    import numpy as np

    from pyro_hvae.runtime import data_folder

    tiles = np.load(data_folder() / "textures" / "ambientcg_cc0_64x128x128x3.npz")["images"]
    random = np.random.default_rng(0)
    train, *held_out = np.split(tiles[random.permutation(len(tiles))], np.cumsum(TILES)[:-1])
    corners = random.integers(0, tiles.shape[1] - SIDE + 1, (len(train) * EACH, 2))
    crops = [train[i // EACH, a : a + SIDE, b : b + SIDE] for i, (a, b) in enumerate(corners)]
    places = range(0, tiles.shape[1] - SIDE + 1, SIDE)
    parts = [[tile[a : a + SIDE, b : b + SIDE] for tile in some for a in places for b in places] for some in held_out]
    return [np.stack(images) for images in (crops, *parts)]


def rooms() -> list[Any]:
    """As many rooms."""
    import torch

    from pyro_hvae.data import DATASETS

    data, random = DATASETS["rooms"](side=SIDE), torch.Generator().manual_seed(0)
    found = []
    for split, size in zip(
        (data.train, data.validation, data.test), (EACH * TILES[0], 16 * TILES[1], 16 * TILES[2]), strict=True
    ):
        images = split.x[torch.randperm(len(split.x), generator=random)[:size]]
        found.append((255 * images).round().byte().permute(0, 2, 3, 1).contiguous().numpy())
    return found


DATA = {"rooms": rooms, "textures": textures}
LIKELIHOODS = ("discretised-logistic", "logistic-mixture")


def png_bits(images: Any) -> studies.Row:
    """Bits per dimension of PNG, for bytes (n, 32, 32, 3): a file each, and one file of all."""
    from PIL import Image

    def size(pixels: Any) -> int:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
        return 8 * len(file.getvalue())

    mosaic = images.reshape(-1, 16, SIDE, SIDE, 3).swapaxes(1, 2).reshape(-1, 16 * SIDE, 3)
    return {"PNG": sum(map(size, images)) / images.size, "PNG, one file": size(mosaic) / images.size}


def measure(args: studies.Args, recipe: str, seed: int, data: str, likelihood: str) -> studies.Row:
    import numpy as np

    path: Path = args.runs / f"{data}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **dict(zip(("train", "validation", "test"), DATA[data](), strict=True)))
    out = args.runs / f"{recipe}-{data}-{likelihood}-seed{seed}"
    options = studies.flags([*RECIPES[recipe], f"likelihood={likelihood}", "batch_size=64"])
    lengths = ["--steps", str(args.steps), "--seed", str(seed)]
    seconds = studies.train(out, recipe, "--dataset", str(path), *options, *lengths)
    found = studies.command("evaluate", str(out), "--particles", str(args.particles))
    row: studies.Row = {"data": data, "recipe": recipe, "likelihood": likelihood, "seed": seed, "cpu_seconds": seconds}
    row |= {
        "rate": found["rate"],
        "bits": -found["log_likelihood"] / NATS,
        "error": found["stderr"] / NATS,
        "bound": -found["elbo"] / NATS,
    }
    return row | {"particles": args.particles, "n": found["n"], **png_bits(np.load(path)["test"])}


def summarise(rows: list[studies.Row]) -> list[studies.Row]:
    line: studies.Row = {key: rows[0][key] for key in ("data", "recipe", "likelihood")} | {"seeds": len(rows)}
    for key in ("bits", "error", "bound", "PNG", "PNG, one file"):
        line[key] = studies.mean_and_deviation([row[key] for row in rows], 3)
    return [line | {"CPU s": studies.mean_cpu_seconds(rows)}]


if __name__ == "__main__":
    choices = {"recipes": RECIPES, "data": DATA, "likelihoods": LIKELIHOODS}
    parser = studies.study_parser(__doc__, "bits_per_dimension", "0-0", jobs=1, **choices)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--particles", type=int, default=500)
    args = parser.parse_args()
    runs = studies.over_seeds(args.recipes, args.seeds)
    jobs = [(*run, data, likelihood) for data in args.data for run in runs for likelihood in args.likelihoods]
    studies.run_study(args, jobs, measure, summarise, steps=args.steps)
