"""Two tasks written from outside, as CONTRIBUTING.md shows it, have everything that ours have.

`my_text`: every example weighs otherwise, smaller is better. `my_towers`: all examples of a step
meet in the loss. Both lie in tests/support/outside, with pages of their own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import my_text
import my_towers
import pytest
import torch
from outsiders import PAGES, SGD, STILL, TASKS, assert_close, config, losses, rows_of, weights

from experiments import compose, runner
from experiments.config import ConfigError, UserError
from experiments.data.order import seed_all
from experiments.identity import run_id
from experiments.jobs import evaluate, landscape
from experiments.store import read_json
from experiments.sweep.grouping import why_alone
from experiments.sweep.vectorised import groups, run_group


@pytest.mark.parametrize("task", TASKS)
def test_killed_and_resumed_is_bit_equal(
    tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = (config(tmp_path / name, task, "train.ema_decay=0.9") for name in "ab")
    runner.run(whole)
    kind = {"fill_in": my_text.FillIn, "match_halves": my_towers.MatchHalves}[task]
    loss, calls = kind.loss, iter(range(1, 99))

    def dies(self: Any, *args: Any) -> Any:
        if next(calls) == 5:
            raise RuntimeError("killed")
        return loss(self, *args)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(kind, "loss", dies)
        runner.run(part)
    runner.run(part)
    forked.assert_same_end(whole, part)


@pytest.mark.parametrize("micro", [16, 4])
@pytest.mark.parametrize("task", TASKS)
def test_micro_batches_give_the_loss_of_one_batch(tmp_path: Path, task: str, micro: int) -> None:
    one = config(tmp_path / "one", task, *SGD, *STILL[task])
    cut = config(tmp_path / "cut", task, *SGD, *STILL[task], f"train.micro_batch_size={micro}")
    for made in (one, cut):
        runner.run(made)
    assert_close(one, cut)


@pytest.mark.parametrize(
    "micro,strategy", [("null", "ddp"), ("8", "ddp"), ("null", "fsdp"), ("8", "fsdp")]
)
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_train_like_one(tmp_path: Path, task: str, micro: str, strategy: str) -> None:
    made = [*SGD, *STILL[task], f"train.micro_batch_size={micro}"]
    changes = [*made, f"launch.strategy={strategy}"]
    one, two = (config(tmp_path / name, task, *changes) for name in ("one", "two"))
    runner.run(one)
    assert forked.run_ranks(two, 2) == [0, 0]
    assert_close(one, two)
    ours, theirs = (rows_of(made, made_metric(task)) for made in (one, two))
    for row, other in zip(ours, theirs, strict=True):
        assert row["value"] == pytest.approx(other["value"], rel=1e-5)
        assert (row["split"], row["n"]) == (other["split"], other["n"])


def made_metric(task: str) -> str:
    return {"fill_in": "filled in", "match_halves": "recall"}[task]


def test_two_passes_draw_the_same_dropout(tmp_path: Path) -> None:
    """Otherwise the second pass would hand gradients to other numbers than the first had."""
    made = config(tmp_path, "match_halves")
    task = my_towers.MatchHalves(made.data, made.model)
    model = task.build_model()
    batch = tuple(half[:8] for half in task.source.splits["train"])
    seed_all(5)
    first = task.encode(model, batch)[1]
    seed_all(5)
    assert torch.equal(first, task.encode(model, batch)[1])
    assert not torch.equal(first, task.encode(model, batch)[1])


@pytest.mark.parametrize("task", TASKS)
def test_an_evaluation_later_is_that_of_the_training(tmp_path: Path, task: str) -> None:
    made = config(tmp_path, task, "eval.every_steps=3", "checkpoint.keep=9")
    runner.run(made)
    metric = made_metric(task)
    measured = {(r["step"], r["split"]): r["value"] for r in rows_of(made, metric)}
    assert {step for step, _ in measured} == {3, 6}
    for step in (3, 6):
        words = [f"run={run_id(made)}", f"results_dir={tmp_path}", f"checkpoint.step={step}"]
        asked = compose.compose(["job=evaluate", *words], str(PAGES))
        for row in evaluate.measure(asked).rows:
            if row["metric"] == metric:
                assert (row["step"], row["value"]) == (step, measured[step, row["split"]])
    assert len(rows_of(made, metric)) == len(measured)


def test_an_evaluation_that_is_only_asked_for_adds_rows(tmp_path: Path) -> None:
    made = config(tmp_path, "match_halves")
    runner.run(made)
    assert {row["split"] for row in rows_of(made, "recall")} == {"val", "test"}
    evaluate.main(replace(made, job="evaluate", evaluation="train"))
    assert {row["split"] for row in rows_of(made, "recall")} == {"val", "test", "train"}
    assert {row["evaluation"] for row in rows_of(made, "recall")} == {"matching", "train"}
    with pytest.raises(UserError, match="evaluation=tarin: this task has matching, train"):
        evaluate.measure(replace(made, job="evaluate", evaluation="tarin"))
    made.checkpoint.step = 4
    with pytest.raises(UserError, match=r"checkpoint.step=4: .*; there are: 3, 6"):
        evaluate.measure(replace(made, job="evaluate"))
    made.checkpoint.step = 3
    (torn,) = (tmp_path / run_id(made) / "checkpoints").glob("*3-*.pt")
    torn.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(UserError, match="that of step 3 is damaged; there are: 6"),
    ):
        evaluate.measure(replace(made, job="evaluate"))


@pytest.mark.parametrize("task", TASKS)
def test_runs_are_trained_together_or_it_is_said_why_not(tmp_path: Path, task: str) -> None:
    lrs = ("1e-3", "2e-3", "4e-3")
    changes = STILL[task]
    made = [config(tmp_path / "a", task, *changes, f"optimizer.lr={lr}") for lr in lrs]
    alone = [config(tmp_path / "b", task, *changes, f"optimizer.lr={lr}") for lr in lrs]
    assert groups(made) == [[0, 1, 2]]
    assert [entry.state for entry in run_group(made, compile=False)] == ["finished"] * 3
    for together, other in zip(made, alone, strict=True):
        runner.run(other)
        assert losses(together) == pytest.approx(losses(other), rel=1e-3)
        sessions = read_json(Path(together.results_dir) / run_id(together) / "run.json")
        assert sessions["sessions"][0]["launcher"].endswith("3 runs together")
    if task == "match_halves":
        assert "draws random numbers" in why_alone(config(tmp_path, task))


@pytest.mark.parametrize("task", TASKS)
def test_the_landscape_is_measured_with_the_tasks_own_weights(tmp_path: Path, task: str) -> None:
    small = ["landscape.num_draws=4", "landscape.sigmas=[0.01]", "landscape.relative_scales=[]"]
    small += ["landscape.num_examples=96", "landscape.hessian_examples=32"]
    made = config(tmp_path, task, *small, *STILL[task])
    runner.run(made)
    whole = {r["metric"]: r for r in landscape.measure(replace(made, job="landscape"))}
    assert {"loss", "loss_sigma_0.01", "hessian_top"} <= set(whole)
    if task == "fill_in":  # coupled losses do depend on the batch
        made.landscape.batch_size = 7
        cut = {r["metric"]: r for r in landscape.measure(replace(made, job="landscape"))}
        assert cut["loss"]["value"] == pytest.approx(whole["loss"]["value"], rel=1e-5)
        assert cut["hessian_top"]["value"] == pytest.approx(whole["hessian_top"]["value"], rel=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_a_run_begins_with_the_weights_of_another(tmp_path: Path, task: str) -> None:
    before = config(tmp_path, task)
    runner.run(before)
    after = config(tmp_path, task, f"start_from={run_id(before)}", "optimizer.lr=0")
    runner.run(after)
    wanted, found = weights(before), weights(after)
    assert all(torch.equal(w, found[name]) for name, w in wanted.items())


def test_the_header_says_what_decides(tmp_path: Path) -> None:
    made = config(tmp_path, "fill_in", "eval.weights=ema", "train.ema_decay=0.5")
    runner.run(made)
    header = read_json(tmp_path / run_id(made) / "run.json")
    assert '"better": "lower"' in header["headline"] and '"weights": "ema"' in header["headline"]
    assert header["example"] == "line of 12 characters"
    assert run_id(made) == run_id(config(tmp_path, "fill_in", "train.ema_decay=0.5"))


def test_a_coupled_loss_without_embeddings_takes_no_micro_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(my_towers.MatchHalves, "encode")
    made = config(tmp_path, "match_halves", "train.micro_batch_size=16")
    with pytest.raises(ConfigError, match=r"couples the global batch.*set train.micro_batch_size="):
        runner.run(made)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_unused_parameters_are_named_where_they_stop_two_processes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], strategy: str
) -> None:
    spare = ["+model.spare=true", f"launch.strategy={strategy}"]
    made = config(tmp_path, "match_halves", *spare)
    runner.run(made)
    again = config(tmp_path / "two", "match_halves", *spare)
    assert forked.run_ranks(again, 2) != [0, 0]
    said = capfd.readouterr().err
    assert "UserError: the loss does not use spare.weight, spare.bias" in said
    assert "param_groups.frozen=[spare.weight,spare.bias]" in said
    frozen = config(tmp_path / "frozen", "match_halves", *spare, "param_groups.frozen=[spare.*]")
    assert forked.run_ranks(frozen, 2) == [0, 0]


def test_a_frozen_tower_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No dropout in it, none of its weights moved, before and after an evaluation."""
    made = config(tmp_path, "match_halves", "param_groups.frozen=[lower.*]", "eval.every_steps=2")
    modes, encode = [], my_towers.MatchHalves.encode

    def watched(self: Any, model: Any, batch: Any) -> Any:
        if torch.is_grad_enabled():
            modes.append((model.upper.training, model.lower.training, model.lower[2].training))
        return encode(self, model, batch)

    monkeypatch.setattr(my_towers.MatchHalves, "encode", watched)
    runner.run(made)
    assert set(modes) == {(True, False, False)} and len(modes) == 6
    task = my_towers.MatchHalves(made.data, made.model)
    from experiments.data.order import derive

    seed_all(derive(made.seed, "init"))
    fresh = task.build_model().state_dict()
    assert torch.equal(weights(made)["lower.0.weight"], fresh["lower.0.weight"])
    assert not torch.equal(weights(made)["upper.0.weight"], fresh["upper.0.weight"])


def test_a_task_that_lacks_something_is_named(tmp_path: Path) -> None:
    made = config(tmp_path, "fill_in")
    made.task = {"_target_": "argparse.Namespace"}
    with pytest.raises(ConfigError, match="Namespace is no task: it lacks headline"):
        runner.run(made)
