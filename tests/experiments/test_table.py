"""The compacted table says what the folders say, whatever has happened to them since."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import table
from experiments.config import UserError
from experiments.store import SCHEMA, Folder, Ledger, write_json
from experiments.table import read_runs

pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write_run(root: Path, name: str, values: tuple[float, ...] = (1.0, 2.0), **facts: Any) -> Path:
    folder = Folder(root / name)
    folder.path.mkdir(parents=True)
    row = {"epoch": 0.5, "metric": "top1", "unit": "%", "weights": "raw", "n": None, "seconds": 1.5}
    Ledger(folder.metrics).append(
        {**row, "step": s, "value": v, "session": 0, "split": "val" if s % 2 else "train"}
        for s, v in enumerate(values)
    )
    session = {"commit": "abc", "versions": "{}", "device": "cpu x 1"}
    header = {"run_id": name, "experiment": "tiny", "optimizer": "lion", "lr": 1e-3, "seed": 0}
    header |= {"batch_size": 16, "schema_version": 1, "num_params": 5, "sessions": [session]}
    write_json(folder.header, header | facts)
    folder.write_status("finished", 1, 1)
    return folder.path


def from_folders(root: Path, **options: Any) -> pd.DataFrame:
    """As without a copy."""
    copy = root / table.COMPACTED
    content = copy.read_bytes()
    copy.unlink()
    try:
        return read_runs(root, **options)
    finally:
        copy.write_bytes(content)


def check(root: Path, **options: Any) -> pd.DataFrame:
    found = read_runs(root, **options)
    pd.testing.assert_frame_equal(found, from_folders(root, **options))
    return found


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for number in range(4):
        write_run(tmp_path, f"run-{number}", seed=number)
    write_run(tmp_path, "run-4", (3.0, float("nan")), lr=None, seed=4)
    assert table.compact(tmp_path) == 5
    return tmp_path


def test_the_copy_gives_the_same_table(runs: Path) -> None:
    found = check(runs)
    assert list(found.columns) == list(SCHEMA) and len(found) == 10
    assert found.seed.dtype == "int64" and found.lr.isna().sum() == 2
    assert len(check(runs, splits=("val",))) == 5
    assert set(check(runs, runs=["run-1", "run-3"]).seed) == {1, 3}


def test_the_copy_is_really_read(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_read_run", lambda folder: pytest.fail(f"{folder.path} was read"))
    assert len(read_runs(runs)) == 10


def test_what_has_changed_since_is_read_anew(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"epoch": 1, "metric": "top1", "unit": "%", "weights": "raw", "n": 7, "seconds": 2.0}
    more = {**row, "step": 9, "value": 9.0, "session": 0, "split": "test"}
    Ledger(runs / "run-1" / "metrics.jsonl").append([more])
    Folder(runs / "run-2").write_status("diverged", 1, 1)
    header = json.loads((runs / "run-3" / "run.json").read_text())
    write_json(runs / "run-3" / "run.json", {**header, "experiment": "other"})
    write_run(runs, "run-0b")
    read: list[str] = []
    reader = table._read_run
    monkeypatch.setattr(table, "_read_run", lambda f: read.append(f.path.name) or reader(f))
    found = read_runs(runs)
    assert sorted(read) == ["run-0b", "run-1", "run-2", "run-3"]
    monkeypatch.undo()
    pd.testing.assert_frame_equal(found, from_folders(runs))
    assert set(found[found.run_id == "run-2"].state) == {"diverged"}
    assert table.compact(runs) == 4 and table.compact(runs) == 0
    check(runs)


def test_runs_that_are_gone_are_gone_from_the_table(runs: Path) -> None:
    for path in (runs / "run-2").iterdir():
        path.unlink()
    (runs / "run-2").rmdir()
    assert set(check(runs).seed) == {0, 1, 3, 4}
    table.compact(runs)
    assert set(check(runs).seed) == {0, 1, 3, 4}
    assert parquet.read_metadata(runs / table.COMPACTED).num_rows == 8, "nor stay in the copy"


def test_a_copy_that_is_true_is_not_written_again(runs: Path) -> None:
    (runs / "a folder of something else").mkdir()
    before = (runs / table.COMPACTED).stat()
    assert table.compact(runs) == 0
    after = (runs / table.COMPACTED).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damage", [b"", b"PAR1 nonsense", None])
def test_a_damaged_copy_is_passed_over(runs: Path, damage: bytes | None) -> None:
    copy = runs / table.COMPACTED
    content = copy.read_bytes()
    copy.write_bytes(content[: len(content) // 2] if damage is None else damage)
    with pytest.warns(UserWarning, match="cannot be used and should be deleted"):
        assert len(read_runs(runs)) == 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert table.compact(runs) == 5
    check(runs)


def test_a_run_that_cannot_be_read_is_left_out(runs: Path) -> None:
    write_run(runs, "run-9", seed="nine")
    with pytest.warns(UserWarning, match="run-9 is left out of the table"):
        assert len(read_runs(runs)) == 10
    with pytest.warns(UserWarning, match="run-9 is left out"):
        table.compact(runs)


def test_without_pyarrow_the_folders_are_read(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_runs(runs)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    pd.testing.assert_frame_equal(read_runs(runs), expected)
    with pytest.raises(UserError, match="pip install 'pyarrow"):
        table.compact(runs)


def test_a_copy_that_cannot_be_written_leaves_the_old_one(runs: Path, monkeypatch: Any) -> None:
    write_run(runs, "run-5")
    before = (runs / table.COMPACTED).read_bytes()

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError):
        table.compact(runs)
    assert (runs / table.COMPACTED).read_bytes() == before
    assert not [name for name in os.listdir(runs) if name.endswith(".tmp")]


def test_a_copy_that_is_renewed_while_it_is_read_doubles_no_row(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = parquet.read_table

    def overtaken(*args: Any, **options: Any) -> Any:
        found = read(*args, **options)
        monkeypatch.undo()
        table.compact(runs)
        return found

    write_run(runs, "run-9")
    monkeypatch.setattr(parquet, "read_table", overtaken)
    found = read_runs(runs)
    assert len(found) == 12 and not found.duplicated(["run_id", "step"]).any()


def test_a_run_that_goes_on_and_ends_while_it_is_read_lacks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(write_run(tmp_path, "run"))
    folder.write_status("interrupted", 1, 9)
    read = table.read_rows
    row = {"epoch": 1, "split": "val", "metric": "top1", "unit": "%", "weights": "raw", "n": None}
    row |= {"seconds": 2.0, "session": 1}

    def overtaken(path: Path) -> Any:
        header = json.loads(folder.header.read_text())
        write_json(folder.header, {**header, "sessions": [*header["sessions"], {"commit": "new"}]})
        Ledger(path).append([{**row, "step": 8, "value": 8.0}])
        found = read(path)
        Ledger(path).append([{**row, "step": 9, "value": 9.0}])
        folder.write_status("finished", 9, 9, num_rows=4, num_evaluations=1)
        return found

    monkeypatch.setattr(table, "read_rows", overtaken)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_runs(tmp_path)
    assert found.step.tolist() == [0, 1, 8] and found.commit.tolist() == ["abc", "abc", "new"]
