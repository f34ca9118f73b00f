"""One run, from its first loss to its last row: what is trained, recorded, refused, and ended."""

from __future__ import annotations

import functools
import gc
import itertools
import math
import os
import signal
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch
from torch import Tensor, nn

from experiments import checkpoint, progress, runner, stopping, store
from experiments.config import ConfigError, RunConfig, UserError
from experiments.data.order import derive, seed_all
from experiments.jobs import evaluate
from experiments.progress import LossWindow
from experiments.recorder import Recorder
from experiments.store import read_json, read_rows
from experiments.sweep import vectorised
from experiments.tasks.task import Loss, Measurement

PLAIN = {"model__batch_norm": False, "model__dropout": 0.0}
"""No state and no noise in the model."""
SGD = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
ADAMW = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 3e-3, "weight_decay": 0.1}}
STEPS: dict[str, Any] = {"train__epochs": None, "eval__every_epochs": None}


@pytest.fixture
def on_call(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int, Tensor, Any], Any]], Any]:
    """Gives every loss of the tiny task to a function, with its number from 1 and its batch."""

    def install(function: Callable[[int, Tensor, Any], Any]) -> None:
        calls, loss = itertools.count(1), tiny.Task.loss

        def watched(self: Any, model: nn.Module, batch: Any, world: Any) -> Loss:
            found = loss(self, model, batch, world)
            changed = function(next(calls), found.mean, batch)
            return found if changed is None else Loss(changed)

        monkeypatch.setattr(tiny.Task, "loss", watched)

    return install


def values(config: RunConfig, split: str, metric: str, weights: str = "raw") -> dict[int, float]:
    return {
        r["step"]: r["value"]
        for r in read_rows(forked.folder(config) / "metrics.jsonl")
        if (r["split"], r["metric"], r["weights"]) == (split, metric, weights)
    }


def initial_weights(config: RunConfig) -> dict[str, Tensor]:
    seed_all(derive(config.seed, "init"))
    model = tiny.Net(**{k: v for k, v in config.model.items() if k != "_target_"})
    return {name: value.clone() for name, value in model.state_dict().items()}


# --- the step -------------------------------------------------------------------------------------


def test_each_micro_batch_of_each_step_has_noise_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr("experiments.accumulating.seed_all", seeds.append)
    sizes = {"train__batch_size": 12, "train__micro_batch_size": 4}
    runner.run(tiny.config(tmp_path, train__epochs=None, train__steps=2, **sizes))
    assert len(seeds) == len(set(seeds)) == 2 * 3


@pytest.mark.parametrize("changes", [ADAMW, SGD], ids=["adamw", "sgd"])
def test_accumulation_is_one_large_batch(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = tiny.config(tmp_path / "whole", **PLAIN, **changes)
    cut = tiny.config(tmp_path / "cut", train__micro_batch_size=4, **PLAIN, **changes)
    for config in (whole, cut):
        assert runner.run(config).state == "finished"
    losses = [list(values(config, "train", "loss").values()) for config in (whole, cut)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    wanted, found = (forked.weights(config)["model"] for config in (whole, cut))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)


def test_the_first_loss_is_that_of_guessing(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, launch__log_every_steps=1, **STEPS, train__steps=1)
    runner.run(config)
    assert values(config, "train", "loss")[1] == pytest.approx(math.log(4), abs=0.25)


def test_every_parameter_gets_a_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[dict[int, float]] = []
    step = torch.optim.SGD.step

    def watched(self: Any, *args: Any) -> Any:
        params = [p for group in self.param_groups for p in group["params"]]
        norms.append({i: float(p.grad.norm()) for i, p in enumerate(params)})
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    runner.run(tiny.config(tmp_path, **SGD, **STEPS, train__steps=2))
    assert len(norms) == 2
    assert all(len(each) == 6 and min(each.values()) > 0 for each in norms)


@pytest.mark.parametrize("optimizer", [{}, ADAMW], ids=["lion", "adamw"])
def test_one_batch_can_be_learnt_by_heart(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    changes = {**PLAIN, **optimizer, **STEPS, "train__steps": 120, "data__num_train": 16}
    config = tiny.config(tmp_path, **changes, task__max_shift=0, optimizer__weight_decay=0.0)
    runner.run(config)
    assert values(config, "train", "loss")[120] < 0.1 < 1 < values(config, "train", "loss")[4]


def test_gradients_are_clipped_by_their_global_norm(tmp_path: Path) -> None:
    """One step of SGD at lr 1 moves the weights by the gradient itself."""
    moved = []
    for norm in (None, 0.01):
        config = tiny.config(
            tmp_path / str(norm), optimizer={"_target_": "torch.optim.SGD", "lr": 1.0},
            schedule={"name": "constant"}, **PLAIN, **STEPS, train__steps=1,
            train__grad_clip_norm=norm, train__micro_batch_size=4,
        )  # fmt: skip
        runner.run(config)
        before, after = initial_weights(config), forked.weights(config)["model"]
        moved.append(torch.cat([(after[n] - before[n]).flatten() for n in before]).double())
    assert moved[0].norm() > 0.1
    assert moved[1].norm() == pytest.approx(0.01, rel=1e-3)
    assert torch.cosine_similarity(*moved, dim=0) > 0.999


def test_the_learning_rate_follows_the_schedule_in_every_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[float]] = []
    step = torch.optim.SGD.step

    def watched(self: Any, *args: Any) -> Any:
        seen.append([group["lr"] for group in self.param_groups])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    schedule = {"name": "linear", "warmup_steps": 2}
    config = tiny.config(
        tmp_path, **SGD, **STEPS, train__steps=6, schedule=schedule, launch__log_every_steps=1
    )
    runner.run(config)
    expected = [0.05, 0.1, 0.1, 0.075, 0.05, 0.025]
    assert [each[0] for each in seen] == pytest.approx(expected)
    assert all(len(each) == 2 and each[0] == each[1] for each in seen)
    assert list(values(config, "train", "lr").values()) == pytest.approx(expected)


def test_frozen_parameters_stay_and_are_not_counted(tmp_path: Path) -> None:
    frozen = ["body.0.*"]
    config = tiny.config(tmp_path, param_groups__frozen=frozen, **STEPS, train__steps=5)
    runner.run(config)
    before, after = initial_weights(config), forked.weights(config)["model"]
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {"body.0.weight", "body.0.bias"}
    header = read_json(forked.folder(config) / "run.json")
    assert header["num_params"] == 6 * 2 + 6 * 48 * 4 + 4


def test_decay_reaches_matrices_only(tmp_path: Path) -> None:
    """At lr x decay = 1 and no gradient worth the name, what decays is gone after one step."""
    config = tiny.config(
        tmp_path,
        optimizer={"_target_": "torch.optim.AdamW", "lr": 1e-6, "weight_decay": 1e6},
        schedule={"name": "constant"},
        **STEPS,
        train__steps=1,
    )
    runner.run(config)
    before, after = initial_weights(config), forked.weights(config)["model"]
    left = {
        name: float(after[name].abs().max() / before[name].abs().max())
        for name in before
        if before[name].is_floating_point() and before[name].abs().max() > 0
    }
    gone = {name for name, share in left.items() if share < 1e-3}
    assert gone == {"body.0.weight", "head.2.weight"}
    assert all(left[n] > 0.9 for n in ("body.0.bias", "body.1.weight", "head.2.bias"))


def test_the_average_is_that_of_the_formula(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, **STEPS, train__steps=5, checkpoint__every_steps=1,
                         checkpoint__keep=9)  # fmt: skip
    runner.run(config)
    average: dict[str, Tensor] = {}
    for path in reversed(checkpoint.list_newest_first(forked.folder(config) / "checkpoints")):
        content = checkpoint.load(path)
        for name, tensor in content["model"].items():
            if tensor.is_floating_point():
                before = average.get(name, tensor)
                average[name] = 0.9 * before + 0.1 * tensor
    found = content["average"]
    for name, tensor in average.items():
        torch.testing.assert_close(found[f"module.{name}"], tensor, rtol=1e-5, atol=1e-7)
    moved = max(float((tensor - content["model"][n]).abs().max()) for n, tensor in average.items())
    assert moved > 1e-3


def test_raw_and_averaged_weights_are_measured_under_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sizes(self: Any, model: nn.Module, context: Any) -> Any:
        yield Measurement("val", "loss", float(model.head[2].weight.norm()), "nats", 37)

    monkeypatch.setattr(tiny.Task, "_measure", sizes)
    config = tiny.config(tmp_path, **STEPS, train__steps=5)
    runner.run(config)
    saved = forked.weights(config)
    expected = saved["model"]["head.2.weight"], saved["average"]["module.head.2.weight"]
    found = [values(config, "val", "loss", weights)[5] for weights in ("raw", "ema")]
    assert found == [float(tensor.norm()) for tensor in expected]
    assert found[0] != found[1]


def test_telemetry_is_of_the_step_that_its_rows_name(tmp_path: Path) -> None:
    each = {"checkpoint__every_steps": 1, "checkpoint__keep": 9}
    config = tiny.config(
        tmp_path, **PLAIN, **SGD, **STEPS, **each, train__steps=5, tracking__telemetry_every_steps=2
    )
    runner.run(config)
    saved = [
        torch.cat([content["model"][name].flatten() for name in ("body.0.weight", "head.2.weight")])
        for path in reversed(checkpoint.list_newest_first(forked.folder(config) / "checkpoints"))
        for content in [checkpoint.load(path)]
    ]
    expected = {step: float((saved[step - 1] - saved[step - 2]).square().mean().sqrt())
                for step in (2, 4)}  # fmt: skip
    found = values(config, "telemetry", "update_rms/decay")
    assert found == {step: pytest.approx(size, rel=1e-4) for step, size in expected.items()}
    assert list(values(config, "telemetry", "sign_flips/decay")) == [2, 4]


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


# --- precision, compilation, memory format --------------------------------------------------------


def test_bf16_trains_under_autocast_and_keeps_float32_weights(tmp_path: Path, on_call: Any) -> None:
    seen: set[Any] = set()
    on_call(
        lambda *_: seen.add((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
    )
    config = tiny.config(tmp_path / "bf16", train__precision="bf16")
    assert runner.run(config).state == "finished"
    assert seen == {(True, torch.bfloat16)}
    assert not torch.is_autocast_enabled("cpu")
    tensors = forked.weights(config)["model"].values()
    assert {t.dtype for t in tensors} == {torch.float32, torch.int64}
    exact = tiny.config(tmp_path / "exact")
    runner.run(exact)
    ours, theirs = (list(values(c, "train", "loss").values()) for c in (config, exact))
    assert ours != theirs
    assert ours == pytest.approx(theirs, rel=0.1)


def test_bfloat16_weights_have_gradients_and_momenta_in_bfloat16(tmp_path: Path) -> None:
    settings = {"train__precision": "bf16", "train__ema_decay": None}
    config = tiny.config(tmp_path, **settings, train__param_dtype="bfloat16")
    assert runner.run(config).state == "finished"
    saved = forked.weights(config)
    floats = [x.dtype for x in saved["model"].values() if x.is_floating_point()]
    momenta = [state["exp_avg"].dtype for state in saved["optimizer"]["state"].values()]
    assert {*floats, *momenta} == {torch.bfloat16}


def test_on_a_cpu_auto_precision_is_float32(tmp_path: Path, on_call: Any) -> None:
    seen: set[bool] = set()
    on_call(lambda *_: seen.add(torch.is_autocast_enabled("cpu")))
    runner.run(tiny.config(tmp_path, **STEPS, train__steps=1))
    assert seen == {False}


def test_channels_last_changes_the_layout_and_not_the_numbers(tmp_path: Path, on_call: Any) -> None:
    layouts: list[bool] = []
    on_call(lambda _, __, b: layouts.append(b[0].is_contiguous(memory_format=torch.channels_last)))
    plain = tiny.config(tmp_path / "plain", **ADAMW)
    last = tiny.config(tmp_path / "last", **ADAMW, train__channels_last=True)
    for config in (plain, last):
        assert runner.run(config).state == "finished"
    assert all(layouts[24:])
    weight = forked.weights(last)["model"]["body.0.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    ours, theirs = (list(values(c, "train", "loss").values()) for c in (last, plain))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_compiled_training_is_the_same_and_its_checkpoint_has_plain_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend that only traces: what the compiler itself does is torch's to test."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    plain = tiny.config(tmp_path / "plain", **PLAIN)
    compiled = tiny.config(tmp_path / "compiled", **PLAIN, train__compile=True)
    for config in (plain, compiled):
        assert runner.run(config).state == "finished"
    assert forked.weights(plain)["model"].keys() == forked.weights(compiled)["model"].keys()
    ours, theirs = (list(values(c, "train", "loss").values()) for c in (compiled, plain))
    assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.slow
def test_the_real_compiler_trains_like_none(tmp_path: Path) -> None:
    torch._dynamo.reset()
    changes = {**PLAIN, **ADAMW, **STEPS, "train__steps": 8}
    plain = tiny.config(tmp_path / "plain", **changes)
    compiled = tiny.config(tmp_path / "compiled", **changes, train__compile=True)
    for config in (plain, compiled):
        assert runner.run(config).state == "finished"
    ours, theirs = (list(values(c, "train", "loss").values()) for c in (compiled, plain))
    assert ours == pytest.approx(theirs, rel=1e-4)


# --- evaluation of a run --------------------------------------------------------------------------


def test_evaluating_a_run_measures_its_last_checkpoint(tmp_path: Path, on_call: Any) -> None:
    config = tiny.config(tmp_path)
    trained = runner.run(config)
    before = forked.rows(config)
    on_call(lambda *_: pytest.fail("it trains"))
    outcome = evaluate.measure(tiny.config(tmp_path, job="evaluate"))
    assert (outcome.run_id, outcome.step) == (trained.run_id, 24)
    added = forked.rows(config)[len(before) :]
    expected = [r for r in before if r["step"] == 24 and r["split"] in ("val", "test")]
    assert added in ([], expected)  # measured again, or known already


def test_evaluating_what_was_never_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint to evaluate; train first"):
        evaluate.measure(tiny.config(tmp_path, job="evaluate"))


def test_an_evaluation_that_cannot_be_written_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.run(tiny.config(tmp_path, **STEPS, train__steps=2))

    write = os.write

    def full(handle: int, data: bytes) -> int:
        if data.startswith(b"{"):  # a row
            raise OSError(28, "No space left on device")
        return write(handle, data)

    monkeypatch.setattr(store.os, "write", full)
    monkeypatch.setattr(warnings, "warn", lambda *_, **__: None)
    with pytest.raises((OSError, UserError)):
        evaluate.measure(tiny.config(tmp_path, job="evaluate", **STEPS, train__steps=2))


# --- what is refused ------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "warm-up": ({"schedule__warmup_steps": 24}, r"warmup_steps=24 must be smaller than the 24 st"),
    "batch": ({"train__batch_size": 97}, r"batch_size=97 is larger than .* set .*=96 or less"),
    "model": ({"model___target_": "tiny.Nett"}, r"there is no tiny.Nett; did you mean tiny.Net"),
    "argument": ({"model__widht": 3}, r"model.widht: no such argument; did you mean model.width"),
    "value": ({"model__width": 7, "model__batch_norm": False}, r"model: cannot build tiny.Net: "),
    "task": ({"task__mixup_alfa": 1.0}, r"task.mixup_alfa: tiny.Task has no such argument"),
    "data": ({"data__number": 3}, r"data.number: no such argument"),
    "optimizer": ({"optimizer__beta": 0.9}, r"optimizer.beta: no such argument; .*optimizer.betas"),
    "group": (
        {"param_groups__no_decay": ["haed.*"]},
        r"param_groups: pattern 'haed.\*' matches no",
    ),
    "all frozen": ({"param_groups__frozen": ["*"]}, r"param_groups: nothing to train"),
    "odd mixup": (
        {"task__mixup_alpha": 0.5, "train__micro_batch_size": 1},
        r"1 must be even: set train.micro_batch_size=2",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        runner.run(tiny.config(tmp_path, **changes))


def test_a_missing_gpu_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="launch.device=cuda: no GPU .* set launch.device=cpu"):
        runner.run(tiny.config(tmp_path, launch__device="cuda"))


# --- fairness -------------------------------------------------------------------------------------


def trace(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Tensor], list[Tensor]]:
    """Weights before the first step, and the images of each step."""
    weights, batches, loss = [], [], tiny.Task.loss

    def watched(self: Any, model: nn.Module, batch: Any, world: Any) -> Loss:
        if not weights:
            weights.extend(p.detach().clone() for p in model.parameters())
        batches.append(batch[0].clone())
        return loss(self, model, batch, world)

    with monkeypatch.context() as patch:
        patch.setattr(tiny.Task, "loss", watched)
        runner.run(config)
    return weights, batches


def test_seeds_are_paired_over_optimizers_and_differ_among_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {**STEPS, "train__steps": 8}
    lion, adamw, other = (
        trace(tiny.config(tmp_path, **one, **changes), monkeypatch)
        for changes in ({}, ADAMW, {"seed": 1})
    )
    for mine, paired, different in zip(lion, adamw, other, strict=True):
        assert len(mine) == len(paired) > 5
        assert all(torch.equal(a, b) for a, b in zip(mine, paired, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(mine, different, strict=True) if a.std())


# --- how a run ends -------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_steps(
    tmp_path: Path, on_call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: dict[int, int] = {}
    add = LossWindow.add

    def add_watched(self: LossWindow, loss: Tensor) -> None:
        assert not loss.requires_grad  # it would hold the graph of its step
        add(self, loss)

    monkeypatch.setattr(LossWindow, "add", add_watched)

    def count(number: int, *_: Any) -> None:
        if number in (20, 60, 118):
            gc.collect()
            counts[number] = sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    on_call(count)
    changes = {**STEPS, "train__steps": 120, "eval__every_steps": 10, "eval__batch_size": 64}
    gc.collect()
    gc.freeze()  # what is there already need not be looked through each time
    try:
        runner.run(tiny.config(tmp_path, **changes))
    finally:
        gc.unfreeze()
    assert counts[20] == counts[60] == counts[118]


def test_a_run_killed_before_its_last_word_doubles_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config(tmp_path, train__epochs=1.0)
    monkeypatch.setattr(Recorder, "end", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert forked.run(config) == -signal.SIGKILL
    monkeypatch.undo()
    assert runner.run(config).state == "finished"
    keys = [
        (r["step"], r["split"], r["metric"], r["weights"])
        for r in read_rows(forked.folder(config) / "metrics.jsonl")
    ]
    assert len(keys) == len(set(keys))


def test_main_prints_one_line_on_how_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny.config(tmp_path, train__ema_decay=None)
    assert runner.main(config) == 0
    (line,) = capsys.readouterr().out.splitlines()
    folder = forked.folder(config)
    assert line.startswith(f"{folder.name}: finished, step 24 of 24, val top1 ")
    assert line.endswith(f" -> {folder}")
    assert "test top1" in line and "%" in line and "nats" in line
