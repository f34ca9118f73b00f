"""What a session of a run runs on: noted in the ledger, so that numbers can be traced."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from experiments.distributed import World


def surroundings(world: World) -> dict[str, Any]:
    """Commit, versions (as JSON), device, host, and the command."""
    device = "cpu" if world.device.type == "cpu" else _gpu_name(world)
    packages = {name: _version(name) for name in ("torch", "timm", "numpy")}
    versions = {"python": platform.python_version()} | {k: v for k, v in packages.items() if v}
    return {
        "commit": _commit(),
        "versions": json.dumps(versions),
        "device": f"{device} x {world.size}",
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "command": " ".join(sys.argv),
    }


def _gpu_name(world: World) -> str:
    import torch

    return torch.cuda.get_device_name(world.device)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """Commit of this repository, with + where files differ from it; empty outside git."""
    root = Path(__file__).resolve().parent.parent
    git = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--abbrev=12",
        "--dirty=+",
        "--exclude=*",
    ]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
