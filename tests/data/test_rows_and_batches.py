"""Rows: bytes until they are read, from memory, files and drawing; batches of them; arrays in the cache."""

import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import pyro_hvae as hv
from pyro_hvae.data import Batch, Batches, Drawn, FactorGrid, Rows, Split, rows
from pyro_hvae.data.files import array_cache as derived
from pyro_hvae.data.option_checks import split_sizes
from pyro_hvae.data.rows import as_float, bernoulli
from pyro_hvae.errors import ConfigError, DataError
from pyro_hvae.runs.train_config import TrainConfig

BYTES = torch.arange(240, dtype=torch.uint8).reshape(20, 1, 3, 4)


def squares(index):
    """An item is its index squared, twice."""
    return np.repeat(index[:, None] ** 2, 2, 1).astype(np.float32)


DRAWN = Rows(Drawn(squares, (20, 2)), ahead=True)


@pytest.mark.parametrize("x", [Rows(BYTES), DRAWN, Rows(BYTES).take(torch.arange(19, -1, -1))], ids=["bytes", "drawn", "taken"])
def test_rows_are_read_like_a_tensor(x):
    whole = x[:]
    assert whole.dtype == torch.float32 and whole.shape == x.shape and len(x) == len(whole) == 20
    for index in (3, -1, slice(4, 9), slice(None, None, 7), [5, 0, 5], torch.tensor([2, -3]), torch.arange(20) % 3 == 1):
        assert torch.equal(x[index], whole[index])
    assert [part.tolist() for part in x.split(7)] == [part.tolist() for part in whole.split(7)]
    assert torch.equal(x.take(np.array([4, 4, 1]))[1:], whole[[4, 1]])
    assert torch.equal(x.take([8, 9, 10]).take([2, 0])[:], whole[[10, 8]])
    for index in (
        slice(15, 40),
        slice(40, 50),
        slice(-3, None),
        slice(5, 2),
        torch.tensor([], dtype=torch.int64),
    ):
        assert torch.equal(x[index], whole[index])
    for index in (20, torch.tensor([3, 20]), torch.tensor([-21])):
        with pytest.raises(IndexError):
            x[index]
    with pytest.raises(ValueError, match="step"):
        x[::-1]


def test_rows_keep_their_places_when_the_index_changes():
    index = np.array([4, 1])
    some = Rows(BYTES).take(index)
    index[:] = 0
    assert torch.equal(some[:], Rows(BYTES)[[4, 1]])


def test_a_pass_over_selected_rows_is_linear(monkeypatch):
    """No piece of it costs an array of all rows."""
    asked, arange = [], torch.arange
    some = Rows(BYTES).take(torch.randperm(20))
    monkeypatch.setattr("pyro_hvae.data.rows.torch.arange", lambda *bounds: asked.append(arange(*bounds)) or asked[-1])
    assert sum(len(piece) for piece in some.split(4)) == 20 and some[torch.tensor([3, 4])].shape == (2, 1, 3, 4)
    assert asked == []


def test_bytes_are_grey_values_and_numbers_themselves():
    assert torch.equal(Rows(BYTES)[:], BYTES.float() / 255)
    double = torch.randn(4, 2, dtype=torch.float64)
    assert Rows.of(double)[:].dtype == torch.float64 and torch.equal(Rows.of(double)[1:3], double[1:3])
    assert as_float(torch.tensor([True, False])).tolist() == [1.0, 0.0] and as_float(torch.tensor([7])).tolist() == [7.0]
    assert Rows.of(DRAWN) is DRAWN and Split(double).x[:] is not None and len(Split(double)) == 4


def test_a_byte_is_drawn_with_its_own_probability():
    raw = torch.arange(256, dtype=torch.uint8).repeat(20_000, 1)
    share = bernoulli(raw).double().mean(0)
    wanted = torch.arange(256).double() / 255
    assert share[0] == 0 and share[255] == 1
    z = (share - wanted)[1:255] / (wanted * (1 - wanted) / 20_000).sqrt()[1:255]
    assert z.abs().max() < 4.5 and abs(z.mean()) < 0.3 and 0.85 < z.std() < 1.15


def test_taking_by_a_mask_or_from_the_end():
    x = Rows(BYTES)
    assert torch.equal(x.take(torch.arange(20) % 4 == 0)[:], x[::4]) and torch.equal(x.take([-1])[:], x[19:])
    with pytest.raises(IndexError):
        x.take([99])


def test_a_batch_that_just_fits_is_given_out():
    batches = Batches(BYTES, 5, 0)
    assert torch.cat([batches.next() for _ in range(4)]).unique().numel() == 240


def test_mapping_and_moving():
    mapped = Rows(BYTES).map(lambda x: x.flatten(1)[:, :5])
    assert mapped.shape == (20, 5) and torch.equal(mapped[[3, 1]], Rows(BYTES)[[3, 1]].flatten(1)[:, :5])
    weight = torch.ones(2, requires_grad=True)
    assert not DRAWN.map(lambda x: x * weight)[:3].requires_grad
    state = torch.get_rng_state()
    Rows(BYTES, bernoulli).map(lambda x: x + torch.rand(1))
    assert torch.equal(state, torch.get_rng_state())  # to learn the shape costs no noise
    # The meta device stands for a GPU: the store goes there as a whole where it fits, else batch by batch.
    for x, home in ((Rows(BYTES), "meta"), (Rows(BYTES).take([3, 4]), "meta"), (DRAWN, "cpu")):
        moved = x.to("meta")
        assert (moved.home.type, moved.device.type, moved[:2].device.type) == (home, "meta", "meta")
        assert Batches(moved, 2, seed=0).next().shape == (2, *x.shape[1:])


def test_what_does_not_fit_stays(monkeypatch):
    monkeypatch.setattr(rows, "DEVICE_BYTES", 100)
    moved = replace(Rows(BYTES), ahead=True).to("meta")
    assert moved.home.type == "cpu" and moved.ahead and moved[:2].device.type == "meta"


def test_some_is_all_or_a_fixed_choice():
    assert torch.equal(Rows(BYTES).sample(), Rows(BYTES)[:])
    few = Rows(BYTES).sample(60)
    assert few.shape == (5, 1, 3, 4) and torch.equal(few, Rows(BYTES).sample(60))
    places = {tuple(x.flatten().tolist()) for x in Rows(BYTES)[:]}
    assert len({tuple(x.flatten().tolist()) for x in few} & places) == 5


def test_reading_ahead_changes_nothing_but_the_thread():
    threads = set()

    def draw(index):
        threads.add(threading.current_thread().name)
        return squares(index)

    ahead, plain = Batches(Rows(Drawn(draw, (20, 2)), ahead=True), 6, seed=4), Batches(Rows(Drawn(squares, (20, 2))), 6, seed=4)
    for _ in range(5):
        assert torch.equal(ahead.next(), plain.next())
    assert any(name.startswith("batches") for name in threads)
    state = ahead.state_dict()
    following = [ahead.next() for _ in range(4)]
    other = Batches(DRAWN, 6, seed=99)
    other.next()  # one batch of the wrong order is under way when the state comes
    other.load_state_dict(state)
    assert all(torch.equal(x, other.next()) for x in following)


def test_a_slow_reader_works_while_we_do():
    def draw(index):
        time.sleep(0.05)
        return squares(index)

    batches = Batches(Rows(Drawn(draw, (20, 2)), ahead=True), 2, seed=0)
    batches.next()
    time.sleep(0.1)
    start = time.perf_counter()
    batches.next()
    assert time.perf_counter() - start < 0.04


def test_an_error_while_reading_ahead_arrives():
    def draw(index):
        raise DataError("the file is gone")

    batches = Batches(Rows(Drawn(draw, (20, 2)), ahead=True), 2, seed=0)
    with pytest.raises(DataError, match="the file is gone"):
        batches.next()


@pytest.mark.parametrize("kind", ["dynamic", "drawn"])
def test_resumed_training_draws_the_same_pixels_bit_for_bit(tmp_path, kind):
    grey = torch.randint(0, 256, (50, 1, 4, 4), dtype=torch.uint8)
    x = Rows(grey, bernoulli)
    if kind == "drawn":
        x = Rows(Drawn(lambda index: grey.numpy()[index], grey.shape), bernoulli, ahead=True)

    def run(out, steps, resume=False):
        torch.manual_seed(3)
        model = hv.Chain(hv.StandardNormal(2), [], hv.Bernoulli(2, (1, 4, 4)))
        guide = hv.BottomUp([hv.Gaussian((1, 4, 4), 2)])
        config = TrainConfig(steps=steps, batch_size=8, lr_decay=0.0, log_every=5, eval_every=10)
        return hv.fit(hv.ELBO()(model, guide), x, config, out=out, validation=Rows(grey), resume=resume)

    whole = run(tmp_path / "whole", 40)
    run(tmp_path / "cut", 20)
    assert run(tmp_path / "cut", 40, resume=True) == whole


def test_factor_grids():
    sizes = {"a": 2, "b": 3, "c": 4}
    values = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4))
    grid = FactorGrid(sizes, Rows(values.float()))
    assert torch.equal(grid.values(torch.arange(24)), values) and grid.index(values).tolist() == list(range(24))
    parts = grid.split(0, 5, 4)
    assert [len(part) for part in parts] == [15, 5, 4]
    for part in parts:
        assert torch.equal(part.x[:], torch.stack(list(part.factors.values()), 1).float())
    everything = torch.cat([grid.index(torch.stack(list(part.factors.values()), 1)) for part in parts])
    assert everything.sort().values.tolist() == list(range(24))
    assert torch.equal(grid.split(0, 5, 4)[2].x[:], parts[2].x[:]) and not torch.equal(
        grid.split(1, 5, 4)[2].x[:], parts[2].x[:]
    )
    for held in ((0, 4), (4, 0), (20, 4)):
        with pytest.raises(ConfigError, match="cannot be split"):
            split_sizes(24, *held)


def test_derived_arrays_are_made_once_and_mapped(tmp_path):
    source, calls = tmp_path / "source", []
    source.write_bytes(b"abc")

    def fill(array):
        calls.append(1)
        assert len(calls) > 1 or not list((tmp_path / "cache").glob("[!.]*"))  # nothing under its name before it is whole
        array[:] = 7

    first = derived.cache_array("numbers", [source], (5, 2), fill)
    again = derived.cache_array("numbers", [source], (5, 2), fill)
    assert torch.equal(first, torch.full((5, 2), 7, dtype=torch.uint8)) and torch.equal(first, again) and len(calls) == 1
    again[0] = 9  # in memory alone
    assert (derived.cache_array("numbers", [source], (5, 2), fill) == 7).all() and len(calls) == 1
    for change in ({"version": 2}, {"shape": (5, 3)}):
        derived.cache_array(**{"name": "numbers", "sources": [source], "shape": (5, 2), "fill": fill, **change})
    os.utime(source, ns=(1, 1))
    derived.cache_array("numbers", [source], (5, 2), fill)
    assert len(calls) == 4
    # Another file of the same name, size and time is another source; so is one that took its place.
    other = tmp_path / "other" / "source"
    other.parent.mkdir()
    for place in (other, source):
        place.write_bytes(b"xyz")
        os.utime(place, ns=(1, 1))
        derived.cache_array("numbers", [place], (5, 2), fill)
    assert len(calls) == 6
    # What is damaged or another array is made anew.
    for content in (b"", b"text", next((tmp_path / "cache").iterdir()).read_bytes()[:-3]):
        for path in (tmp_path / "cache").iterdir():
            path.write_bytes(content)
        assert (derived.cache_array("numbers", [source], (5, 2), fill) == 7).all()
    assert len(calls) == 9


def test_a_derived_array_is_complete_or_absent(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"abc")

    def broken(array):
        array[0] = 1
        raise DataError("line 3")

    with pytest.raises(DataError, match="line 3"):
        derived.cache_array("half", [source], (5, 2), broken)
    assert list((tmp_path / "cache").iterdir()) == []
    with pytest.raises(DataError, match="cannot read .*absent"):
        derived.cache_array("none", [tmp_path / "absent"], (5, 2), lambda array: None)
    with pytest.raises(DataError, match="No space left.*PYRO_HVAE_CACHE to a folder with room for 9,000,000,000,000 MB"):
        derived.cache_array("much", [source], (9 * 10**18,), lambda array: None)
    monkeypatch.setenv("PYRO_HVAE_CACHE", str(source / "below"))
    with pytest.raises(DataError, match="cannot write .*below"):
        derived.cache_array("blocked", [source], (5, 2), lambda array: None)


def test_a_changed_byte_of_the_cache_is_noticed(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    values = np.random.default_rng(0).integers(0, 256, (50, 40), dtype=np.uint8)

    def fill(array):
        array[:] = values

    derived.cache_array("numbers", [source], values.shape, fill)
    path = next((tmp_path / "cache").iterdir())
    whole = path.read_bytes()
    for place in (10, 128, 1000, len(whole) - 1):  # header, first and later values, checksum
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert np.array_equal(derived.cache_array("numbers", [source], values.shape, fill).numpy(), values)
        assert path.read_bytes() == whole
    path.write_bytes(whole[:500] + bytes(400) + whole[900:])
    assert np.array_equal(derived.cache_array("numbers", [source], values.shape, fill).numpy(), values)


def test_a_batch_is_indexed_like_rows_of_a_tensor():
    x, y = torch.arange(12.0).view(4, 3), torch.arange(4)
    batch = Batch(x, {"y": y}, x > 0)
    for one in (2, np.int64(2), torch.tensor(2), -2):
        assert batch[one].x.tolist() == [[6.0, 7.0, 8.0]] and batch[one].given["y"].tolist() == [2]
    for several in (
        [0, 3],
        np.array([0, 3]),
        torch.tensor([0, 3]),
        [True, False, False, True],
        torch.tensor([1, 0, 0, 1]).bool(),
    ):
        assert batch[several].given["y"].tolist() == [0, 3] and batch[several].observed.shape == (2, 3)
    assert len(batch[[]]) == len(batch[4:]) == 0 and [one.given["y"].item() for one in batch] == [0, 1, 2, 3]
    for outside in (4, -5):
        with pytest.raises(IndexError):
            batch[outside]
    with pytest.raises(ConfigError, match="'y' of a Batch is a list. Make it a tensor"):
        Batch(x, {"y": y.tolist()})
    with pytest.raises(ConfigError, match="'observed' of a Batch is a ndarray. Make it a tensor"):
        Batch(x, {}, np.ones((4, 3), dtype=bool))


@pytest.mark.parametrize("store", [BYTES, Drawn(lambda index: BYTES.numpy()[index], tuple(BYTES.shape))])
def test_rows_that_were_chosen_twice_keep_their_own_inputs(store):
    index, y = torch.tensor([3, 3, 0, 3]), torch.arange(4.0)
    rows = (
        Rows(store, given={"old": torch.arange(20)} if isinstance(store, torch.Tensor) else {}).take(index).with_given({"y": y})
    )
    assert rows[:].given["y"].tolist() == y.tolist() and rows[[1, 3]].given["y"].tolist() == [1, 3]
    assert torch.equal(rows[:].x, Rows(store)[index]) and rows.take([3, 1])[:].given["y"].tolist() == [3, 1]
    assert "old" not in rows.given or rows[:].given["old"].tolist() == index.tolist()
