"""Runs in forked processes: the imports of the test process are theirs, so they start at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import timm.data.mixup  # noqa: F401  # not in each of the forked processes
import torch
import torch._dynamo

from experiments import checkpoint, launch, runner
from experiments.config import RunConfig
from experiments.store import read_rows

_fork = multiprocessing.get_context("fork")
_TIMES = ("seconds", "session")
NET_SECONDS = 200.0
"""A last net: nothing here is waited for by the clock, and a loaded machine may be slow."""


class Context:
    """What `multiprocessing.get_context("spawn")` gives, but forking.

    A forked worker drops the parent's ends of all pipes, as a spawned one never had them.
    """

    def __init__(self) -> None:
        self._ends: list[Connection] = []

    def Pipe(self) -> tuple[Connection, Connection]:
        ours, theirs = _fork.Pipe()
        self._ends.append(ours)
        return ours, theirs

    def Process(
        self, target: Callable[..., None], args: tuple[Any, ...], daemon: bool = False
    ) -> Any:
        def work(*given: Any) -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler if number == 2 else signal.SIG_DFL)
            for end in self._ends:
                end.close()
            target(*given)

        return _fork.Process(target=work, args=args, daemon=daemon)


def start(config: RunConfig, **environment: str) -> BaseProcess:
    """Starts one process of a run."""

    def work() -> None:
        os.environ.update(environment)
        os._exit(runner.run(config).exit_code)

    process = _fork.Process(target=work)
    process.start()
    return process


def run(config: RunConfig, **environment: str) -> int:
    """Runs in one process; returns its exit code (negative: killed by that signal)."""
    return join(start(config, **environment))


def join(process: BaseProcess) -> int:
    """Waits for a process to end; returns its exit code."""
    process.join(NET_SECONDS)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    assert code is not None, "it did not end"
    return code


def run_ranks(config: RunConfig, size: int, **environment: str) -> list[int]:
    """Runs in `size` processes that meet; returns their exit codes."""
    with tempfile.TemporaryDirectory() as scratch:
        base = {"WORLD_SIZE": str(size), launch.STORE_VARIABLE: f"{scratch}/store"}
        ranks = [{"RANK": str(r), "LOCAL_RANK": str(r)} for r in range(size)]
        processes = [start(config, **base, **rank, **environment) for rank in ranks]
        try:
            return [join(process) for process in processes]
        finally:
            for process in processes:
                process.kill()


def call_ranks(function: Callable[[], Any], size: int) -> list[Any]:
    """What a function returns in each of `size` processes that meet when they are `joined`."""
    with tempfile.TemporaryDirectory() as scratch:

        def work(rank: int, end: Connection) -> None:
            where = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
            os.environ.update({launch.STORE_VARIABLE: f"{scratch}/store", **where})
            end.send(function())

        pairs = [_fork.Pipe(duplex=False) for _ in range(size)]
        processes = [_fork.Process(target=work, args=(r, pairs[r][1])) for r in range(size)]
        for process, (_, theirs) in zip(processes, pairs, strict=True):
            process.start()
            theirs.close()
        try:
            return [ours.recv() for ours, _ in pairs]
        finally:
            for process in processes:
                process.kill()


def folder(config: RunConfig) -> Path:
    """The only run below the configuration's results folder."""
    (path,) = Path(config.results_dir).glob("*")
    return path


def weights(config: RunConfig) -> dict[str, Any]:
    """The newest checkpoint."""
    found = checkpoint.find_good(folder(config) / "checkpoints")
    assert found is not None
    return checkpoint.load(found)


def rows(config: RunConfig) -> list[dict[str, Any]]:
    """The ledger without what a clock has measured."""
    kept = [r for r in read_rows(folder(config) / "metrics.jsonl") if r["split"] != "run"]
    return [{k: v for k, v in row.items() if k not in _TIMES} for row in kept]


def assert_same_end(one: RunConfig, other: RunConfig) -> None:
    """Weights, averages, optimizer states and ledgers of two runs are equal to the bit."""
    a, b = weights(one), weights(other)
    assert a["step"] == b["step"]
    for part in ("model", "average"):
        for name, tensor in (a[part] or {}).items():
            assert torch.equal(tensor, b[part][name]), f"{part}.{name}"
    states = [part["optimizer"]["state"] for part in (a, b)]
    for number, state in states[0].items():
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][number][key]))
    assert rows(one) == rows(other)


def wait_for(condition: Callable[[], Any]) -> Any:
    """Polls until `condition()` is true; returns its value."""
    pause = threading.Event()
    for _ in range(int(NET_SECONDS / 0.01)):
        if value := condition():
            return value
        pause.wait(0.01)
    raise AssertionError("waited in vain")
