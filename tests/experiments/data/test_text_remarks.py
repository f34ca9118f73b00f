"""What is said of the files of text: by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments.data.text_remarks import remarks


def said(folder: Path, *names: str, content: str = "", **section: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(content or name)
    return list(remarks(str(folder), section))


@pytest.mark.parametrize("end", [".parquet", "-0123456789abcdef.parquet", ".json.gz"])
def test_parts_that_are_not_there_are_said(tmp_path: Path, end: str) -> None:
    hashes = [end.replace("0", digit) for digit in "02"]
    names = [f"train-0000{n}-of-00003{end}" for n, end in zip((0, 2), hashes, strict=True)]
    assert said(tmp_path, *names, "validation-00000-of-00001.jsonl") == [
        f"train: of 3 parts 2 are there ({names[0]} and so on)"
    ]
    assert not said(tmp_path, f"train-00001-of-00003{end}")


def test_two_sets_of_parts_are_told_apart(tmp_path: Path) -> None:
    names = ["c4-train.00000-of-01024.jsonl", "c4-train.00001-of-00002.jsonl", "validation-a.txt"]
    found = said(tmp_path, *names)
    assert found == [
        "train: of 1,024 parts 1 are there (c4-train.00000-of-01024.jsonl and so on)",
        "train: of 2 parts 1 are there (c4-train.00001-of-00002.jsonl and so on)",
    ]


def test_a_copy_of_a_file_in_another_split_is_said(tmp_path: Path) -> None:
    names = ("train-0.txt", "train-1.txt", "validation-0.txt", "validation-1.txt")
    assert not said(tmp_path, *names)  # of one size, and other bytes
    (tmp_path / "validation-1.txt").write_text("train-0.txt")
    os.link(tmp_path / "train-1.txt", tmp_path / "test-0.txt")
    assert said(tmp_path, test_split="test") == [
        f"val: {tmp_path}/validation-1.txt is a copy of {tmp_path}/train-0.txt of train: it is not "
        "held out",
        f"test: {tmp_path}/test-0.txt is a copy of {tmp_path}/train-1.txt of train: it is not held "
        "out",
    ]
    (tmp_path / "validation-1.txt").write_text("train-0.tyt")
    assert len(said(tmp_path)) == 0


def test_empty_files_and_a_split_without_another_are_no_copies(tmp_path: Path) -> None:
    for name in ("train-0.txt", "train-1.txt", "validation-0.txt"):
        (tmp_path / name).touch()
    assert not said(tmp_path)
    assert not said(tmp_path, "train-0.txt", "train-1.txt", content="the same")


def test_files_beside_the_folder_that_is_read_are_said(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.txt").write_text("a")
    (tmp_path / "validation-0.txt").write_text("b")
    assert not list(remarks(str(tmp_path), {}))
    for name in ("train-1.txt", "training.txt", "train-notes.md", "dev-0.txt"):
        (tmp_path / name).write_text(name)
    assert list(remarks(str(tmp_path), {})) == [
        f"train: 2 more of that name are not read ({tmp_path}/train-1.txt)",
        f"val: 1 more of that name are not read ({tmp_path}/dev-0.txt)",
    ]
    assert not list(remarks(str(tmp_path), {"val_split": "dev", "test_split": "validation"}))[1:]


def test_what_is_not_read_need_not_be_whole(tmp_path: Path) -> None:
    (tmp_path / "validation-0.txt").write_text("b")
    (tmp_path / "train-0.txt").write_text("a")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "a.txt").symlink_to("nowhere")
    assert not list(remarks(str(tmp_path), {}))
