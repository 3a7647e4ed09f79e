"""Tables with classes, numbers and holes, and options of tiny runs on them."""

import numpy as np

CLASSES = ["cat", "dog", "owl"]
TABLE = "--dataset holes.csv -o labels=kind -o standardize=true -o condition=kind,age -o latent=2 -o hidden=16 -o lr=0.005"


def write_table(path, holes, seed=0, rows=120, classes=CLASSES):
    """Five correlated columns, an age and a kind; returns the columns, with NaN for an empty cell."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2)) @ random.normal(size=(2, 5)) + 0.3 * random.normal(size=(rows, 5))
    x = x * [1, 10, 100, 1, 1] + [0, 50, 1000, 0, 0]
    kind, age = random.integers(0, len(classes), rows), random.normal(40, 10, rows)
    x[random.random(x.shape) < holes] = np.nan
    lines = ["a,b,c,d,e,age,kind"]
    for values, years, number in zip(x, age, kind, strict=True):
        cells = ["" if np.isnan(value) else repr(float(value)) for value in values]
        lines.append(",".join([*cells, repr(float(years)), classes[number]]))
    path.write_text("\n".join(lines) + "\n")
    return x
