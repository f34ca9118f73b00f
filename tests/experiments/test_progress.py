"""Counting losses and seconds."""

from __future__ import annotations

import math

import pytest
import torch

from experiments import progress
from experiments.distributed import World
from experiments.progress import LossWindow, Stopwatch

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)


def window(size: int, *losses: float) -> LossWindow:
    made = LossWindow(size, CPU)
    for loss in losses:
        made.add(torch.tensor(loss))
    return made


def test_the_mean_is_over_what_came_since_the_last_report() -> None:
    losses = window(3, 1.0, 2.0)
    assert not losses.is_full
    losses.add(torch.tensor(6.0))
    assert losses.is_full
    assert losses.settle(ALONE, 3) is None
    assert losses.mean() == 3.0 and losses.latest() == 6.0
    losses.clear()
    losses.add(torch.tensor(10.0))
    assert losses.settle(ALONE, 4) is None
    assert losses.mean() == 10.0 and not losses.is_full


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_the_first_step_whose_loss_is_not_finite_is_named(place: int, bad: float) -> None:
    values = [1.0] * place + [bad] + [math.nan] * (3 - place)
    assert window(9, *values).settle(ALONE, 24) == 21 + place


def test_a_bad_step_is_named_right_after_an_earlier_settling() -> None:
    losses = window(9, 1.0, 1.0)
    assert losses.settle(ALONE, 12) is None
    losses.add(torch.tensor(1.0))
    losses.add(torch.tensor(math.nan))
    assert losses.settle(ALONE, 14) == 14


def test_settling_with_nothing_new_changes_nothing() -> None:
    losses = window(4, 1.0, 3.0)
    for _ in range(3):
        assert losses.settle(ALONE, 2) is None
    assert losses.mean() == 2.0


class WithNine(World):
    """Two processes; the loss of the other is always 9."""

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        return values.add_(9)


def test_no_loss_is_averaged_over_the_processes_twice() -> None:
    world = WithNine(0, 2, CPU)
    losses = window(4, 1.0, 3.0)
    losses.settle(world, 2)
    losses.add(torch.tensor(5.0))
    losses.settle(world, 3)
    assert losses.state() == [5.0, 6.0, 7.0]


def test_a_saved_window_goes_on_where_it_stopped() -> None:
    saved = window(4, 0.1, 0.2).state()
    losses = window(4)
    losses.load(saved)
    losses.add(torch.tensor(0.3))
    assert losses.settle(ALONE, 3) is None
    assert losses.mean() == pytest.approx(0.2)
    losses.add(torch.tensor(math.inf))
    assert losses.settle(ALONE, 4) == 4


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_window_larger_than_todays_keeps_its_newest_and_leaves_room(size: int) -> None:
    losses = window(size)
    losses.load([1.0, 2.0, 3.0, 4.0])
    assert losses.state() == [1.0, 2.0, 3.0, 4.0][5 - size :]
    losses.add(torch.tensor(5.0))
    assert losses.is_full


class Clock:
    """Stands in for time.perf_counter."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.now)


def test_each_second_is_booked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    watch = Stopwatch()
    clock.now = 105.0  # building
    watch.start()
    for seconds, what in ((2.0, "train"), (5.0, "evaluate"), (1.0, "save"), (4.0, "train")):
        clock.now += seconds
        watch.lap(what)
    assert watch.seconds == {"train": 6.0, "evaluate": 5.0, "save": 1.0}


def test_the_rate_is_that_since_the_last_question(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    watch = Stopwatch()
    assert watch.laps_per_second(50) == 0.0
    clock.now += 2.0
    assert watch.laps_per_second(60) == 5.0
    assert watch.laps_per_second(61) == 0.0  # no time has passed
    clock.now += 1.0
    assert watch.laps_per_second(63) == 2.0
