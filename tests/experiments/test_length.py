"""How long a run is, how often it measures and saves, and how a loss that is not finite ends it."""

from __future__ import annotations

import itertools
import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch
from one_run import PLAIN, SGD, STEPS, values
from torch import Tensor, nn

from experiments import checkpoint, progress, runner, stopping
from experiments.store import read_rows
from experiments.sweep import vectorised
from experiments.tasks.task import Measurement

# --- length and cadence ---------------------------------------------------------------------------


def test_steps_and_epochs_are_two_words_for_one_length(tmp_path: Path) -> None:
    epochs = tiny.config(tmp_path / "epochs", train__epochs=2.0)
    steps = tiny.config(tmp_path / "steps", train__epochs=None, train__steps=12)
    for config in (epochs, steps):
        assert runner.run(config).total_steps == 12
    assert forked.rows(epochs) == forked.rows(steps)
    assert forked.folder(epochs).name != forked.folder(steps).name


@pytest.mark.parametrize(("epochs", "steps"), [(0.01, 1), (0.5, 3), (1.5, 9), (1.6, 10)])
def test_parts_of_an_epoch_are_rounded_to_steps(tmp_path: Path, epochs: float, steps: int) -> None:
    config = tiny.config(tmp_path, train__epochs=epochs, schedule={})
    assert runner.run(config).step == steps
    last = read_rows(forked.folder(config) / "metrics.jsonl")[-1]
    assert (last["step"], last["epoch"]) == (steps, pytest.approx(steps / 6, abs=1e-5))


CADENCES = {
    "steps": ({"eval__every_steps": 4}, [4, 8, 10]),
    "the last": ({}, [10]),
    "rare": ({"eval__every_steps": 99}, [10]),
    "half epochs": ({"eval__every_epochs": 0.5}, [3, 6, 9, 10]),
    "each step": ({"eval__every_epochs": 0.001}, list(range(1, 11))),
}


@pytest.mark.parametrize(("changes", "steps"), CADENCES.values(), ids=list(CADENCES))
def test_evaluations_come_at_the_right_steps(
    tmp_path: Path, changes: dict[str, Any], steps: list[int]
) -> None:
    config = tiny.config(tmp_path, **{**STEPS, "train__steps": 10, **changes})
    outcome = runner.run(config)
    for split, metric in itertools.product(("val", "test"), ("top1", "loss")):
        for weights in ("raw", "ema"):
            assert list(values(config, split, metric, weights)) == steps
    assert list(values(config, "train", "loss")) == [4, 8, 10]
    assert {r["step"] for r in outcome.results} == {10}
    assert len(outcome.results) == 8


def test_the_training_loss_is_the_mean_of_its_window(tmp_path: Path) -> None:
    each = tiny.config(tmp_path / "1", **STEPS, train__steps=10, launch__log_every_steps=1)
    some = tiny.config(tmp_path / "4", **STEPS, train__steps=10, eval__every_steps=3)
    for config in (each, some):
        runner.run(config)
    single = list(values(each, "train", "loss").values())
    means = [sum(single[a:b]) / (b - a) for a, b in ((0, 4), (4, 8), (8, 10))]
    assert list(values(some, "train", "loss").values()) == pytest.approx(means, rel=1e-6)


def test_training_time_leaves_out_evaluation_and_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [50.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])

    def slow(owner: Any, name: str, seconds: float) -> None:
        work = getattr(owner, name)

        def slowed(*args: Any) -> Any:
            clock[0] += seconds
            return work(*args)

        monkeypatch.setattr(owner, name, slowed)

    slow(tiny.Task, "loss", 1.0)
    slow(tiny.Task, "_measure", 10.0)
    slow(checkpoint, "save", 100.0)
    config = tiny.config(
        tmp_path, **{**STEPS, "train__steps": 2, "eval__every_steps": 1}, train__ema_decay=None,
        checkpoint__every_steps=1,
    )  # fmt: skip
    runner.run(config)
    seconds = {m: values(config, "run", f"{m}_seconds")[2] for m in ("train", "evaluate", "save")}
    assert seconds == {"train": 2.0, "evaluate": 20.0, "save": 200.0}
    rows = read_rows(forked.folder(config) / "metrics.jsonl")
    assert max(r["seconds"] for r in rows) == 2.0


def test_the_clock_saves_a_run_and_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_call: Any
) -> None:
    clock = [50.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])

    def tick(*_: Any) -> None:
        clock[0] += 10.0

    on_call(tick)
    cadence: dict[str, Any] = {"checkpoint__every_steps": None, "checkpoint__every_seconds": 25.0}
    config = tiny.config(tmp_path, **STEPS, train__steps=8, **cadence, checkpoint__keep=9)
    saved = checkpoint.list_newest_first(runner.run(config).folder / "checkpoints")
    assert [checkpoint.step_of(path) for path in saved] == [8, 6, 3]


# --- a loss that is not finite --------------------------------------------------------------------

DIVERGING = {
    "on a report": (12, {"launch__log_every_steps": 4}),
    "between reports": (10, {"launch__log_every_steps": 4}),
    "the first step": (1, {"launch__log_every_steps": 4}),
    "long before a report": (5, {"launch__log_every_steps": 500}),
    "before an evaluation": (5, {"launch__log_every_steps": 500, "eval__every_epochs": 1.0}),
    "before a checkpoint": (8, {"launch__log_every_steps": 500, "checkpoint__every_steps": 5}),
    "the last step": (24, {"launch__log_every_steps": 7}),
}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("step", "changes"), DIVERGING.values(), ids=list(DIVERGING))
def test_a_loss_that_is_not_finite_ends_the_run_at_its_step(
    tmp_path: Path, on_call: Any, step: int, changes: dict[str, Any], bad: float
) -> None:
    calls: list[int] = []

    def spoil(number: int, loss: Tensor, _: Any) -> Tensor | None:
        calls.append(number)
        return loss * bad if number == step else None

    on_call(spoil)
    plain: dict[str, Any] = {"eval__every_epochs": None, "checkpoint__every_steps": None}
    config = tiny.config(tmp_path, **{**plain, **changes})
    outcome = runner.run(config)
    assert (outcome.state, outcome.step, outcome.exit_code) == ("diverged", step, 0)
    assert outcome.message == f"the loss of step {step} is not finite"
    rows = read_rows(outcome.folder / "metrics.jsonl")
    assert math.isnan(rows[-1]["value"])
    assert (rows[-1]["step"], rows[-1]["metric"]) == (step, "loss")
    assert all(r["step"] < step and math.isfinite(r["value"]) for r in rows[:-1])
    saved = checkpoint.list_newest_first(outcome.folder / "checkpoints")
    assert all(checkpoint.step_of(path) < step for path in saved)

    trained = len(calls)
    again = runner.run(config)
    assert (again.state, again.step, again.exit_code) == ("diverged", step, 0)
    assert len(calls) == trained
    assert len(read_rows(outcome.folder / "metrics.jsonl")) == len(rows)


ENDS: dict[str, tuple[str, str, float]] = {
    "the metric that decides": ("val", "top1", math.nan),
    "a loss": ("test", "loss", math.inf),
    "another metric": ("val", "spread", math.nan),
}


@pytest.mark.parametrize(("split", "metric", "value"), ENDS.values(), ids=list(ENDS))
@pytest.mark.parametrize("step", [6, 12])
def test_a_last_evaluation_that_is_not_finite_ends_the_run_as_diverged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    split: str,
    metric: str,
    value: float,
    step: int,
) -> None:
    measure = tiny.Task._measure

    def spoilt(self: Any, model: nn.Module, context: Any) -> Any:
        for found in measure(self, model, context):
            is_it = (found.split, found.metric) == (split, metric) and context.step == step
            yield replace(found, value=value) if is_it else found
        yield Measurement("val", "spread", value if metric == "spread" else 1.0, "", 37)

    monkeypatch.setattr(tiny.Task, "_measure", spoilt)
    config = tiny.config(tmp_path, train__epochs=2.0)
    outcome = runner.run(config)
    if metric == "spread" or step == 6:  # nothing decides by it; the run may recover
        assert (outcome.state, outcome.step) == ("finished", 12)
        return
    assert (outcome.state, outcome.step, outcome.exit_code) == ("diverged", 12, 0)
    assert outcome.message == f"{split} {metric} is not finite after the last step"
    assert values(config, split, metric)[12] == pytest.approx(value, nan_ok=True)
    assert runner.run(config).state == "diverged"
    assert max(map(checkpoint.step_of, outcome.folder.glob("checkpoints/*.pt"))) == 10
    again = tiny.config(tmp_path / "group", train__epochs=2.0, train__ema_decay=None, **PLAIN)
    group = [again, replace(again, seed=1)]
    assert {ended.state for ended in vectorised.run_group(group)} == {"diverged"}


def test_weights_that_are_not_finite_at_the_end_are_a_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the last step has done to them, and no evaluation can see."""
    measure = tiny.Task._measure

    def finite(self: Any, model: nn.Module, context: Any) -> Any:
        return [replace(found, value=1.0) for found in measure(self, model, context)]

    class Wild(torch.optim.SGD):
        def step(self, *args: Any) -> Any:
            found = super().step(*args)
            self.param_groups[0]["params"][0].data.view(-1)[3] = math.nan
            return found

    monkeypatch.setattr(tiny.Task, "_measure", finite)
    monkeypatch.setattr(torch.optim, "SGD", Wild)
    outcome = runner.run(tiny.config(tmp_path, **SGD, **STEPS, train__steps=1))
    assert outcome.state == "diverged"
    assert outcome.message == "the weight body.0.weight is not finite after the last step"


def test_a_step_is_named_right_with_accumulation_and_after_a_resume(
    tmp_path: Path, on_call: Any
) -> None:
    config = tiny.config(
        tmp_path, train__micro_batch_size=4, launch__log_every_steps=50, eval__every_epochs=None
    )
    assert forked.run(config, **{tiny.KILL_VARIABLE: "34"}) == -signal.SIGKILL  # in step 9
    on_call(lambda number, loss, _: loss * math.nan if number == 11 else None)  # 5 + 3rd
    assert (runner.run(config).state, runner.run(config).step) == ("diverged", 8)
