"""An optimizer that trains other weights than it shows: measured, saved, resumed and refused."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch

from experiments import checkpoint, runner
from experiments.config import ConfigError, RunConfig
from experiments.identity import run_id
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
