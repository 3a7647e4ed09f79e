"""PlateauDetector: mean losses of epochs by hand, in both directions, and going on in the middle of an epoch."""

import pytest
import torch

from pyro_hvae.runs.checkpoints import load_checkpoint, save_checkpoint
from pyro_hvae.schedules.plateau import PlateauDetector, PlateauRule


def after(losses, rule=None, batches=1):
    """PlateauDetector after so many losses."""
    seen = PlateauDetector(rule or PlateauRule(epochs=1, tolerance=0.125), batches)
    for loss in losses:
        seen.add(torch.tensor(loss))
    return seen


def when(losses, rule=None, batches=1):
    """The number of losses after which it is reached first; None is never."""
    return next((n for n in range(1, len(losses) + 1) if after(losses[:n], rule, batches).reached), None)


def test_the_default_is_a_tenth_of_a_per_cent_over_five_epochs():
    assert PlateauRule() == PlateauRule(epochs=5, tolerance=1e-3)
    falling = [100.0 * 0.9999**n for n in range(9)]  # 0.05 % over five epochs
    assert when(falling, PlateauRule()) == 6
    assert when([100.0 * 0.9997**n for n in range(30)], PlateauRule()) is None  # 0.15 %


def test_epochs_are_means_of_their_batches():
    seen = after([1.0, 2.0, 6.0, 5.0, 5.0, 8.0, 100.0], batches=3)
    assert seen.epochs == [3.0, 6.0] and seen.count == 1 and not seen.reached
    assert after([4.0, 2.0, 2.75, 2.75], batches=2).reached  # 3 and 2.75, within an eighth


def test_it_is_the_epoch_so_many_before_that_counts():
    rule = PlateauRule(epochs=2, tolerance=0.125)
    assert when([8.0, 1.0, 8.0], rule) == 3  # though the one before was another
    assert when([8.0, 8.0, 8.0], rule) == 3  # not before there are so many
    assert when([8.0, 4.0, 4.0, 4.0], rule) == 4


@pytest.mark.parametrize(
    "now, flat",
    [(8.0, True), (7.25, True), (8.75, True), (7.0, False), (9.0, False), (6.0, False), (10.0, False), (-8.0, False)],
)
def test_a_change_is_relative_to_what_was_before_and_counts_in_both_directions(now, flat):
    """An eighth of 8 is 1, exactly; at the tolerance itself it is not yet flat."""
    assert after([8.0, now]).reached is flat
    assert after([8000.0, 1000 * now]).reached is flat
    assert after([-8.0, -now]).reached is flat


def test_it_is_relative_to_the_earlier_epoch():
    """From 8 to 9 is an eighth of 8, and from 9 to 8 less than an eighth of 9."""
    assert not after([8.0, 9.0]).reached and after([9.0, 8.0]).reached


def test_it_stays_so_until_the_next_epoch_ends():
    losses = [8.0, 8.0, 8.0, 8.0, 1.0, 1.0]
    assert [after(losses[:n], batches=2).reached for n in range(1, 7)] == [False, False, False, True, True, False]


def test_a_loss_that_is_no_number_is_not_flat():
    assert not after([8.0, float("nan")]).reached and not after([float("inf"), float("inf")]).reached


def test_without_a_rule_never():
    seen = PlateauDetector(None, 1)
    for _ in range(5):
        seen.add(torch.tensor(1.0))
    assert not seen.reached and seen.epochs == [] and seen.count == 0


def test_fewer_data_than_a_batch_are_an_epoch_each():
    assert after([8.0, 8.0], batches=0).epochs == [8.0, 8.0]


def test_the_loss_s_gradient_is_not_kept():
    seen = PlateauDetector(PlateauRule(), 3)
    seen.add(torch.tensor(1.0, requires_grad=True) * 2)
    assert not seen.sum.requires_grad


@pytest.mark.parametrize("cut", range(9))
def test_its_state_goes_on_in_the_middle_of_an_epoch(tmp_path, cut):
    """Through a file, as in a checkpoint, with losses whose sum depends on the order of rounding."""
    losses = (torch.rand(8, generator=torch.Generator().manual_seed(0)) * 10).tolist()
    whole, first = after(losses, batches=3), after(losses[:cut], batches=3)
    save_checkpoint(tmp_path / "a.pt", first.state_dict())
    second = PlateauDetector(first.rule, 3)
    second.load_state_dict(load_checkpoint(tmp_path / "a.pt"))
    for loss in losses[cut:]:
        second.add(torch.tensor(loss))
    assert second.epochs == whole.epochs and len(whole.epochs) == 2
    assert (second.count, second.sum.item(), second.reached) == (whole.count, whole.sum.item(), whole.reached)


def test_a_state_is_not_shared():
    first = after([8.0])
    second = PlateauDetector(first.rule, 1)
    second.load_state_dict(first.state_dict())
    second.add(torch.tensor(1.0))
    assert first.epochs == [8.0] and second.epochs == [8.0, 1.0]


def test_a_loss_under_other_weights_is_another_loss():
    seen = PlateauDetector(PlateauRule(epochs=1, tolerance=0.1), batches=1)
    for beta in (0.25, 0.5, 0.75, 1.0):
        seen.add(torch.tensor(3.0), {"z1": beta})
        assert seen.epochs == [3.0] and not seen.reached
    copy = PlateauDetector(seen.rule, 1)
    copy.load_state_dict(seen.state_dict())
    for each in (seen, copy):
        each.add(torch.tensor(3.0), {"z1": 1.0})
        assert each.reached
