"""How many cores are ours, and what the processor is called."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest
import torch

from experiments import processor
from experiments.config import LaunchConfig
from experiments.distributed import joined


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 64 cores, of which a process may use some."""
    for name in ("LOCAL_WORLD_SIZE", "SLURM_CPUS_ON_NODE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)

    def make(cores: int, *, quota: str = "", old: tuple[str, str] = ("", ""), **variables) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        monkeypatch.setattr(processor, "GROUPS", tmp_path)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        files = ("cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
        for name, text in zip(files, (quota, *old), strict=True):
            if text:
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_text(text)

    return make


@pytest.mark.parametrize(
    "cores, given, expected",
    [
        (64, {}, 64),
        (6, {}, 6),
        (64, {"quota": "400000 100000\n"}, 4),
        (64, {"quota": "max 100000\n"}, 64),
        (64, {"quota": "50000 100000\n"}, 1),
        (2, {"quota": "400000 100000\n"}, 2),
        (64, {"old": ("300000\n", "100000\n")}, 3),
        (64, {"old": ("-1\n", "100000\n")}, 64),
        (64, {"quota": "400000 0"}, 64),
        (64, {"SLURM_CPUS_ON_NODE": "12"}, 12),  # where SLURM binds nobody
        (6, {"SLURM_CPUS_ON_NODE": "48"}, 6),
        (6, {"SLURM_CPUS_ON_NODE": ""}, 6),
    ],
)
def test_cores_that_may_be_used(machine, cores, given, expected):
    machine(cores, **given)
    assert processor.usable_cores() == expected


@pytest.mark.parametrize(
    "cores, given, expected",
    [
        (64, {}, 64),
        (64, {"LOCAL_WORLD_SIZE": "8"}, 8),
        (4, {"LOCAL_WORLD_SIZE": "8"}, 1),
        (64, {"LOCAL_WORLD_SIZE": "8", "quota": "1600000 100000"}, 2),
        # srun binds each of eight processes to six cores of its own.
        (6, {"LOCAL_WORLD_SIZE": "8", "SLURM_CPUS_ON_NODE": "48"}, 6),
        # It binds nobody; torchrun in a job that has the machine, or a part of it.
        (64, {"LOCAL_WORLD_SIZE": "8", "SLURM_CPUS_ON_NODE": "48"}, 6),
        (64, {"LOCAL_WORLD_SIZE": "8", "SLURM_CPUS_ON_NODE": "64"}, 8),
        (48, {"LOCAL_WORLD_SIZE": "8", "SLURM_CPUS_ON_NODE": "48"}, 6),
    ],
)
def test_each_process_of_a_run_has_a_share(machine, cores, given, expected):
    machine(cores, **given)
    assert processor.share() == expected


def test_without_affinity_all_cores_count(machine, monkeypatch):
    machine(3)
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert processor.usable_cores() == 64


@pytest.mark.parametrize(
    "num_threads, variables, expected",
    [
        (None, {}, 2),
        (None, {"OMP_NUM_THREADS": "5"}, 5),
        (3, {}, 3),
        (3, {"OMP_NUM_THREADS": "5"}, 3),
    ],
)
def test_torch_takes_no_more_threads_than_the_share(machine, num_threads, variables, expected):
    machine(16, LOCAL_WORLD_SIZE="8", **variables)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)  # what torch has found
        with joined(LaunchConfig(device="cpu", num_threads=num_threads)):
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_threads_that_fit_are_left_alone(machine, monkeypatch):
    machine(64)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: pytest.fail("set"))
    with joined(LaunchConfig(device="cpu")):
        pass


CPUINFO = {
    "x86": ("model name\t: AMD EPYC 9354 32-Core\n", "AMD EPYC 9354 32-Core"),
    "arm": ("CPU implementer\t: 0x41\nCPU part\t: 0xd4f\n", "Neoverse-V2"),
}


@pytest.mark.parametrize("kind", CPUINFO)
def test_its_name(kind, monkeypatch, tmp_path: Path):
    text, expected = CPUINFO[kind]
    tool(monkeypatch, tmp_path, "lscpu", "Architecture: aarch64\n  Model name:  Neoverse-V2\n")
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    assert processor.name.__wrapped__() == expected


@pytest.mark.parametrize("said", ["", "Model name: -\n", "Modellname: x\n"])
def test_its_architecture_where_nothing_else_is_known(said, monkeypatch, tmp_path: Path):
    tool(monkeypatch, tmp_path, "lscpu", said)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    assert processor.name.__wrapped__() == platform.machine()


def test_its_name_on_macos(monkeypatch, tmp_path: Path):
    tool(monkeypatch, tmp_path, "sysctl", "Apple M4 Max\n")
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert processor.name.__wrapped__() == "Apple M4 Max"
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert processor.name.__wrapped__() == platform.machine()


def tool(monkeypatch, folder: Path, name: str, says: str) -> None:
    """A program of this name, the only one that is found."""
    (folder / "bin").mkdir()
    (folder / "said").write_text(says)
    program = folder / "bin" / name
    program.write_text(
        f"#!{sys.executable}\nprint(open({str(folder / 'said')!r}).read(), end='')\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"))


def test_cores_are_counted_in_one_place():
    root = Path(processor.__file__).parent.parent
    files = [
        *root.glob("lion/*.py"),
        *root.glob("experiments/**/*.py"),
        *root.glob("scripts/**/*.py"),
    ]
    named = {f.name for f in files if "sched_getaffinity" in f.read_text()}
    assert named == {"processor.py"}
