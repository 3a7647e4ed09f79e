"""Rows that are loaded into memory."""

import torch

from pyro_hvae.data import Rows, rows
from pyro_hvae.data.rows import bernoulli


def test_held_rows_are_the_same_values_in_memory(monkeypatch):
    monkeypatch.setattr(rows, "PIECE_ROWS", 32)
    raw = torch.randint(0, 256, (90, 3, 2), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    calls = []

    def view(x):
        calls.append(len(x))
        return x.flatten(1) * 2

    for lazy in (Rows(raw).map(view), Rows(raw).take(torch.arange(70, 3, -1)).map(view), Rows(raw).take([5]).map(view)):
        expected = lazy[:]
        calls.clear()
        held = lazy.load_into_memory()
        assert sum(calls) == len(lazy) + 1 and max(calls) <= 32
        calls.clear()
        assert held.shape == lazy.shape and held.device == lazy.device and len(held) == len(lazy)
        assert torch.equal(held[:], expected) and torch.equal(held[0], expected[0])
        assert calls == [] and isinstance(held.store, torch.Tensor) and held.store.dtype == torch.float32
    assert torch.equal(Rows(raw).load_into_memory()[:], raw.float() / 255)


def test_random_rows_are_drawn_once_when_held():
    lazy = Rows(torch.full((50, 4), 128, dtype=torch.uint8), bernoulli)
    assert not torch.equal(lazy[:], lazy[:])
    held = lazy.load_into_memory()
    assert torch.equal(held[:], held[:]) and 0.3 < held[:].mean() < 0.7


def test_rows_that_take_more_than_there_is_stay_lazy(monkeypatch):
    lazy = Rows(torch.rand(90, 5)).map(lambda x: x * 2)
    monkeypatch.setattr(rows, "MEMORY_BYTES", 90 * 5 * 4)
    assert lazy.load_into_memory() is not lazy
    monkeypatch.setattr(rows, "MEMORY_BYTES", 90 * 5 * 4 - 1)
    assert lazy.load_into_memory() is lazy
