"""One run: its precision, how it is evaluated, what is refused, its seeds, how it ends."""

from __future__ import annotations

import functools
import gc
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch
from one_run import ADAMW, PLAIN, STEPS, values
from torch import Tensor, nn

from experiments import runner, store
from experiments.config import ConfigError, RunConfig, UserError
from experiments.jobs import evaluate
from experiments.progress import LossWindow
from experiments.recorder import Recorder
from experiments.store import read_rows
from experiments.tasks.task import Loss

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
