"""Files that one run leaves and the next one reads, told by their times alone."""

import os

import pytest

from experiments.compare import left_files
from experiments.compare.left_files import LeftFiles

CLOCK = iter(range(10**9, 2 * 10**9))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "proj" / "out").mkdir(parents=True)
    return tmp_path / "proj"


def left_by(folder, command="python train.py", num_workers=1):
    return LeftFiles(command, folder, folder / "results" / "comparisons" / "mine", num_workers)


def write(path, text="x"):
    """In place, as `open(path, "w")` does: the time of access stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    accessed = path.stat().st_atime if path.exists() else None
    path.write_text(text)
    now = next(CLOCK)
    os.utime(path, (now if accessed is None else accessed, now))


def read(path):
    os.utime(path, (next(CLOCK), path.stat().st_mtime))


def replace(path):
    """As a draft that takes its place, which leaves no trace of who has read the one before."""
    draft = path.with_name("draft")
    draft.write_text("x")
    now = next(CLOCK)
    os.utime(draft, (now, now))
    draft.replace(path)


def run(left, *actions, number=3):
    for _ in range(number):
        left.begin()
        for action, path in actions:
            action(path)
            left.look()
        left.end()
    return left.read_again()


def test_a_checkpoint_that_the_next_run_reads_is_found(folder):
    path, left = folder / "out" / "ckpt.pt", left_by(folder)
    assert run(left, (write, path), number=1) == []
    assert run(left, (read, path), (write, path), number=1) == ["out/ckpt.pt"]


def test_it_is_found_where_nobody_looked_in_between(folder):
    path, left = folder / "ckpt.pt", left_by(folder)
    run(left, (write, path), number=1)
    left.begin()
    read(path)
    write(path)
    left.end()
    assert left.read_again() == ["ckpt.pt"]


def test_it_is_found_where_another_takes_its_place(folder):
    path, left = folder / "ckpt.pt", left_by(folder)
    write(path)
    assert run(left, (read, path), (replace, path)) == ["ckpt.pt"]


@pytest.mark.parametrize(
    "actions",
    [
        [(write, "model.pt"), (read, "model.pt")],  # its best weights, read back
        [(write, "model.pt"), (write, "model.pt"), (read, "model.pt")],
        [(replace, "model.pt"), (read, "model.pt")],
        [(write, "out.csv")],
        [(read, "data.bin")],
        [(read, "runs.db"), (write, "runs.db")],
        [(read, "train.log"), (write, "train.log")],
        [(read, ".cache/x.pt"), (write, ".cache/x.pt")],
        [(read, "results/comparisons/mine/try1/x.pt"),
         (write, "results/comparisons/mine/try1/x.pt")],
    ],
)  # fmt: skip
def test_what_is_no_state_of_a_run_before_is_not(actions, folder):
    for _, name in actions:
        write(folder / name)
    left = left_by(folder)
    assert run(left, *((action, folder / name) for action, name in actions)) == []


def test_prepared_data_that_is_written_once_is_no_state(folder):
    left = left_by(folder)
    run(left, (write, folder / "cache.pt"), number=1)
    assert run(left, (read, folder / "cache.pt")) == []
    assert left.read_again(num_written=1) == ["cache.pt"]


def test_of_runs_at_a_time_nobody_knows_whose_it_is(folder):
    """What would be a run's own best weights may be those of the run beside it."""
    path, left = folder / "best.pt", left_by(folder, num_workers=2)
    write(path)
    assert run(left, (write, path), (read, path)) == ["best.pt"]


def test_a_folder_that_the_command_names_is_looked_into(folder):
    other = folder.parent / "other"
    path = other / "ckpt.pt"
    write(path)
    steps = [(read, path), (write, path)]
    assert run(left_by(folder), *steps) == []
    assert run(left_by(folder, "cd ../other && train 'half"), *steps) == ["../other/ckpt.pt"]
    assert run(left_by(folder, f"train --out={other} " + "x" * 5000), *steps)


def test_folders_of_data_are_left_out_and_the_rest_is_seen(folder, monkeypatch):
    monkeypatch.setattr(left_files, "MOST_IN_FOLDER", 3)
    for number in range(4):
        write(folder / "data" / f"{number}.jpg")
    path = folder / "out" / "ckpt.pt"
    write(path)
    left = left_by(folder)
    steps = [(read, path), (write, path), (read, folder / "data" / "0.jpg")]
    assert run(left, *steps, (write, folder / "data" / "0.jpg")) == ["out/ckpt.pt"]


def test_in_more_than_can_be_looked_at_a_file_that_comes_into_sight_is_not_new(folder, monkeypatch):
    monkeypatch.setattr(left_files, "MOST_ENTRIES", 2)
    for name in ("a/1", "b/2"):
        write(folder / name)
    left = left_by(folder)
    monkeypatch.setattr(left_files, "MOST_ENTRIES", 100)
    run(left, (read, folder / "b" / "2"))
    assert left.read_again(num_written=1) == []
