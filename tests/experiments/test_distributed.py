"""Two gloo processes are one run: the same curve, the same ledger, the same resume."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
import tiny
import torch
from torch import nn

from experiments import distributed, launch, runner
from experiments.config import LaunchConfig, UserError
from experiments.store import read_json, read_rows

# Dropout and norms over the micro-batch are kept equal by equal micro-batches: their noise is
# a function of (seed, step, micro-batch), not of the process that computes them.
SAME_MICRO = {"train__micro_batch_size": 4, "model__batch_norm": False, "train__epochs": 6.0}
TOLERANCE = 2e-5
"""Relative; the processes only add the same float32 gradients in another order. The optimizer
is AdamW here: Lion's sign makes a bit of a difference where a momentum is almost zero."""
ADAMW = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 3e-3, "weight_decay": 0.1}}


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_two_processes_train_like_one(tmp_path: Path, name: str) -> None:
    changes = {**SAME_MICRO, **(ADAMW if name == "adamw" else {})}
    one = tiny.config(tmp_path / "one", **changes)
    two = tiny.config(tmp_path / "two", **changes)
    assert forked.run(one) == 0
    assert forked.run_ranks(two, 2) == [0, 0]
    curves = []
    for config in (one, two):
        kept = [r for r in forked.rows(config) if r["metric"] == "loss"]
        curves.append(torch.tensor([r["value"] for r in kept], dtype=torch.float64))
    tolerance = TOLERANCE if name == "adamw" else 1e-3
    torch.testing.assert_close(curves[1], curves[0], rtol=tolerance, atol=0)
    assert forked.folder(one).name == forked.folder(two).name  # ranks and sizes: the same run


def _met() -> tuple[int, bool]:
    """How many have met, and whether it was where they were told to."""
    with distributed.joined(LaunchConfig(device="cpu")) as world:
        is_there = Path(os.environ[launch.STORE_VARIABLE]).is_file()
        return int(world.sum(torch.tensor(1))), is_there


def test_processes_meet_in_a_folder_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a#b?c=d e%20"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert forked.call_ranks(_met, 2) == [(2, True)] * 2


@pytest.mark.parametrize("turn", [1, -1])
def test_gradients_of_several_types_are_added_in_one_order(turn: int) -> None:
    """That of a set of types is another one in each process."""
    kinds = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64][::turn]
    params = [nn.Parameter(torch.ones(2, dtype=kind)) for kind in kinds]
    for param in params:
        param.grad = torch.ones_like(param)
    added: list[torch.dtype] = []
    world: Any = SimpleNamespace(size=2, sum=lambda flat: added.append(flat.dtype))
    distributed.average_gradients(nn.ParameterList(params), world)
    assert added == kinds


def _gathered() -> dict[str, Any]:
    with distributed.joined(LaunchConfig(device="cpu")) as world:
        rank = world.rank
        few = torch.arange(2.0 * (1 + rank))[:, None] + 10 * rank  # the main process has fewest
        rows = torch.arange(4.0).reshape(2, 2).T + 10 * rank  # not contiguous
        rows.requires_grad_()
        beside = torch.zeros(4, 2, requires_grad=True)
        earlier = beside * 1  # its gradient is the same memory as that of the rows
        ((world.gather(rows) + earlier) * (1 + rank)).sum().backward()
        return {
            "unequal": world.gather(few)[:, 0].tolist(),
            "rows": world.gather(rows).tolist(),
            "gradient": rows.grad.unique().tolist(),  # type: ignore[union-attr]
            "beside": beside.grad.unique().tolist(),  # type: ignore[union-attr]
        }


def test_rows_of_all_processes_and_their_gradients() -> None:
    for rank, found in enumerate(forked.call_ranks(_gathered, 2)):
        assert found["unequal"] == [0, 1, 10, 11, 12, 13]
        assert found["rows"] == [[0, 2], [1, 3], [10, 12], [11, 13]]
        assert found["gradient"] == [3], "both processes' losses, added"
        assert found["beside"] == [1 + rank], "of this process alone"


def _gradient_of_unlike_rows() -> list[float]:
    with distributed.joined(LaunchConfig(device="cpu")) as world:
        rows = torch.zeros(2, requires_grad=True)
        slopes = torch.tensor([1.0, 2.0, 3.0, 4.0]) * (1 + 9 * world.rank)
        (world.gather(rows) * slopes).sum().backward()
        assert rows.grad is not None
        return rows.grad.tolist()


def test_each_process_has_the_gradients_of_its_own_rows() -> None:
    assert forked.call_ranks(_gradient_of_unlike_rows, 2) == [[11, 22], [33, 44]]


def _agreed() -> list[int]:
    """Of a wish of the second process alone, from the first call on."""
    with distributed.joined(LaunchConfig(device="cpu")) as world:
        agreement = distributed.Agreement(world)
        found = [agreement.highest(2 * world.rank) for _ in range(3)]
        agreement.close()
        return found


def test_a_wish_at_the_first_step_is_everybodys_at_the_second() -> None:
    """Who acted on it at once would be alone, and the others would wait for it."""
    assert forked.call_ranks(_agreed, 2) == [[0, 2, 2]] * 2


def test_gradients_are_sent_once_a_step() -> None:
    """The sum would be the same if each micro-batch sent them, and the network's load would not."""
    kept: list[str] = []

    class Distributed(nn.Module):
        @contextlib.contextmanager
        def no_sync(self) -> Iterator[None]:
            kept.append("kept")
            yield

    for is_last in (False, False, True):
        with distributed.without_sync(Distributed(), is_last):
            pass
    assert kept == ["kept"] * 2


def _copied() -> list[list[float]]:
    with distributed.joined(LaunchConfig(device="cpu")) as world:
        module = nn.BatchNorm1d(2)
        for buffer in module.buffers():
            buffer.fill_(1 + world.rank)
        world.copy_buffers(module)
        return [buffer.reshape(-1).tolist() for buffer in module.buffers()]


def test_buffers_of_all_types_are_those_of_the_main_process() -> None:
    assert forked.call_ranks(_copied, 2) == [[[1, 1], [1, 1], [1]]] * 2


def test_each_example_is_evaluated_once_at_any_size(tmp_path: Path) -> None:
    for size in (1, 2, 3):
        config = tiny.config(
            tmp_path / str(size), train__steps=1, train__epochs=None, train__batch_size=12
        )
        assert forked.run_ranks(config, size) == [0] * size
        counts = {r["split"]: r["n"] for r in forked.rows(config) if r["metric"] == "top1"}
        assert counts == {"val": 37, "test": 41}


def test_two_processes_resume_bit_equal(tmp_path: Path) -> None:
    whole = tiny.config(tmp_path / "whole")
    killed = tiny.config(tmp_path / "killed")
    assert forked.run_ranks(whole, 2) == [0, 0]
    codes = forked.run_ranks(killed, 2, **{tiny.KILL_VARIABLE: "18"})
    assert -signal.SIGKILL in codes
    assert forked.run_ranks(killed, 2) == [0, 0]
    a, b = forked.weights(whole), forked.weights(killed)
    for name, tensor in a["model"].items():
        assert torch.equal(tensor, b["model"][name])
    assert forked.rows(whole) == forked.rows(killed)


def test_a_run_moves_from_two_processes_to_one(tmp_path: Path) -> None:
    config = tiny.config(tmp_path / "moved", **SAME_MICRO)
    codes = forked.run_ranks(config, 2, **{tiny.KILL_VARIABLE: "18"})
    assert -signal.SIGKILL in codes
    assert forked.run(config) == 0
    whole = tiny.config(tmp_path / "whole", **SAME_MICRO)
    assert forked.run(whole) == 0
    losses = [
        [r["value"] for r in forked.rows(c) if r["metric"] == "loss"] for c in (config, whole)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_signal_to_one_process_stops_both(tmp_path: Path) -> None:
    """Only the second process is told; both save and leave after the same step."""
    config = tiny.config(tmp_path, train__epochs=400.0, eval__every_epochs=None)
    with tempfile.TemporaryDirectory() as scratch:
        base = {"WORLD_SIZE": "2", launch.STORE_VARIABLE: f"{scratch}/store"}
        ranks = [forked.start(config, **base, RANK=str(r), LOCAL_RANK=str(r)) for r in range(2)]
        forked.wait_for(lambda: list(tmp_path.glob("*/metrics.jsonl")))
        (path,) = tmp_path.glob("*/metrics.jsonl")
        forked.wait_for(lambda: len(read_rows(path)) > 4)
        assert ranks[1].pid is not None
        os.kill(ranks[1].pid, signal.SIGTERM)
        assert [forked.join(process) for process in ranks] == [143, 143]
    status = read_json(path.parent / "status.json")
    assert status["state"] == "interrupted"
    assert forked.weights(config)["step"] == status["step"]


def test_nobody_leaves_before_the_main_process(tmp_path: Path) -> None:
    """Whoever has started them takes the first that has left for a failure, and ends the others."""

    def work() -> bool:
        with distributed.joined(LaunchConfig(device="cpu")) as world:
            if world.is_main:
                time.sleep(0.3)  # saves
                (tmp_path / "saved").touch()
        return (tmp_path / "saved").exists()

    assert forked.call_ranks(work, 2) == [True, True]


def test_who_waits_for_a_main_process_that_has_failed_leaves_without_a_word() -> None:
    def work() -> str:
        try:
            with distributed.joined(LaunchConfig(device="cpu")) as world:
                if world.is_main:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            return "failed"
        return "left"

    assert forked.call_ranks(work, 2) == ["failed", "left"]


def test_processes_of_two_runs_are_refused(tmp_path: Path) -> None:
    """Their gradients would be averaged, and one run recorded."""

    def work() -> str:
        try:
            runner.run(tiny.config(tmp_path, seed=int(os.environ["RANK"])))
        except UserError as error:
            return str(error)
        return "trained"

    for said in forked.call_ranks(work, 2):
        assert said.startswith("1 of 2 processes would train another run than tiny-lion-s0-")


@pytest.mark.parametrize("name", ["MASTER_ADDR", "MASTER_PORT"])
def test_who_cannot_meet_the_others_says_why(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    told = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}
    for key, value in told.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv(name)
    with (
        pytest.raises(UserError, match=f"process 0 of 2 .*unset RANK and WORLD_SIZE .*{name}"),
        distributed.joined(LaunchConfig(device="cpu")),
    ):
        pass
