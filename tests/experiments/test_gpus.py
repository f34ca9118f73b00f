"""What a run does on GPUs before and after it trains, as far as a machine without one can tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

from experiments import distributed, precision
from experiments.build import build
from experiments.config import ConfigError, LaunchConfig
from experiments.data import image_loading
from experiments.distributed import World, joined
from experiments.launch import STORE_VARIABLE
from experiments.parts import build_parts
from experiments.tasks.task import check_task

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", STORE_VARIABLE)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes as many GPUs visible as told, and gives the list of those that are chosen."""
    chosen: list[torch.device] = []

    def visible(count: int, **environment: str) -> list[torch.device]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return chosen

    before = torch.backends.cudnn.allow_tf32
    yield visible
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(
    ("count", "environment", "number"),
    [
        (1, {}, 0),
        (8, {"LOCAL_RANK": "7"}, 7),
        (1, {"LOCAL_RANK": "3"}, 0),  # SLURM shows each process its own
        (2, {"LOCAL_RANK": "2"}, None),
        (1, {"LOCAL_RANK": "1", STORE_VARIABLE: "/tmp/store"}, None),  # launch.num_processes=2
    ],
)
def test_each_process_has_a_gpu_of_its_own(
    gpus: Any, count: int, environment: dict[str, str], number: int | None
) -> None:
    chosen = gpus(count, **environment)
    if number is None:
        with pytest.raises(ConfigError, match=f"{count} are visible; start as many .*launch"):
            distributed._choose_device("auto")
    else:
        assert distributed._choose_device("auto") == torch.device("cuda", number)
        assert chosen == [torch.device("cuda", number)]


def test_convolutions_in_float32_are_in_float32(gpus: Any) -> None:
    """Torch rounds their factors to 10 bits on GPUs, and those of no other product."""
    gpus(1)
    torch.backends.cudnn.allow_tf32 = True
    distributed._choose_device("cpu")
    assert torch.backends.cudnn.allow_tf32
    distributed._choose_device("cuda")
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_process_that_fails_waits_for_no_other(
    gpus: Any, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """NCCL's goodbye is one of all processes; the others wait for a gradient of this one."""
    gpus(2, RANK="1", WORLD_SIZE="2", LOCAL_RANK="1")
    done: list[str] = []
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: done.append("join"))
    monkeypatch.setattr(dist, "broadcast_object_list", lambda *_, **__: done.append("all"))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: done.append("goodbye"))
    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", lambda: done.append("abort"))
    with joined(LaunchConfig(device=device)) as world:
        assert (world.rank, world.device.type) == (1, device)
    with pytest.raises(ZeroDivisionError), joined(LaunchConfig(device=device)):
        raise ZeroDivisionError
    alone = "abort" if device == "cuda" else "goodbye"
    assert done == ["join", "all", "goodbye", "join", alone]


@pytest.mark.parametrize(
    ("capability", "wanted", "is_said"),
    [((7, 5), "auto", True), ((7, 5), "fp32", False), ((8, 0), "bf16", False)],
)
def test_bf16_on_a_gpu_without_units_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    wanted: str,
    is_said: bool,
) -> None:
    monkeypatch.setattr(precision, "uses_gpu", lambda device: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    said = precision.warning(tiny.config(tmp_path, train__precision=wanted))
    assert said.endswith("is slow: set train.precision=fp32") == is_said


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_products_have_their_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    """Older torch refuses every product of matrices on a GPU without this variable."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    del os.environ["CUBLAS_WORKSPACE_CONFIG"]
    config = tiny.config(tmp_path, train__deterministic=wanted)
    task = check_task(build(config.task, "task", data=config.data, model=config.model))
    try:
        build_parts(config, task, World(0, 1, torch.device("cpu")))
        found = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    finally:
        torch.use_deterministic_algorithms(False)
    assert found == (":4096:8" if wanted else None)


@pytest.mark.parametrize("is_used", [False, True])
def test_only_beside_a_gpu_in_use_memory_is_pinned(
    monkeypatch: pytest.MonkeyPatch, is_used: bool
) -> None:
    """A run with launch.device=cpu would take a part of the card, and time for the copies."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr(image_loading, "DataLoader", lambda *_, **how: asked.update(how) or ())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: is_used)
    nothing: Any = None
    assert list(image_loading.load(nothing, [], 0)) == []
    assert asked["pin_memory"] is is_used
