"""A precision that a machine has no units for is said; what bf16 holds beside the weights."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from experiments import precision
from experiments.measuring import autocast


@pytest.mark.parametrize(
    ("wanted", "flags", "is_slow"),
    [
        ("bf16", "flags\t\t: fpu avx2 avx512f", True),
        ("bf16", "flags\t\t: fpu avx2 avx512_bf16", False),
        ("bf16", "Features\t: fp asimd bf16", False),
        ("bf16", "model name\t: unknown", False),
        ("fp32", "flags\t\t: fpu avx2", False),
    ],
)
def test_bf16_without_units_is_said(tmp_path: Path, wanted: str, flags: str, is_slow: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{flags}\n")
    said = precision.warning(tiny.config(tmp_path, train__precision=wanted), cpuinfo)
    assert said.endswith("set train.precision=fp32") == is_slow


@pytest.mark.parametrize(("capability", "is_slow"), [((7, 5), True), ((8, 0), False)])
def test_a_gpu_before_ampere_is_said_to_be_slow(
    capability: tuple[int, int], is_slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    config = tiny.config(tmp_path, train__precision="bf16", launch__device="cuda")
    assert ("older than compute capability 8.0" in precision.warning(config)) == is_slow


def copies_of_weights(tmp_path: Path, strategy: str) -> int:
    """How many of three layers' weights are held in bf16, too, at the end of a forward pass."""
    layers = [nn.Linear(8, 8, bias=False) for _ in range(3)]
    config = tiny.config(tmp_path, train__precision="bf16", launch__strategy=strategy)
    with autocast(config, torch.device("cpu")), Copies() as copies:
        x = torch.ones(2, 8)
        for layer in layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return copies.alive


class Copies(TorchDispatchMode):
    """Counts casts of 8 x 8 weights that are alive."""

    alive = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        is_cast = func._overloadpacket is torch.ops.aten._to_copy
        if is_cast and isinstance(out, Tensor) and out.shape == (8, 8):
            self.alive += 1
            weakref.finalize(out.untyped_storage(), self._drop)
        return out

    def _drop(self) -> None:
        self.alive -= 1


def test_in_shards_what_is_cast_of_a_block_goes_with_it(tmp_path: Path) -> None:
    """Autocast's cache would hold all weights a second time on every device."""
    counts = {way: copies_of_weights(tmp_path, way) for way in ("ddp", "fsdp", "hsdp")}
    assert counts == {"ddp": 3, "fsdp": 0, "hsdp": 0}
