"""Runs trained together end as they would alone, and nothing that happens to one moves another."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch
from torch import Tensor

from experiments import checkpoint, runner
from experiments.config import RunConfig, UserError
from experiments.distributed import World
from experiments.identity import run_id
from experiments.jobs import evaluate
from experiments.recorder import Recorder
from experiments.stopping import STOP, Stopper
from experiments.store import Folder, read_json, read_rows
from experiments.sweep import group_training
from experiments.sweep.group_training import MEASURED_STEPS, Pace
from experiments.sweep.pool import Finished
from experiments.sweep.vectorised import groups, run_group

LION = {"_target_": "lion.Lion", "_partial_": True, "lr": 3e-3, "weight_decay": 0.1}
ADAMW = {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 3e-3, "weight_decay": 0.1}
PROGRAM = {
    "_target_": "experiments.search.export.ProgramOptimizer",
    "_partial_": True,
    "lr": 3e-3,
    "path": "rmsprop",
}
SGD = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "momentum": 0.9}
LONG = {"train__epochs": 60.0, "eval__every_epochs": None, "checkpoint__every_steps": None}
LOSS_TOLERANCE = 1e-5
"""Relative, over the 24 steps of the tiny runs; measured: 1e-6 and less. Float32 rounds otherwise
when models are stacked; a sign that flips moves one weight by 2 lr."""
KEPT = ("step", "epoch", "split", "metric", "unit", "weights", "n")


def make(folder: Path, **changes: Any) -> RunConfig:
    plain = {
        "model": {"_target_": "tiny.Net", "batch_norm": False, "dropout": 0.0},
        "train__ema_decay": None,
    }
    return tiny.config(folder, **{**plain, **changes})


def grid(folder: Path, optimizer: dict[str, Any] = LION, **changes: Any) -> list[RunConfig]:
    """Four members that differ in everything in which members may differ."""
    lr = optimizer["lr"]
    own: list[dict[str, Any]] = [{}, {"lr": lr / 3}, {"weight_decay": 0.5}, {"lr": lr * 2}]
    if optimizer["_target_"] in (LION["_target_"], ADAMW["_target_"]):
        own[1]["betas"] = [0.8, 0.95]
        optimizer = {**optimizer, "betas": [0.9, 0.99]}
    optimizer = {"weight_decay": 0.0, **optimizer}
    return [
        make(folder, optimizer={**optimizer, **settings}, seed=seed, **changes)
        for settings, seed in zip(own, (0, 1, 1, 2), strict=True)
    ]


def folder_of(config: RunConfig) -> Path:
    return Path(config.results_dir) / run_id(config)


def elsewhere(config: RunConfig, folder: Path) -> RunConfig:
    return replace(config, results_dir=str(folder))


def curve(config: RunConfig) -> list[tuple[tuple[Any, ...], float]]:
    rows = read_rows(folder_of(config) / "metrics.jsonl")
    return [(tuple(r[k] for k in KEPT), r["value"]) for r in rows if r["split"] != "run"]


def saved(config: RunConfig) -> dict[str, Any]:
    found = checkpoint.find_good(folder_of(config) / "checkpoints")
    assert found is not None
    return checkpoint.load(found)


def states(finished: Sequence[Finished]) -> dict[int, str]:
    assert len({entry.index for entry in finished}) == len(finished)
    return {entry.index: entry.state for entry in finished}


def assert_same(ours: RunConfig, theirs: RunConfig, tolerance: float = LOSS_TOLERANCE) -> None:
    """The same rows at the same steps, with the same values but for rounding."""
    (keys, values), (their_keys, their_values) = zip(*curve(ours)), zip(*curve(theirs))  # noqa: B905
    assert keys == their_keys
    assert values == pytest.approx(their_values, rel=tolerance)
    one, other = saved(ours), saved(theirs)
    assert one["step"] == other["step"]
    assert one["losses"] == pytest.approx(other["losses"], rel=tolerance)
    for name, weight in other["model"].items():
        torch.testing.assert_close(one["model"][name], weight, rtol=1e-4, atol=1e-5)
    ours_state, their_state = one["optimizer"], other["optimizer"]
    assert ours_state["state"].keys() == their_state["state"].keys()
    for number, state in their_state["state"].items():
        assert ours_state["state"][number].keys() >= state.keys()
        for key, value in state.items():
            torch.testing.assert_close(
                ours_state["state"][number][key], value, rtol=1e-3, atol=1e-5
            )
    assert ours_state["param_groups"] == their_state["param_groups"]


def train_alone(configs: Sequence[RunConfig], folder: Path) -> list[RunConfig]:
    single = [elsewhere(config, folder) for config in configs]
    for config in single:
        runner.run(config)
    return single


@pytest.mark.parametrize(
    "optimizer", [LION, ADAMW, SGD, PROGRAM], ids=["lion", "adamw", "sgd", "program"]
)
def test_members_train_as_alone(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    together = grid(tmp_path / "together", optimizer)
    assert groups(together) == [[0, 1, 2, 3]]
    finished = run_group(together)
    assert states(finished) == dict.fromkeys(range(4), "finished")
    alone = train_alone(together, tmp_path / "alone")
    for ours, theirs in zip(together, alone, strict=True):
        assert_same(ours, theirs)
        headers = [read_json(folder_of(c) / "run.json") for c in (ours, theirs)]
        for header in headers:
            header["sessions"] = [sorted(session) for session in header["sessions"]]
        assert headers[0] == headers[1]
        files = [{p.name for p in folder_of(c).iterdir()} for c in (ours, theirs)]
        assert files[0] == files[1]
        texts = [(folder_of(c) / "config.yaml").read_text() for c in (ours, theirs)]
        assert texts[0].replace("together", "alone") == texts[1]
        assert read_json(folder_of(ours) / "status.json")["state"] == "finished"
        logs = [(folder_of(c) / "log.txt").read_text().splitlines() for c in (ours, theirs)]
        assert [line.split(" ")[1] for line in logs[0]] == [line.split(" ")[1] for line in logs[1]]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"_target_": "odd_nets.Spare", "batch_norm": False, "dropout": 0.0}},
        {"param_groups__frozen": ["body.0.*"], "param_groups__no_decay": ["head.2.weight"]},
        {"train__grad_clip_norm": None, "task__label_smoothing": 0.1, "train__batch_size": 13},
    ],
    ids=["unused and tied", "frozen", "no clipping"],
)
def test_other_settings_train_as_alone(tmp_path: Path, changes: dict[str, Any]) -> None:
    together = grid(tmp_path / "together", **changes)
    assert states(run_group(together)) == dict.fromkeys(range(4), "finished")
    for ours, theirs in zip(together, train_alone(together, tmp_path / "alone"), strict=True):
        assert_same(ours, theirs)


def test_the_runner_evaluates_and_continues_what_a_group_has_saved(tmp_path: Path) -> None:
    configs = grid(tmp_path)
    run_group(configs)
    for config in configs:
        before = {r["split"]: r for r in read_rows(folder_of(config) / "metrics.jsonl")}
        outcome = evaluate.measure(replace(config, job="evaluate"))
        assert outcome.rows and outcome.step == 24
        for row in outcome.rows:
            if row["metric"] == "loss":
                assert row["value"] == pytest.approx(before[row["split"]]["value"], rel=1e-6)


def test_time_is_shared_out(tmp_path: Path) -> None:
    configs = grid(tmp_path)
    began = time.perf_counter()
    run_group(configs)
    elapsed = time.perf_counter() - began
    rows = [r for c in configs for r in read_rows(folder_of(c) / "metrics.jsonl")]
    spent = [r["value"] for r in rows if r["split"] == "run"]
    trained = {r["value"] for r in rows if r["metric"] == "train_seconds"}
    assert len(spent) == 12 and min(spent) > 0
    assert sum(spent) < elapsed
    assert len(trained) == 1  # equal shares


def test_a_member_that_diverges_disturbs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrunk: list[int] = []
    keep = group_training.Stack.keep

    def note(self: Any, rows: list[int]) -> None:
        shrunk.append(len(rows))
        keep(self, rows)

    monkeypatch.setattr(group_training.Stack, "keep", note)
    for place, pays in enumerate((False, True)):
        monkeypatch.setattr(Pace, "pays_to_shrink", lambda *_, pays=pays: pays)
        configs = grid(tmp_path / f"{place}", SGD, train__grad_clip_norm=None)
        wild = {**configs[0].optimizer, "lr": 1e30}
        configs.insert(1, replace(configs[0], optimizer=wild, seed=7))
        finished = run_group(configs)
        assert states(finished) == {i: "diverged" if i == 1 else "finished" for i in range(5)}
        assert finished[0].index == 1
        alone = train_alone(configs, tmp_path / "alone")
        for index in (0, 2, 3, 4):
            assert_same(configs[index], alone[index])
        ours, theirs = ([repr(entry) for entry in curve(c)] for c in (configs[1], alone[1]))
        assert ours == theirs  # nan is not equal to itself
        status = [read_json(folder_of(c) / "status.json") for c in (configs[1], alone[1])]
        for key in ("state", "step", "message", "total_steps"):
            assert status[0][key] == status[1][key]
    assert shrunk == [4]


def test_finished_members_are_not_trained_again(tmp_path: Path) -> None:
    configs = grid(tmp_path)
    run_group(configs[1:3])
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.name != ".lock"}
    told: list[tuple[list[int], list[int]]] = []

    def note(running: list[int], finished: list[Finished]) -> None:
        told.append((list(running), [entry.index for entry in finished]))

    finished = run_group(configs, note)
    assert states(finished) == dict.fromkeys(range(4), "finished")
    kept = [p for p in before if p.is_file()]
    assert {p: p.stat().st_mtime_ns for p in kept} == {p: before[p] for p in kept}
    assert told[0] == ([0, 3], [1, 2]) and told[-1][0] == []
    assert [entry.index for entry in finished] == told[-1][1] == [1, 2, 0, 3]


# --- stopping and going on ------------------------------------------------------------------------


def start(configs: list[RunConfig]) -> Any:
    def work() -> None:
        ended = run_group(configs)
        os._exit(len([entry for entry in ended if entry.state == "interrupted"]))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def wait_for_rows(config: RunConfig, number: int) -> None:
    forked.wait_for(lambda: len(read_rows(folder_of(config) / "metrics.jsonl")) >= number)


def test_a_signal_saves_all_and_the_next_call_goes_on(tmp_path: Path) -> None:
    configs = grid(tmp_path / "stopped", **LONG)
    process = start(configs)
    wait_for_rows(configs[3], 20)
    os.kill(process.pid, signal.SIGTERM)
    assert forked.join(process) == 4
    steps = {read_json(folder_of(c) / "status.json")["step"] for c in configs}
    assert len(steps) == 1
    for config in configs:
        status = read_json(folder_of(config) / "status.json")
        assert status["state"] == "interrupted" and saved(config)["step"] == status["step"] > 0
        assert not Folder(folder_of(config)).is_held()

    again = [replace(c, results_dir=c.results_dir) for c in configs]
    assert states(run_group(again)) == dict.fromkeys(range(4), "finished")
    whole = [elsewhere(c, tmp_path / "whole") for c in configs]
    run_group(whole)
    for ours, theirs in zip(configs, whole, strict=True):
        assert [key for key, _ in curve(ours)] == [key for key, _ in curve(theirs)]
        assert curve(ours)[0][1] == curve(theirs)[0][1]
        assert len(read_json(folder_of(ours) / "run.json")["sessions"]) == 2


def test_a_signal_in_the_last_step_is_no_reason_to_be_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = grid(tmp_path, train__epochs=1.0)
    asked: list[int] = []
    steps = 6

    def wish(_: Stopper) -> int:
        asked.append(1)
        return STOP if len(asked) == steps else 0

    monkeypatch.setattr(Stopper, "wish", wish)
    assert states(run_group(configs)) == dict.fromkeys(range(4), "finished")
    assert len(asked) == steps


def test_members_that_stand_at_different_steps_go_on_from_there(tmp_path: Path) -> None:
    configs = grid(tmp_path / "runs", ADAMW)  # which counts its steps
    killed = {tiny.KILL_VARIABLE: "13"}  # the newest checkpoint is of step 10
    assert forked.run(configs[2], **killed) == -signal.SIGKILL
    assert saved(configs[2])["step"] == 10
    assert states(run_group(configs)) == dict.fromkeys(range(4), "finished")
    sessions = [read_json(folder_of(c) / "run.json")["sessions"] for c in configs]
    assert [[s["start_step"] for s in of_run] for of_run in sessions] == [[0], [0], [0, 10], [0]]
    for ours, theirs in zip(configs, train_alone(configs, tmp_path / "alone"), strict=True):
        assert_same(ours, theirs)


def test_a_killed_group_goes_on_and_the_runner_may_finish_it(tmp_path: Path) -> None:
    configs = grid(tmp_path / "killed", **{**LONG, "checkpoint__every_steps": 20})
    process = start(configs)
    for config in configs:
        forked.wait_for(lambda c=config: list(folder_of(c).glob("checkpoints/step_*")))
    process.kill()
    process.join()
    assert {read_json(folder_of(c) / "status.json")["state"] for c in configs} == {"running"}
    assert runner.run(configs[0]).state == "finished"
    assert states(run_group(configs)) == dict.fromkeys(range(4), "finished")
    for config in configs:
        rows = curve(config)
        assert len({key for key, _ in rows}) == len(rows)
        assert saved(config)["step"] == rows[-1][0][0] == 360


# --- what cannot be trained together, and what goes wrong -----------------------------------------


@pytest.mark.parametrize("kind, reason", [("Noisy", "random"), ("Counting", "buffers")])
def test_what_the_first_batch_shows_trains_one_after_another(
    tmp_path: Path, kind: str, reason: str
) -> None:
    model = {"_target_": f"odd_nets.{kind}", "batch_norm": False, "dropout": 0.0}
    configs = grid(tmp_path / "together", model=model)
    with pytest.warns(UserWarning, match=f"one after another: .*{reason}"):
        finished = run_group(configs)
    assert states(finished) == dict.fromkeys(range(4), "finished")
    for ours, theirs in zip(configs, train_alone(configs, tmp_path / "alone"), strict=True):
        assert curve(ours) == curve(theirs)


@pytest.mark.parametrize(
    "kind, reason", [("Louder", "its loss is"), ("Steeper", "the gradient of body.0.weight")]
)
def test_a_stack_that_is_not_what_its_models_are_alone_is_not_trained(
    tmp_path: Path, kind: str, reason: str
) -> None:
    model = {"_target_": f"odd_nets.{kind}", "batch_norm": False, "dropout": 0.0}
    short = {"train__epochs": None, "train__steps": 1, "eval__every_epochs": None}
    with pytest.warns(UserWarning, match=f"one after another: {reason}"):
        finished = run_group(grid(tmp_path, model=model, **short)[:2])
    assert states(finished) == {0: "finished", 1: "finished"}


def test_a_member_that_is_held_or_refused_fails_alone(tmp_path: Path) -> None:
    configs = grid(tmp_path / "together")
    wrong = replace(configs[0], optimizer={**configs[0].optimizer, "lr": -1.0})
    world = World(0, 1, torch.device("cpu"))
    with Recorder.opened(configs[2], world):
        finished = run_group([*configs, wrong])
    assert states(finished) == {
        0: "finished", 1: "finished", 2: "failed", 3: "finished", 4: "failed"
    }  # fmt: skip
    messages = {entry.index: entry.message for entry in finished}
    assert "being trained already" in messages[2] and "lr must be" in messages[4]
    assert not Folder(folder_of(configs[0])).is_held()


def test_a_member_that_cannot_be_saved_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = grid(tmp_path)
    save = checkpoint.save

    def full(folder: Path, step: int, content: dict[str, Any], keep: int) -> Path:
        if content["run_id"] == run_id(configs[1]) and step == 24:
            raise checkpoint.CheckpointError("no space left")
        return save(folder, step, content, keep)

    monkeypatch.setattr(checkpoint, "save", full)
    finished = run_group(configs)
    assert states(finished) == {0: "finished", 1: "failed", 2: "finished", 3: "finished"}
    assert read_json(folder_of(configs[1]) / "status.json")["state"] == "failed"
    monkeypatch.undo()
    assert states(run_group(configs)) == dict.fromkeys(range(4), "finished")


def test_what_breaks_for_all_is_noted_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = grid(tmp_path)

    def broken(*_: Any) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(group_training.Stack, "step", broken)
    finished = run_group(configs)
    assert states(finished) == dict.fromkeys(range(4), "failed")
    assert all("out of memory" in entry.message for entry in finished)
    assert {read_json(folder_of(c) / "status.json")["state"] for c in configs} == {"failed"}


def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    configs = [make(tmp_path), make(tmp_path, train__batch_size=32)]
    with pytest.raises(UserError, match="differ in more than"):
        run_group(configs)


def test_a_group_of_one_goes_through_the_runner(tmp_path: Path) -> None:
    (config,) = [make(tmp_path / "one", train__ema_decay=0.9)]
    assert run_group([config]) == [Finished(0, "finished")]
    (alone,) = train_alone([config], tmp_path / "alone")
    assert curve(config) == curve(alone)


# --- compiling ------------------------------------------------------------------------------------


class Stub:
    is_compiled = False

    def compile(self) -> None:
        self.is_compiled = True


def test_a_stack_shrinks_where_the_rows_that_go_cost_more_than_tracing_anew() -> None:
    pace = Pace(None)
    pace.step_seconds = 0.01
    for share, steps_left, is_compiled, pays in (
        (0.9, 900, False, False),  # 0.9 s, for 1 s
        (0.9, 1100, False, True),
        (0.25, 130, False, False),
        (0.25, 140, False, True),
        (0.9, 19000, True, False),  # 19 s, for 20 s
        (0.9, 21000, True, True),
    ):
        assert pace.pays_to_shrink(share, steps_left, is_compiled) == pays


@pytest.mark.parametrize("steps_left, pays", [(10, False), (10_000_000_000, True)])
def test_compiling_is_decided_by_the_work_left(steps_left: int, pays: bool) -> None:
    pace, stack = Pace(None), Stub()
    for _ in range(MEASURED_STEPS + 1):
        pace.after_step(stack, steps_left)  # type: ignore[arg-type]
    assert stack.is_compiled == pays
    assert pace.step_seconds > 0


def test_compiling_can_be_decided_by_hand() -> None:
    always, never = Stub(), Stub()
    Pace(True).after_step(always, 1)  # type: ignore[arg-type]
    pace = Pace(False)
    for _ in range(MEASURED_STEPS + 5):
        pace.after_step(never, 10_000_000_000)  # type: ignore[arg-type]
    assert (always.is_compiled, never.is_compiled) == (True, False)


@pytest.mark.slow
def test_a_compiled_group_trains_as_alone(tmp_path: Path) -> None:
    together = grid(tmp_path / "together")
    assert states(run_group(together, compile=True)) == dict.fromkeys(range(4), "finished")
    for ours, theirs in zip(together, train_alone(together, tmp_path / "alone"), strict=True):
        assert_same(ours, theirs)
