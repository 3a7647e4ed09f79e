"""Conditions: their encoding by hand, data sets of every kind with conditions beside x, and every request that is refused."""

import numpy as np
import pytest
import torch

from pyro_hvae.data import Batch, Batches, Condition, Dataset, Rows, Split, condition_on, give_conditions
from pyro_hvae.data.generated.rooms import rooms
from pyro_hvae.data.generated.sprites import sprites
from pyro_hvae.data.sets.digits import digits
from pyro_hvae.data.sets.user_data import load_user_data
from pyro_hvae.errors import ConfigError, DataError

PARTS = ("train", "validation", "test")


def save_table(path, more=None):
    """A table with the columns a, b, c of x, a class "cell type", a continuous label and others."""
    random, n = np.random.default_rng(1), 60
    columns = {
        "a": random.normal(5, 2, n),
        "b": random.normal(-3, 10, n),
        "c": [i % 2 for i in range(n)],
        "cell type": ["red", "blue", "green"] * (n // 3),
        "age": random.normal(40, 10, n),
        "class": [3 + 2 * (i % 3) for i in range(n)],
        "sample_id": [3 * i + 1 for i in range(n)],
        "holes": ["u", "v", ""] * (n // 3),
        "day": ["2024-01-02"] * n,
        **(more or {}),
    }
    lines = [columns, *zip(*columns.values(), strict=True)]
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    return path


@pytest.fixture
def table(tmp_path):
    return load_user_data(save_table(tmp_path / "t.csv"), columns=("a", "b", "c"), labels=())


def test_a_condition_encodes_parses_and_describes():
    kind = Condition("kind", ("cat", "dog", "owl"))
    assert kind.width == 3 and kind.encode(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert kind.encode(torch.tensor([1])).dtype == torch.float32
    for text, place in (("cat", 0), ("owl", 2), ("1", 1)):
        assert kind.parse(text).tolist() == [float(i == place) for i in range(3)]
        assert kind.describe(kind.parse(text)) == kind.classes[place]
    size = Condition("size", ("0.5", "2", "10"))  # numbers as names: "1" is no place
    assert size.describe(size.parse("0.50")) == "0.5" and size.describe(size.parse("2.0")) == "2"
    for text in ("1", "0", "nan", ""):
        with pytest.raises(ConfigError, match=r"no class of 'size' called '.*'.*Known: 0\.5, 10, 2\."):
            size.parse(text)
    with pytest.raises(ConfigError, match="no class of 'kind' called 'dgo'. Did you mean 'dog'. Known: cat, dog, owl"):
        kind.parse("dgo")
    with pytest.raises(ConfigError, match="called '3'"):
        kind.parse("3")
    with pytest.raises(ConfigError, match="has the classes 0 to 2, got .*3"):
        kind.encode(torch.tensor([0, 3]))
    with pytest.raises(ConfigError, match="called '001'"):  # two classes are this number
        Condition("code", ("1", "01")).parse("001")
    age = Condition("age", mean=40.0, scale=10.0)
    assert age.width == 1 and age.encode(torch.tensor([55.0, 30.0])).tolist() == [[1.5], [-1.0]]
    assert age.parse(" 45 ").tolist() == [0.5] and age.describe(torch.tensor([0.5])) == "45"
    for text in ("old", "nan", "inf"):
        with pytest.raises(ConfigError, match=f"age={text} is no number. Example: age=40."):
            age.parse(text)
    assert age.parse("40").tolist() == [0.0]


def test_arguments_of_programs_are_identifiers():
    names = ("cell type", "7", "x", "size", "observed", "class", "Größe (cm²)", "_", "", "x_", "self")
    keys = [Condition(name).key for name in names]
    assert keys == ["cell_type", "_7", "x_", "size_", "observed_", "class_", "Größe__cm__", "_", "_", "x_", "self_"]
    for key in keys:
        Batch(torch.zeros(1, 1), {key: torch.zeros(1)})  # checks the name


@pytest.mark.parametrize("condition", [Condition("kind", ("1", "b c")), Condition("age", mean=-2.5, scale=0.1)])
def test_a_condition_is_kept_in_plain_values(condition):
    assert Condition.from_dict(condition.to_dict()) == condition


@pytest.mark.parametrize(
    "values",
    [
        3,
        {},
        {"name": 3, "mean": 0.0, "scale": 1.0},
        {"name": "a"},
        {"name": "a", "classes": []},
        {"name": "a", "classes": ["u", "u"]},
        {"name": "a", "classes": [1, 2]},
        {"name": "a", "classes": 5},
        {"name": "a", "mean": "big", "scale": 1.0},
        {"name": "a", "mean": 0.0, "scale": 0.0},
        {"name": "a", "mean": float("nan"), "scale": 1.0},
    ],
)
def test_damaged_conditions_are_refused(values):
    with pytest.raises(ConfigError, match="configuration has no valid condition"):
        Condition.from_dict(values)


def test_classes_and_numbers_beside_x(table, tmp_path):
    loaded = load_user_data(tmp_path / "t.csv", columns=("a", "b", "c"), labels=("cell type", "age", "class"))
    data, conditions = condition_on(loaded, ["cell type", "age", "class"])
    kind, age, number = conditions
    assert [c.name for c in conditions] == ["cell type", "age", "class"] and number.classes == ("3", "5", "7")
    assert kind.classes == ("blue", "green", "red") and data.columns == ("a", "b", "c") and data.note == loaded.note
    assert age.mean == pytest.approx(loaded.train.factors["age"].mean().item(), abs=1e-12)
    assert age.scale == pytest.approx(loaded.train.factors["age"].std(correction=0).item(), abs=1e-12)
    for part in PARTS:
        before, after = getattr(loaded, part), getattr(data, part)
        batch = after.x[:]
        assert (
            torch.equal(batch.x, before.x[:]) and batch.observed is None and set(batch.given) == {"cell_type", "age", "class_"}
        )
        assert torch.equal(batch.given["cell_type"].argmax(1), before.factors["cell type"])
        assert torch.equal(batch.given["class_"].argmax(1) * 2 + 3, before.factors["class"])
        wanted = ((before.factors["age"] - age.mean) / age.scale).float()[:, None]
        assert torch.equal(batch.given["age"], wanted) and batch.given["age"].dtype == torch.float32
        assert [kind.describe(row) for row in batch.given["cell_type"]] == [
            loaded.labels["cell type"][i] for i in before.factors["cell type"]
        ]
    stream = Batches(data.train.x, 8, seed=0)
    batch = stream.next()
    places = [loaded.train.x[:].tolist().index(row) for row in batch.x.tolist()]
    assert torch.equal(batch.given["class_"].argmax(1) * 2 + 3, loaded.train.factors["class"][places])


@pytest.mark.parametrize("standardize", [False, True])
def test_columns_leave_x(tmp_path, standardize):
    loaded = load_user_data(save_table(tmp_path / "t.csv"), columns=("a", "b", "c"), standardize=standardize)
    data, (b, kind) = condition_on(loaded, ["b", "cell type"])
    assert data.columns == ("a", "c") and data.shape == (2,) and not b.classes and kind.classes
    assert "Given beside x, no part of it: b." in data.note
    plain = load_user_data(tmp_path / "t.csv", columns=("a", "b", "c"))
    values = plain.train.x[:][:, 1].double()
    assert b.mean == pytest.approx(values.mean().item(), rel=1e-6)
    assert b.scale == pytest.approx(values.std(correction=0).item(), rel=1e-6)
    for part in PARTS:
        batch, whole, own = (getattr(d, part).x[:] for d in (data, loaded, plain))
        assert torch.equal(batch.x, whole[:, [0, 2]])
        torch.testing.assert_close(batch.given["b"][:, 0].double(), (own[:, 1].double() - b.mean) / b.scale, atol=1e-6, rtol=0)
        torch.testing.assert_close(getattr(data, part).factors["b"], own[:, 1].double(), atol=1e-5, rtol=0)
        if standardize:  # what is given is the standardised column, and the others keep their units
            assert data.standardization is not None and data.inverse is not None
            torch.testing.assert_close(batch.given["b"][:, 0], whole[:, 1], atol=1e-6, rtol=0)
            torch.testing.assert_close(data.inverse(batch.x), own[:, [0, 2]].double(), atol=1e-5, rtol=0)
    assert not condition_on(loaded, ["c"])[1][0].classes  # a column is a number, also one of few values


def test_known_conditions_are_given_to_other_data(tmp_path):
    load = lambda path, seed=0: load_user_data(path, columns=("a", "b", "c"), data_seed=seed)  # noqa: E731
    data, conditions = condition_on(load(save_table(tmp_path / "t.csv")), ["cell type", "b"])
    same = give_conditions(load(tmp_path / "t.csv"), conditions)
    for part in PARTS:
        one, two = getattr(data, part).x[:], getattr(same, part).x[:]
        assert torch.equal(one.x, two.x) and all(torch.equal(one.given[key], two.given[key]) for key in ("cell_type", "b"))
    # Other rows: the encoding is that of the run, also where classes have other numbers.
    other = load(save_table(tmp_path / "u.csv", {"cell type": ["red", "green", "green"] * 20}))
    given = give_conditions(other, conditions)
    assert other.labels["cell type"] == ["green", "red"]
    names = [conditions[0].describe(row) for row in given.test.x[:].given["cell_type"]]
    assert names == [other.labels["cell type"][i] for i in other.test.factors["cell type"]]
    b = conditions[1]
    wanted = ((other.test.x[:][:, 1].double() - b.mean) / b.scale).float()
    assert torch.equal(given.test.x[:].given["b"][:, 0], wanted)
    other = load(save_table(tmp_path / "u.csv", {"cell type": ["red", "green", "black"] * 20}))
    with pytest.raises(DataError, match="have the class 'black' of 'cell type', but the programs know only blue, green, red"):
        give_conditions(other, conditions)
    with pytest.raises(
        DataError, match="given 'cell type' beside x, but the data have no factor or column of that name, only a"
    ):
        give_conditions(load_user_data(tmp_path / "t.csv", columns=("a", "b"), labels=("age",)), conditions)
    number = Condition("cell type", mean=1.0, scale=2.0)
    with pytest.raises(DataError, match="'cell type' is a number for the programs"):
        give_conditions(load(tmp_path / "t.csv"), [number])


@pytest.mark.parametrize(
    ("names", "error", "why"),
    [
        (
            ["cell tipe"],
            ConfigError,
            "no condition called 'cell tipe'. Did you mean 'cell type'. Known: a, b, c, cell type, class",
        ),
        (["a", "a"], ConfigError, "only once"),
        ([], ConfigError, "at least one name"),
        (["a", "b", "c"], ConfigError, "no column of x is left where all are given: a, b, c. Name fewer conditions"),
        (
            ["sample_id"],
            ConfigError,
            r"'sample_id' is neither .* left aside \(not in columns\). Choose another condition, of cell type",
        ),
        (["day"], ConfigError, r"left aside \(dates\)"),
        (["holes"], DataError, r"'holes' is missing in some rows, and p\(x \| holes\) says nothing about data without it"),
    ],
)
def test_requests_that_are_refused(table, names, error, why):
    with pytest.raises(error, match=why):
        condition_on(table, names)
    condition_on(table, ["a", "b", "cell type"])


def test_row_numbers_and_rare_classes(tmp_path):
    load = lambda path: load_user_data(path, columns=("a",), labels=("row", "rare", "a b", "a_b"))  # noqa: E731
    more = {"row": range(7, 67), "rare": ["u"] * 59 + ["v"], "a b": ["u", "v"] * 30, "a_b": ["u", "v"] * 30}
    data = load(save_table(tmp_path / "t.csv", more))
    with pytest.raises(ConfigError, match="most values of 'row' occur once, as row numbers do"):
        condition_on(data, ["row"])
    with pytest.raises(ConfigError, match="'a b' and 'a_b' under one name. Rename one in the data"):
        condition_on(data, ["a b", "a_b"])
    # The one row of the class "v" is in the training data or not, as the seed has it.
    outcomes = set()
    for seed in range(12):
        data = load_user_data(tmp_path / "t.csv", columns=("a",), labels=("rare",), data_seed=seed)
        trained = data.labels["rare"].index("v") in data.train.factors["rare"]
        outcomes.add(trained)
        if trained:
            assert condition_on(data, ["rare"])[1][0].classes == ("u", "v")
            continue
        with pytest.raises(DataError, match=r"the (validation|test) data have the class 'v' of 'rare', .* only u. Leave data"):
            condition_on(data, ["rare"])
    assert outcomes == {True, False}


def test_missing_values_of_a_condition(tmp_path):
    x = torch.randn(30, 3)
    x[4, 1] = torch.nan
    split = Split(Rows(x, incomplete=True), {"age": torch.rand(30, dtype=torch.float64)})
    data = Dataset("own", split, split, split, columns=("a", "b", "c"))
    with pytest.raises(DataError, match="'b' is missing in 1 of the 30 training data"):
        condition_on(data, ["b"])
    given, _ = condition_on(data, ["a"])
    batch = given.train.x[3:6]  # what is missing stays missing
    assert batch.observed.tolist() == [[True, True], [False, True], [True, True]] and batch.x[1, 0] == 0
    assert torch.equal(batch.given["a"][:, 0], condition_on(data, ["a"])[1][0].encode(x[3:6, 0])[:, 0])
    split.factors["age"][7] = torch.nan
    with pytest.raises(DataError, match="'age' is missing in 1 of the 30 training data"):
        condition_on(data, ["age"])
    part = Split(x, {})
    with pytest.raises(DataError, match="the validation data have no 'kind'"):
        condition_on(Dataset("own", Split(x, {"kind": torch.arange(30) % 2}), part, part), ["kind"])


def test_images_by_class_and_what_has_pictures():
    data, (number,) = condition_on(digits(), ["class"])
    batch = data.test.x[:20]
    assert number.classes == tuple("0123456789") and batch.x.shape == (20, 1, 8, 8)
    assert torch.equal(batch.given["class_"].argmax(1), data.test.factors["class"][:20])
    split = Split(torch.randn(9, 2), {"kind": torch.arange(9) % 2})
    poses = Dataset("poses", split, split, split, columns=("a", "b"), picture=lambda x: x)
    with pytest.raises(
        ConfigError, match="'a' is a column of x, but pictures of these data need all columns.*Choose a factor: kind"
    ):
        condition_on(poses, ["a"])
    assert condition_on(poses, ["kind"])[0].picture is poses.picture


@pytest.mark.parametrize("load", [sprites, rooms])
def test_grids_are_given_their_factors(load):
    data = load(validation=40, test=40, side=16, scales=2, orientations=3, **({"positions": 4} if load is sprites else {}))
    given, (shape, turn) = condition_on(data, ["shape", "orientation"])
    assert shape.classes == tuple(data.labels["shape"]) and turn.width == 3
    for part in PARTS:
        split = getattr(given, part)
        batch = split.x[:5]
        assert torch.equal(batch.x, getattr(data, part).x[:5]) and batch.x.dim() == 4
        for name in ("shape", "orientation"):
            assert torch.equal(batch.given[name].argmax(1), split.factors[name][:5])
    places = torch.tensor([5, 0, 11])
    taken = given.grid.take(places)
    assert torch.equal(taken.x[:].given["shape"].argmax(1), taken.factors["shape"])
    assert torch.equal(taken.x[:].x, data.grid.x[places])
