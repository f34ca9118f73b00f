"""A precision that a machine has no units for is said; nothing is said where it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from experiments import precision


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
