"""The processor: its name, and how many of its cores are ours."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
GROUPS = Path("/sys/fs/cgroup")
"""Where a container's quota stands: in `cpu.max`, or as older kernels have it, in `cpu/`."""


def usable_cores() -> int:
    """Cores that this process may run on, and that a container or a job of SLURM has; 1 or more."""
    cores = _bound_to()
    return max(1, min(cores, _paid_for() or cores, _of_the_job() or cores))


def share() -> int:
    """Of `usable_cores` those that no other process of its run takes on this machine; 1 or more.

    Where srun has bound each process to its own, as it mostly does, these are all that it sees.
    """
    cores = usable_cores()
    if _bound_to() < (_of_the_job() or 0):
        return cores
    return max(1, cores // max(1, _number("LOCAL_WORLD_SIZE") or 1))


def limit_threads(wanted: int | None) -> None:
    """Lets torch have as many threads as are wanted; else no more than `share`.

    By itself it takes those of the whole machine, also where a container's quota pays for few, or
    other processes of the run do the same. OMP_NUM_THREADS in the environment has its way.
    """
    import torch

    if wanted is not None:
        torch.set_num_threads(wanted)
    elif "OMP_NUM_THREADS" not in os.environ and share() < torch.get_num_threads():
        torch.set_num_threads(share())


def _bound_to() -> int:
    is_known = hasattr(os, "sched_getaffinity")  # not on macOS
    return len(os.sched_getaffinity(0)) if is_known else os.cpu_count() or 1


def _of_the_job() -> int | None:
    """What SLURM has given to this step on this machine, whether or not it holds us to it."""
    return _number("SLURM_CPUS_ON_NODE")


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else None


def _paid_for() -> int | None:
    """A container's quota, in whole cores."""
    for read in (_quota, _quota_of_old):
        try:
            quota, period = read()
            return max(1, quota // period) if quota > 0 else None
        except (OSError, ValueError, ZeroDivisionError):  # no control group, or "max"
            continue
    return None


def _quota() -> tuple[int, int]:
    quota, period = (GROUPS / "cpu.max").read_text().split()
    return int(quota), int(period)


def _quota_of_old() -> tuple[int, int]:
    quota = int((GROUPS / "cpu/cpu.cfs_quota_us").read_text())  # -1: none
    return quota, int((GROUPS / "cpu/cpu.cfs_period_us").read_text())


@cache
def name() -> str:
    """As the kernel names it, or the system's own tool; the architecture where neither does."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    # Kernels for Arm give numbers alone, and macOS has no such file.
    if sys.platform == "darwin":
        told = _answer("sysctl", "-n", "machdep.cpu.brand_string")
    else:
        rows = [line.partition(":") for line in _answer("lscpu").splitlines()]
        told = next((row[2].strip() for row in rows if row[0].strip() == "Model name"), "")
    return told if told.strip("-") else platform.machine()


def _answer(*command: str) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
