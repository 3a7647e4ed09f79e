"""The advice of error messages, followed: what failed with the message works with what it advises."""

import numpy as np
import pytest
from PIL import Image

RANDOM = np.random.default_rng(0)


def save_arrays(name, *shape):
    np.save(name, RANDOM.random(shape, dtype=np.float32))


def save_pictures(folder, width, height):
    folder.mkdir()
    for number in range(12):
        pixels = RANDOM.integers(0, 256, (height, width), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


# what fails -> the advice that its message gives -> what is typed instead
ADVICE = {
    "vampprior on few data": ("vampprior --dataset few.npy", "components=32 or fewer", "-o components=32"),
    "conv on odd sides": ("vae --dataset odd.npy -o network=conv", "Use -o network=mlp.", "-o network=mlp"),
    "conv on sides of two halvings": (
        "vae --dataset twelve.npy -o network=conv",
        "fewer widths (-o hidden=32,64)",
        "-o network=conv -o hidden=32,64",
    ),
    "texture on a folder": ("texture --dataset wide/", "A folder of images takes size=64", "-o size=64"),
}


@pytest.mark.parametrize("name", ADVICE)
def test_advice_helps_when_it_is_followed(command, tmp_path, name):
    save_arrays("few.npy", 40, 5)
    save_arrays("odd.npy", 40, 1, 27, 27)
    save_arrays("twelve.npy", 40, 1, 12, 12)
    save_pictures(tmp_path / "wide", 80, 64)
    arguments, advice, instead = ADVICE[name]
    code, _, err = command("train", *arguments.split(), "--dry-run")
    assert code == 2 and advice in err, err
    kept = " ".join(arguments.split(" -o ")[:1])
    code, _, err = command("train", *kept.split(), *instead.split(), "--dry-run")
    assert code == 0, err


def test_texture_on_arrays_is_not_sent_to_an_option_that_arrays_lack(command):
    save_arrays("wide.npy", 20, 1, 32, 48)
    code, _, err = command("train", "texture", "--dataset", "wide.npy", "--dry-run")
    assert code == 2 and "crop or pad arrays to squares before they are saved" in err
    np.save("square.npy", np.load("wide.npy")[..., :32])
    code, _, err = command("train", "texture", "--dataset", "square.npy", "--dry-run")
    assert code == 0, err
