"""The learning rate of each step, against the formulas of the docstring worked by hand."""

from __future__ import annotations

import math

import pytest

from experiments.config import ConfigError, ScheduleConfig
from experiments.schedule import factor, warmup_length


def curve(total: int, **settings: object) -> list[float]:
    schedule = ScheduleConfig(**settings)  # type: ignore[arg-type]
    return [factor(schedule, step, total) for step in range(total)]


def test_cosine_without_warmup_is_half_a_cosine() -> None:
    expected = [1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4]
    assert curve(4) == pytest.approx(expected, abs=1e-12)


def test_warmup_is_linear_loses_no_step_and_joins_the_peak() -> None:
    found = curve(9, warmup_steps=4, name="linear")
    assert found[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert found[5:] == pytest.approx([0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_decay_falls_from_the_peak_towards_the_final_fraction(name: str) -> None:
    found = curve(1000, name=name, warmup_fraction=0.1, final_fraction=0.2)
    assert found[100] == 1.0
    assert all(a > b for a, b in zip(found[100:-1], found[101:], strict=True))
    assert 0.2 < found[-1] < 0.2 + 0.002
    middle = (1 + 0.2) / 2
    assert found[550] == pytest.approx(middle)


def test_constant_stays_at_the_peak_after_warmup() -> None:
    assert curve(5, name="constant", warmup_steps=2) == [0.5, 1, 1, 1, 1]


def test_rsqrt_falls_to_half_after_three_timescales_and_cools_down_to_nothing() -> None:
    found = curve(100, name="rsqrt", warmup_steps=10, timescale=20, cooldown_steps=10)
    assert found[:11] == pytest.approx([*(n / 10 for n in range(1, 11)), 1.0])
    assert found[70] == pytest.approx(0.5)  # 1 / sqrt(1 + 60 / 20)
    assert found[90] == pytest.approx(1 / math.sqrt(5))
    assert found[99] == pytest.approx(0.1 / math.sqrt(1 + 89 / 20))
    assert all(a > b for a, b in zip(found[10:-1], found[11:], strict=True))


def test_rsqrt_is_that_of_big_vision() -> None:
    """As its create_learning_rate_schedule has it, but for the warm-up (ours loses no step)."""
    total, warmup, timescale, cooldown = 1000, 100, 150, 200
    found = curve(
        total, name="rsqrt", warmup_steps=warmup, timescale=timescale, cooldown_steps=cooldown
    )
    for step in range(warmup, total):
        theirs = 1 / math.sqrt(1 + (step - warmup) / timescale) * min(1, (total - step) / cooldown)
        assert found[step] == pytest.approx(theirs, rel=1e-12)


def test_constant_cools_down_too_and_nothing_may_cool_in_the_warmup() -> None:
    assert curve(5, name="constant", cooldown_steps=2) == [1, 1, 1, 1, 0.5]
    found = curve(5, name="constant", warmup_steps=2, cooldown_steps=3)  # all that is left
    assert found == pytest.approx([1 / 2, 1, 1, 2 / 3, 1 / 3])
    with pytest.raises(ConfigError, match=r"=5: only 4 of the 5 steps .*_steps=0 or"):
        curve(5, name="rsqrt", warmup_steps=1, cooldown_steps=5)


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "rsqrt"])
@pytest.mark.parametrize("total", [1, 2, 7])
def test_no_step_trains_at_zero_or_beyond_the_peak(name: str, total: int) -> None:
    for warmup in range(total):
        assert all(0 < f <= 1 for f in curve(total, name=name, warmup_steps=warmup))


def test_steps_win_over_the_fraction() -> None:
    assert warmup_length(ScheduleConfig(warmup_steps=3, warmup_fraction=0.5), 100) == 3
    assert warmup_length(ScheduleConfig(warmup_steps=0, warmup_fraction=0.5), 100) == 0
    assert warmup_length(ScheduleConfig(warmup_fraction=0.05), 135) == 7  # of 6.75


@pytest.mark.parametrize(
    "settings", [{"warmup_steps": 100}, {"warmup_steps": 5000}, {"warmup_fraction": 1.0}]
)
def test_a_warmup_as_long_as_the_run_is_refused_with_a_remedy(settings: dict[str, float]) -> None:
    schedule = ScheduleConfig(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"100 steps of the run: set schedule.warmup_steps=5 or"):
        warmup_length(schedule, 100)


def test_a_run_too_short_to_warm_up_is_told_so() -> None:
    with pytest.raises(ConfigError, match=r"the 1 steps of the run: set .*warmup_steps=0 or"):
        warmup_length(ScheduleConfig(warmup_steps=1), 1)


def test_a_shape_that_is_not_there_is_no_cosine() -> None:
    with pytest.raises(ConfigError, match="schedule.name=one_cycle: no shape"):
        factor(ScheduleConfig(name="one_cycle"), 3, 10)


def test_a_negative_warmup_is_refused() -> None:
    with pytest.raises(ConfigError, match="schedule.warmup_steps=-1"):
        warmup_length(ScheduleConfig(warmup_steps=-1), 100)
