"""Sizes of counts: totals with and without missing entries, columns, what is refused, other data (float64 beside)."""

import pytest
import torch
from torch.testing import assert_close

from pyro_hvae.data import Batch, Dataset, Rows, SizeFactor, Split, condition_on, give_conditions, give_totals, read_condition
from pyro_hvae.errors import ConfigError, DataError


def counts(n=30, columns=4, seed=0, holes=0.0):
    g = torch.Generator().manual_seed(seed)
    x = 1 + torch.poisson(torch.full((n, columns), 3.0), generator=g)
    return x.masked_fill(torch.rand(x.shape, generator=g) < holes, torch.nan)


def dataset(x, columns=(), **factors):
    split = Split(x, {name: torch.as_tensor(value) for name, value in factors.items()})
    if x.isnan().any():
        split = Split(Batch.of(x), split.factors)
    return Dataset("toy", split, split, split, columns=columns)


def size_of(data, part="train"):
    return getattr(data, part).x[:].given["size_factor"]


def test_the_total_is_that_over_the_mean_total_of_the_training_data():
    x, other = counts(), counts(seed=1)
    data = Dataset("toy", Split(x), Split(other), Split(other))
    data, (size,) = condition_on(data, (), "total")
    assert (size.name, size.key) == ("total", "size_factor")
    assert_close(size_of(data), x.sum(1, keepdim=True) / x.sum(1).mean())
    assert_close(size_of(data, "test"), other.sum(1, keepdim=True) / x.sum(1).mean())
    assert size_of(data).mean().item() == pytest.approx(1.0)
    assert data.shape == (4,)
    images, (size,) = condition_on(dataset(x.reshape(30, 1, 2, 2)), (), "total")
    assert torch.equal(size_of(images), size_of(data)) and len(size.means) == 4


def test_a_datum_with_missing_entries_is_compared_with_the_means_of_its_known_ones():
    x = torch.tensor([[2.0, 6.0], [4.0, torch.nan], [torch.nan, 2.0]])  # means 3 and 4
    data, _ = condition_on(dataset(x), (), "total")
    assert_close(size_of(data), torch.tensor([[8 / 7], [4 / 3], [2 / 4]]))
    # The scale of one column does not move the sizes where it is missing.
    g = counts(2000, 3) * torch.tensor([1.0, 10.0, 100.0])
    mask = torch.rand(g.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    mask[mask.all(1)] = False
    sizes = size_of(condition_on(dataset(g.masked_fill(mask, torch.nan)), (), "total")[0])
    assert sizes[mask[:, 2]].mean().item() == pytest.approx(1.0, abs=0.05)


def test_a_column_leaves_x_and_is_relative_to_its_mean():
    x = counts()
    data, (kind, size) = condition_on(dataset(x, ("a", "b", "c", "depth"), kind=torch.arange(30) % 3), ["kind"], "depth")
    assert data.columns == ("a", "b", "c") and data.shape == (3,)
    assert_close(size_of(data), x[:, 3:] / x[:, 3].mean())
    assert list(data.train.x[:].given) == ["kind", "size_factor"]
    assert size.describe(size.parse("7")) == "7" and kind.key == "kind"
    # Names that would be taken for it.
    assert condition_on(dataset(x, size_factor=torch.arange(30) % 3), ["size_factor"])[1][0].key == "size_factor_"
    # A column called total is read, not computed.
    named, (size,) = condition_on(dataset(x, ("a", "b", "c", "total")), (), "total")
    assert named.columns == ("a", "b", "c") and size.means == ()
    assert_close(size_of(named), x[:, 3:] / x[:, 3].mean())


@pytest.mark.parametrize("name", ["total", "depth"])
def test_a_run_gives_other_data_their_sizes(name):
    columns = ("a", "b", "c", "depth")
    _, conditions = condition_on(dataset(counts(), columns), (), name)
    again = tuple(read_condition(condition.to_dict()) for condition in conditions)
    assert again == conditions
    other = counts(seed=4)
    sizes = size_of(give_conditions(dataset(other, columns), again), "test")
    values = other.sum(1) if name == "total" else other[:, 3]
    assert_close(sizes[:, 0], values / conditions[0].scale)
    assert list(give_totals(again, other)) == (["size_factor"] if name == "total" else [])


def test_what_is_no_size_is_refused():
    x = counts()
    x[3] = 0
    with pytest.raises(DataError, match="1 of the 30 training data have no counts"):
        condition_on(dataset(x), (), "total")
    with pytest.raises(DataError, match="'depth' is the size.*2 of 30 are not, such as -1"):
        condition_on(dataset(counts(), depth=torch.tensor([-1.0, 0.0] + [2.0] * 28)), (), "depth")
    for text in ("0", "-3", "nan", "deep"):
        with pytest.raises(ConfigError, match=f"depth={text} is no size of a datum.* Example: depth=2"):
            SizeFactor("depth", scale=2.0).parse(text)
    for text in ("1e300", "1e-46"):
        with pytest.raises(ConfigError, match=rf"depth={text} is beyond the range of float32, .* from 2.4e-38 to 6.8e\+38"):
            SizeFactor("depth", scale=2.0).parse(text)
    with pytest.raises(DataError, match=r"'depth' is the size.*1 of 2 are not, such as 1e\+300"):
        SizeFactor("depth", scale=2.0).encode(torch.tensor([1.0, 1e300], dtype=torch.float64))
    total = SizeFactor.measure_total(Rows(torch.tensor([[1.0, 0.0, 7.0]])))
    with pytest.raises(DataError, match="1 of the 2 given data have no counts, or only where the training data have none"):
        total.of(torch.tensor([[torch.nan, 3.0, torch.nan], [1.0, 3.0, 1.0]]))
    with pytest.raises(ConfigError, match="Did you mean 'total'"):
        condition_on(dataset(counts()), (), "totla")
    with pytest.raises(ConfigError, match="'depth' is a condition, too"):
        condition_on(dataset(counts(), depth=torch.rand(30)), ["depth"], "depth")
    labelled = dataset(counts(), kind=torch.arange(30) % 2)
    labelled = Dataset("toy", labelled.train, labelled.train, labelled.train, labels={"kind": ("cat", "dog")})
    with pytest.raises(ConfigError, match="'kind' has classes"):
        condition_on(labelled, (), "kind")
    with pytest.raises(
        ConfigError, match=r"no size factor called 'foo'\. Known: total\."
    ):  # what would be refused is not named
        condition_on(labelled, (), "foo")
    negative = dataset(torch.tensor([[1.0, -2.0], [3.0, 0.5], [0.0, 0.0]]))
    with pytest.raises(DataError, match="2 entries of the training data are negative or fractional, such as -2"):
        condition_on(negative, (), "total")
    for wrong in ({"name": "total", "scale": 2.0, "means": "abc"}, {"name": "total", "scale": -1.0, "means": []}):
        with pytest.raises(ConfigError, match="the run's configuration has no valid"):
            read_condition(wrong)
