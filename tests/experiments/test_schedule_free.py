"""An optimizer that trains other weights than it shows: measured, saved, resumed and refused."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch

from experiments import checkpoint, runner, schedule_free
from experiments.build import build
from experiments.config import ConfigError, RunConfig
from experiments.distributed import World
from experiments.identity import run_id
from experiments.jobs import evaluate
from experiments.parts import build_parts
from experiments.store import read_rows

PAGE = {"_target_": "schedulefree.AdamWScheduleFree", "lr": 3e-2, "weight_decay": 0.1}


def config(root: Path, **changes: Any) -> RunConfig:
    plain = {"model__batch_norm": False, "train__ema_decay": None, "optimizer": PAGE, **changes}
    return tiny.config(root, **plain)


def end_of(root: Path, made: RunConfig) -> dict[str, Any]:
    found = checkpoint.find_good(root / run_id(made) / "checkpoints")
    assert found is not None
    return checkpoint.load(found)


def test_what_is_measured_and_saved_for_others_is_the_average(tmp_path: Path) -> None:
    """x = y + (1 - 1 / beta1) (z - y) of the last checkpoint is what the ledger's loss is of."""
    made = config(tmp_path)
    assert runner.run(made).state == "finished"
    end = end_of(tmp_path, made)
    decayed_first = sorted(end["model"], key=lambda name: end["model"][name].ndim < 2)
    states = sorted(end["optimizer"]["state"].items())
    for name, (_, state) in zip(decayed_first, states, strict=True):
        average = end["model"][name].lerp(state["z"], 1 - 1 / 0.9)
        assert torch.allclose(end["shown"][name], average, atol=1e-7), name
        assert not torch.equal(end["model"][name], average), name

    # Another run that begins with the source's weights and does not move: the same loss.
    after = tiny.config(
        tmp_path,
        **{"model__batch_norm": False, "train__ema_decay": None, "optimizer__lr": 0.0},
        start_from={"source": run_id(made)},
    )
    assert runner.run(after).state == "finished"
    losses = []
    for run in (made, after):
        rows = read_rows(tmp_path / run_id(run) / "metrics.jsonl")
        losses.append([r for r in rows if (r["split"], r["metric"]) == ("test", "loss")][-1])
    assert losses[0]["value"] == pytest.approx(losses[1]["value"], rel=1e-6)


def test_trains_as_a_plain_loop_with_the_package_alone(tmp_path: Path) -> None:
    """Bit by bit; the package warms up by itself, the runner by `schedule`."""
    schedulefree = pytest.importorskip("schedulefree")
    changes = {"model__dropout": 0.0, "train__grad_clip_norm": None}
    schedule = {"schedule": {"name": "constant", "warmup_steps": 7}}
    made = config(tmp_path, **changes, **schedule)
    assert runner.run(made).state == "finished"
    end = end_of(tmp_path, made)

    world = World(0, 1, torch.device("cpu"))
    task = build(made.task, "task", data=made.data, model=made.model)
    parts = build_parts(made, task, world)  # the same first weights
    model, groups = parts.model.train(), parts.optimizer.param_groups
    plain = [{key: group[key] for key in ("params", "weight_decay")} for group in groups]
    optimizer = schedulefree.AdamWScheduleFree(plain, lr=3e-2, warmup_steps=7)
    optimizer.train()
    for (batch,) in task.batches(parts.plan, 0, parts.total_steps):
        task.loss(model, batch, world).mean.backward()
        optimizer.step()
        optimizer.zero_grad()
    optimizer.eval()
    assert all(torch.equal(end["shown"][n], value) for n, value in model.state_dict().items())


def test_measured_again_in_another_process_it_is_the_same(tmp_path: Path) -> None:
    made = config(tmp_path, checkpoint__format="sharded")
    outcome = runner.run(made)
    first = {r["metric"]: r["value"] for r in outcome.results}
    again = {r["metric"]: r["value"] for r in evaluate.measure(made).rows}
    assert first and first.items() <= again.items()
    start = {"start_from": {"source": run_id(made)}, "optimizer__lr": 0.0}
    after = tiny.config(tmp_path, model__batch_norm=False, train__ema_decay=None, **start)
    later = {r["metric"]: r["value"] for r in runner.run(after).results}
    assert later["loss"] == pytest.approx(first["loss"], rel=1e-6)


def test_a_rate_that_decays_is_said(tmp_path: Path) -> None:
    made = config(tmp_path, train__epochs=1.0)
    assert "set schedule.name=constant" in (runner.run(made).folder / "log.txt").read_text()
    constant = config(tmp_path, train__epochs=1.0, schedule__name="constant")
    assert "schedule.name" not in (runner.run(constant).folder / "log.txt").read_text()


def test_shards_are_refused() -> None:
    pytest.importorskip("schedulefree")
    model = torch.nn.Linear(2, 2)
    optimizer = build(PAGE | {"_partial_": True}, "optimizer", list(model.parameters()))
    with pytest.raises(ConfigError, match="launch.strategy: AdamWScheduleFree trains with ddp"):
        schedule_free.check(optimizer, model, has_average=False, is_sharded=True)


def test_measuring_and_saving_more_often_trains_alike(tmp_path: Path) -> None:
    """Bit by bit, though the change from y to x and back is rounded."""
    ends = []
    for name, every in (("rarely", None), ("often", 1)):
        made = config(
            tmp_path / name,
            **{"eval__every_epochs": None, "eval__every_steps": every or 1000},
            **{"checkpoint__every_steps": every},
        )
        runner.run(made)
        ends.append(end_of(tmp_path / name, made)["model"])
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_killed_and_resumed_is_bit_equal(tmp_path: Path) -> None:
    whole, killed = config(tmp_path / "whole"), config(tmp_path / "killed")
    assert forked.run(whole) == 0
    assert forked.run(killed, **{tiny.KILL_VARIABLE: "13"}) == -signal.SIGKILL
    assert forked.run(killed) == 0
    forked.assert_same_end(whole, killed)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train__ema_decay": 0.9}, "train.ema_decay: AdamWScheduleFree averages the weights"),
        ({"model__batch_norm": True}, "running statistics of body.1 would not be theirs"),
    ],
)
def test_what_would_give_the_wrong_weights_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        runner.run(config(tmp_path, **changes))


def test_batch_norm_without_running_statistics_is_no_reason_to_refuse() -> None:
    modes = {"train": lambda self: None, "eval": lambda self: None}
    optimizer = type("Free", (torch.optim.SGD,), modes)([torch.zeros(1)], lr=1.0)
    for keeps, is_refused in ((True, True), (False, False)):
        model = torch.nn.Sequential(torch.nn.BatchNorm1d(3, track_running_stats=keeps))
        with pytest.raises(ConfigError) if is_refused else contextlib.nullcontext():
            schedule_free.check(optimizer, model, has_average=False, is_sharded=False)
