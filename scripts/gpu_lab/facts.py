"""What is measured on what; and what takes time once, before any part's time begins."""

from __future__ import annotations

import os
import platform
import shutil
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from gpu_lab.measuring import Rows, in_a_line

PACKAGES = ("torch", "triton", "timm", "hydra-core", "lion-pytorch", "bitsandbytes", "transformers")
COMPILERS = ("nvcc", "gcc", "g++")


def facts(rows: Rows) -> None:
    """One row, and the native kernels built: the comparisons and the step look for them."""
    rows.add(**_facts())
    from lion import native

    native.optional()


def _facts() -> dict[str, Any]:
    is_cuda = torch.cuda.is_available()
    card = torch.cuda.get_device_properties(0) if is_cuda else None
    return {
        "device": card.name if card else "cpu",
        "capability": [card.major, card.minor] if card else None,
        "memory_mebibytes": card.total_memory >> 20 if card else None,
        "free_mebibytes": torch.cuda.mem_get_info(0)[0] >> 20 if card else None,  # others use it?
        "multiprocessors": card.multi_processor_count if card else None,
        "cards": torch.cuda.device_count() if is_cuda else 0,
        "why_no_card": "" if is_cuda else _why_none(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "compilers": [name for name in COMPILERS if shutil.which(name)],
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
        "is_rehearsal": not is_cuda,
    }


def _why_none() -> str:
    """What CUDA says of itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.init()
    except Exception as error:
        return in_a_line(error)
    return ""


def _commit() -> str:
    try:
        from experiments.surroundings import commit

        return commit(Path(__file__).resolve().parents[2])
    except Exception:  # a fact that is missing costs no measurement
        return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
