"""What a session of a run runs on: noted in the ledger, so that numbers can be traced."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import processor
from experiments.launch import LAUNCHER_VARIABLE
from experiments.packages import PROJECT

if TYPE_CHECKING:
    from experiments.distributed import World

CODE = ("lion/", "experiments/", "run.py,")
"""How the files of `PROJECT` begin in pip's list."""


def surroundings(world: World, together: int = 1) -> dict[str, Any]:
    """Commit, versions (as JSON), device, processor, threads, launcher, host, and the command.

    Args:
        world: The processes of the run.
        together: How many runs are trained as one; their sums are rounded otherwise than alone.
    """
    import torch

    launcher = os.environ.get(LAUNCHER_VARIABLE, "command line")
    device = "cpu" if world.device.type == "cpu" else _gpu_name(world)
    packages = {name: _version(name) for name in ("torch", "timm", "numpy")}
    versions = {"python": platform.python_version()} | {k: v for k, v in packages.items() if v}
    return {
        "commit": commit(),
        "versions": json.dumps(versions),
        "device": f"{device} x {world.size}",
        "cpu": f"{processor.name()}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "launcher": launcher if together == 1 else f"{launcher}, {together} runs together",
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "command": " ".join(sys.argv),
    }


def _gpu_name(world: World) -> str:
    import torch

    return torch.cuda.get_device_name(world.device)


def measured_on() -> dict[str, str]:
    """What stands beside a measured time: commit, processor x usable cores, torch, day."""
    return {
        "commit": commit(),
        "cpu": f"{processor.name()} x {processor.usable_cores()}",
        "torch": _version("torch"),
        "date": time.strftime("%Y-%m-%d"),
    }


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def commit(root: Path | None = None) -> str:
    """Commit of this repository, with + where files differ from it; empty outside git.

    Files below results/ and texts do not count: they change no run. Of this repository git
    is asked until it answers, once a process: what is committed later the process has not loaded.
    An installed package has a hash of its files instead, of which `pip` keeps a list; that it may
    lie in somebody's repository, as below .venv, says nothing of its code.
    """
    if root is not None:
        return _commit_of(root)
    if not _own:
        here = Path(__file__).resolve()
        found = installed(here) or (_commit_of(here.parent.parent) if _is_tracked(here) else "")
        _own.extend([found] if found else [])
    return _own[0] if _own else ""


_own: list[str] = []


def installed(file: Path) -> str:
    """What stands for the commit where `file` came with the installed package; else empty."""
    try:
        package = distribution(PROJECT)
    except PackageNotFoundError:
        return ""
    place = f"{file.parent.name}/{file.name}"
    lines = (package.read_text("RECORD") or "").splitlines()
    files = [line for line in lines if line.startswith(CODE)]
    listed = sorted(line for line in files if ".pyc," not in line and ".md," not in line)
    is_here = any(line.startswith(f"{place},") for line in listed)
    if not is_here or Path(str(package.locate_file(place))).resolve() != file:
        return ""
    return f"installed-{hashlib.sha256(chr(10).join(listed).encode()).hexdigest()[:12]}"


def _is_tracked(file: Path) -> bool:
    """Whether git keeps the file, so that the commit tells of it."""
    try:
        return bool(_git(file.parent, ["ls-files", "--", file.name]))
    except (OSError, subprocess.SubprocessError):
        return False


def _commit_of(root: Path) -> str:
    describe = ["describe", "--always", "--abbrev=12", "--exclude=*"]
    no_code = [":(exclude)results", ":(exclude)*.md"]
    changed = ["status", "--porcelain", "--untracked-files=no", "--", ".", *no_code]
    try:
        said, changes = (_git(root, command) for command in (describe, changed))
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{said}+" if said and changes else said


def _git(root: Path, command: list[str]) -> str:
    """What git prints; empty where it fails. It takes no lock: somebody may be committing."""
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    words = ["git", "-C", str(root), *command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=5, env=environment)
    return done.stdout.strip()
