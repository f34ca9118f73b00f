"""The compacted table says what the folders say, whatever has happened to them since."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import table
from experiments.config import UserError
from experiments.store import SCHEMA, Folder, Ledger, write_json
from experiments.sweep.__main__ import main
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


# --- damaged runs, other versions, copies ---------------------------------------------------------


@pytest.mark.parametrize(
    "facts",
    [{"seed": 1e300}, {"seed": 2**63}, {"num_params": float("inf")}, {"lr": 10**400}],
    ids=["huge", "one too large", "infinite", "no float"],
)
def test_a_number_that_no_table_holds_costs_its_own_run_alone(
    runs: Path, facts: dict[str, Any]
) -> None:
    write_run(runs, "run-9", **facts)
    with pytest.warns(UserWarning, match="run-9 is left out of the table"):
        assert len(read_runs(runs)) == 10
    with pytest.warns(UserWarning, match="run-9 is left out of the table"):
        table.compact(runs)


def test_what_is_no_text_is_shown_as_json_in_both(runs: Path) -> None:
    write_run(runs, "run-9", hyper_parameters=[1, {"a": None}], data=7, scale=True, seed=2**63 - 1)
    for _ in ("read", "compacted"):
        found = check(runs)
        (row,) = found[found.run_id == "run-9"].head(1).to_dict("records")
        assert (row["hyper_parameters"], row["data"]) == ('[1, {"a": null}]', "7")
        assert (row["scale"], row["seed"]) == ("true", 2**63 - 1)
        table.compact(runs)


def test_a_copy_of_a_version_with_fewer_columns_is_made_anew(runs: Path) -> None:
    """Else the column would be missing, or empty though the runs have it."""
    expected = read_runs(runs)
    copy = runs / table.COMPACTED
    parquet.write_table(parquet.read_table(copy).drop_columns(["device"]), copy)
    with pytest.warns(UserWarning, match="another version has made it, without device"):
        pd.testing.assert_frame_equal(read_runs(runs), expected)
    with pytest.warns(UserWarning, match="another version"):
        assert table.compact(runs) == 5
    pd.testing.assert_frame_equal(check(runs), expected)


def test_a_copy_of_a_version_with_more_columns_is_read_and_renewed(runs: Path) -> None:
    expected, copy = read_runs(runs), runs / table.COMPACTED
    stored = parquet.read_table(copy)
    parquet.write_table(stored.append_column("later", stored["seed"]), copy)
    pd.testing.assert_frame_equal(read_runs(runs), expected)
    write_run(runs, "run-9")
    assert table.compact(runs) == 1
    assert len(check(runs)) == 12


def test_a_copy_of_a_run_beside_it_is_not_counted_twice(tmp_path: Path) -> None:
    own = write_run(tmp_path, "run", (1.0, 2.0))
    shutil.copytree(own, tmp_path / "run.old")
    for _ in ("read", "compacted"):
        with pytest.warns(UserWarning, match="run.old is left out .* a copy of the run run beside"):
            assert read_runs(tmp_path).value.tolist() == [1, 2]
        with pytest.warns(UserWarning, match="run.old is left out"):
            table.compact(tmp_path)
    shutil.rmtree(own)
    assert read_runs(tmp_path).value.tolist() == [1, 2], "the only one, by another name"


def test_a_file_of_another_size_is_read_though_its_time_is_the_same(runs: Path) -> None:
    """As a copying tool that keeps times, or a clock that was set back, can leave it."""
    path = runs / "run-1" / "metrics.jsonl"
    times = path.stat()
    path.write_text(path.read_text().replace('"value": 2.0', '"value": 25.0'))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = check(runs)
    assert found[found.run_id == "run-1"].value.tolist() == [1, 25]


def test_no_split_is_an_empty_table(runs: Path) -> None:
    found = read_runs(runs, splits=())
    assert found.empty and list(found.columns) == list(SCHEMA)


def test_a_folder_that_cannot_be_written_is_one_line_of_the_command(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    write_run(runs, "run-9")
    monkeypatch.setattr(parquet, "write_table", fail)
    assert main(["compact", str(runs)]) == 2
    said = capsys.readouterr().err
    assert f"{runs}: the table cannot be written there (Read-only file system)" in said
    assert said.count("\n") == 1


def test_many_runs_are_read_in_parts(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_runs(runs)
    monkeypatch.setattr(table, "_RUNS_AT_ONCE", 2)
    (runs / table.COMPACTED).unlink()
    pd.testing.assert_frame_equal(read_runs(runs), expected)
    assert table.compact(runs) == 5
    pd.testing.assert_frame_equal(read_runs(runs), expected)


def test_a_copy_that_cannot_be_opened_is_passed_over(runs: Path) -> None:
    (runs / table.COMPACTED).unlink()
    (runs / table.COMPACTED).mkdir()
    with pytest.warns(UserWarning, match="cannot be used and should be deleted"):
        assert len(read_runs(runs)) == 10


@pytest.mark.parametrize("text", ["optimizer: 7\n", "nonsense: 7\n", "train: 7\n"])
def test_a_run_with_neither_header_nor_configuration_costs_itself_alone(
    runs: Path, text: str
) -> None:
    (runs / "run-1" / "run.json").unlink()
    (runs / "run-1" / "config.yaml").write_text(text)
    with pytest.warns(UserWarning, match="run-1 is left out of the table"):
        assert set(read_runs(runs).seed) == {0, 2, 3, 4}


def test_a_single_lost_row_is_said_and_one_more_is_none(runs: Path) -> None:
    for number, lost in ((3, True), (2, False), (1, False)):
        Folder(runs / "run-1").write_status("finished", 1, 1, num_rows=number)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            read_runs(runs)
        assert ["run-1 has lost 1 of its" in str(one.message) for one in said] == [True] * lost


def test_a_session_that_is_no_number_or_none_of_them_is_unknown(tmp_path: Path) -> None:
    path = write_run(tmp_path, "run", (1.0, 2.0, 3.0, 4.0)) / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, session in zip(rows, (0, "0", 1, -1), strict=True):
        row["session"] = session
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = read_runs(tmp_path)
    assert found.device.isna().tolist() == [False, True, True, True]
    assert found.session.tolist() == [0, 0, 1, -1]


def test_what_a_killed_call_has_left_is_removed(runs: Path) -> None:
    """It stayed for ever; while another call is at it, a second one waits."""
    pytest.importorskip("pyarrow")
    draft = runs / f"{table.COMPACTED}.123-0123abcd.tmp"
    draft.touch()
    table.compact(runs)
    assert not draft.exists()
    with Folder(runs).locked(), pytest.raises(UserError, match="the table of .* is being written"):
        table.compact(runs)


def test_a_table_is_written_where_there_are_no_locks(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")

    def without(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("experiments.store.fcntl.flock", without)
    write_run(runs, "run-9", seed=9)
    assert table.compact(runs) == 1
