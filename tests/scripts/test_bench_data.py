"""What `bench_data.py` counts, and what stands beside its rows."""

import csv
import os
import sys
from pathlib import Path

import pytest

from experiments.surroundings import commit, measured_on

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import bench_data


def test_start_up_and_first_pass_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(way: str, *arguments: object) -> tuple[int, float, float]:
        images, passes = arguments[2], arguments[3]
        assert isinstance(images, int) and isinstance(passes, int)
        return images * passes, 7 + 0.004 * images * passes, 9 + 0.01 * images * passes

    monkeypatch.setattr(bench_data, "once_measured", once)
    found = bench_data.measure("timm", Path(), "folder", 50, 3, 1, False)
    assert found == pytest.approx((4.0, 100.0))


def test_a_case_measured_again_replaces_its_rows_alone(tmp_path: Path) -> None:
    out = tmp_path / "data.csv"
    old = {"format": "tar", "workers": "1", "randaugment": "True", "cpu_ms_per_image": 9}
    new = {**old, "format": "folder", "cpu_ms_per_image": 5}
    bench_data.keep([old, new], out)
    bench_data.keep([{**new, "cpu_ms_per_image": 4, **measured_on()}], out)
    tar, folder = csv.DictReader(out.open())
    assert (tar["cpu_ms_per_image"], tar["commit"]) == ("9", "")
    assert folder["cpu_ms_per_image"] == "4"
    assert folder["cpu"].endswith(f" x {len(os.sched_getaffinity(0))}")
    assert folder["commit"] == commit() and folder["torch"] and folder["date"]
