"""Rows of one run: which are kept, which of two counts, and what is on the disk by when."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import ledger
from experiments.ledger import Ledger, digest, is_changed, num_lost, read_rows


def row(step: int, value: float = 1.0, **more: Any) -> dict[str, Any]:
    facts = {"step": step, "split": "val", "metric": "top1", "value": value, "weights": "raw"}
    return facts | more


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_of_a_measurement_made_twice_the_last_counts_in_the_place_of_the_first(path: Path) -> None:
    Ledger(path).append([row(1), row(2), row(1, 9.0), row(2, 8.0, weights="ema")])
    assert [(r["step"], r["value"]) for r in read_rows(path)] == [(1, 9.0), (2, 1.0), (2, 8.0)]


def test_each_damaged_line_is_kept_whenever_it_is_found(path: Path) -> None:
    for text in ("one", "two"):
        path.write_text(f"{text}\n{json.dumps(row(1))}\n")
        Ledger(path).start_after(1)
    assert path.with_name("metrics.jsonl.damaged").read_text() == "one\ntwo\n"
    assert read_rows(path) == [row(1)]


@pytest.mark.parametrize(("number", "said"), [(5, "1, 2, 3, 4, 5$"), (6, "1, 2, 3, 4, 5, ...$")])
def test_the_first_five_damaged_lines_are_named(path: Path, number: int, said: str) -> None:
    path.write_text("nonsense\n" * number)
    with pytest.warns(UserWarning, match=f"left out: line {said}"):
        assert read_rows(path) == []


def test_a_value_that_no_float_holds_is_a_damaged_line(path: Path) -> None:
    huge = f'{{"step": 1, "split": "val", "metric": "x", "weights": "raw", "value": 1{"0" * 400}}}'
    path.write_text(f"{huge}\n{json.dumps(row(2))}\n")
    with pytest.warns(UserWarning, match="left out: line 1$"):
        assert read_rows(path) == [row(2)]


def test_only_what_stands_behind_the_last_line_is_taken_back(path: Path) -> None:
    Ledger(path).append([row(1), row(2)])
    with path.open("a") as file:
        file.write('{"step": 3, "val')
    Ledger(path).append([row(4)])
    assert [r["step"] for r in read_rows(path)] == [1, 2, 4]


def test_a_ledger_that_is_trimmed_is_on_the_disk_before_it_has_its_name(
    path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger(path).append([row(1), row(2)])
    rename = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda draft, to: (synced.append("renamed"), rename(draft, to))[1]
    )
    Ledger(path).start_after(1)
    draft, *then = synced
    assert draft.startswith("metrics.jsonl.") and then == ["renamed", path.parent.name]


def test_closing_sends_the_rows_and_the_name_of_the_file_to_the_disk_once(
    path: Path, synced: list[str]
) -> None:
    made = Ledger(path)
    made.close()
    assert not synced and not path.exists(), "nothing was measured"
    made.append([row(1)])
    assert not synced, "rows of a step are not waited for"
    for _ in range(2):
        made.close()
        assert synced == [path.name, path.parent.name]
    made.append([row(2)])
    made.close()
    assert synced == [path.name, path.parent.name] * 2


@pytest.mark.parametrize("written", [7, None], ids=["a part", "all"])
def test_ctrl_c_in_the_middle_of_a_write_costs_no_row(
    path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None
) -> None:
    write = os.write

    def interrupted(handle: int, data: bytes) -> int:
        write(handle, data[:written])
        raise KeyboardInterrupt

    made = Ledger(path)
    made.append([row(1)])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ledger.os, "write", interrupted)
        made.append([row(2), row(3)])
    made.close()
    assert path.read_text() == "".join(json.dumps(row(step)) + "\n" for step in (1, 2, 3))


def test_a_half_line_that_cannot_be_taken_back_at_once_is_taken_back_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def fails(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    made = Ledger(path)
    made.append([row(1)])
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="will try again"):
        patch.setattr(ledger.os, "write", lambda handle, data: write(handle, data[:9]))
        patch.setattr(ledger.os, "ftruncate", fails)
        made.append([row(2)])
    made.append([row(3)])
    assert read_rows(path) == [row(1), row(2), row(3)]


def test_rows_that_are_lost_are_counted_up_to_the_step_alone(path: Path) -> None:
    Ledger(path).append([row(1), row(2), row(3), row(4)])
    assert num_lost(path, 3, 3) == 0
    assert num_lost(path, 4, 3) == 1, "a later one stands in for none"
    assert num_lost(path, 1, 3) == 0, "more than were counted: measured later, of that step"
    assert num_lost(path, "4", 3) == 0, "unknown"


def _removed(path: Path) -> None:
    path.unlink()


def _replaced(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, tuple[Callable[[Path], Any], bool]] = {
    "nothing": (lambda path: None, False),
    "a row added": (lambda path: Ledger(path).append([row(9)]), False),
    "a value": (lambda path: path.write_text(path.read_text().replace("1.0", "2.0")), True),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), True),
    "removed": (_removed, True),
    "a folder": (_replaced, True),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=list(CHANGES))
def test_what_counts_as_a_change_since(
    path: Path, change: Callable[[Path], Any], expected: bool
) -> None:
    Ledger(path).append([row(1), row(2)])
    before = digest(path)
    change(path)
    assert is_changed(path, before) == expected
    for unknown in (None, {}, {"num_bytes": "7"}, 7):
        assert not is_changed(path, unknown)


@pytest.mark.parametrize("end", ["\0" * 50, "nonsense"])
def test_a_last_line_that_is_no_beginning_of_a_row_is_damage(path: Path, end: str) -> None:
    """As a power loss can leave it; what is cut in a row is passed over without a word."""
    Ledger(path).append([row(1)])
    with path.open("a") as file:
        file.write(end)
    with pytest.warns(UserWarning, match="damaged and left out: line 2$"):
        assert read_rows(path) == [row(1)]
    Ledger(path).start_after(1)
    assert path.with_name("metrics.jsonl.damaged").read_text() == f"{end}\n"


def test_what_is_resumed_counts_the_rows_up_to_its_step(path: Path) -> None:
    Ledger(path).append([row(4), row(5), row(5, split="test"), row(6), row(7)])
    made = Ledger(path)
    made.start_after(5)
    assert [r["step"] for r in read_rows(path)] == [4, 5, 5] and made.num_rows == 3
    made.append([row(5, 2.0), row(6), row(7)])  # the first is measured anew
    assert made.num_rows == 5 == len(read_rows(path))
