"""The Ray launcher, with a stand-in for Ray that runs each task when it is waited for."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import swept

from experiments.config import UserError
from experiments.sweep import ray_tasks

SHORT: dict[str, Any] = {"train__epochs": 1.0}


class Ray(types.ModuleType):
    """`init`, `remote`, `wait`, `get`, `shutdown`, as far as they are used."""

    def __init__(self, dies_first: bool = False) -> None:
        super().__init__("ray")
        self.calls: list[Any] = []
        self.dies_first = dies_first

    def init(self, **options: Any) -> None:
        self.calls.append(("init", options["address"]))

    def remote(self, **options: Any) -> Callable[..., Any]:
        self.calls.append(("remote", options["num_cpus"], options["num_gpus"]))

        def decorate(_function: Any) -> Any:
            start = lambda path, group: (Path(path), group)  # noqa: E731
            return types.SimpleNamespace(remote=start)

        return decorate

    def wait(self, waiting: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return waiting[:1], waiting[1:]

    def get(self, task: tuple[Path, int]) -> int:
        if self.dies_first:
            self.dies_first = False
            raise RuntimeError("the node is gone")
        return swept.work(task[0])

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def test_workers_run_as_tasks_and_one_that_dies_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    ray = Ray(dies_first=True)
    monkeypatch.setitem(sys.modules, "ray", ray)
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 3, **SHORT))
    assert ray_tasks.launch(sweep.path, num_workers=2, address="auto", gpus_per_worker=0.5) == 0
    assert ray.calls == [("init", "auto"), ("remote", 1, 0.5), "shutdown"]
    assert "a worker has died: RuntimeError: the node is gone" in capsys.readouterr().err
    assert ray_tasks.launch(sweep.path) == 0 and len(ray.calls) == 3


def test_without_ray_or_cluster_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="launcher=ray needs Ray: pip install 'ray"):
        ray_tasks.launch(sweep.path)
    ray = Ray()
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("nobody")))
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(UserError, match="launcher.address=here:1: Ray says: nobody"):
        ray_tasks.launch(sweep.path, address="here:1")
