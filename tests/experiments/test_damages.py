"""Whatever is done to the files of a run: one line at worst, no lost row unsaid, no other run hurt.

Each file of a run is damaged in every way; then the table is read, the command is called again,
and the ledger, the weights and the word of the run are looked at. More ways than are tried here:
`DAMAGE_SAMPLES=100 pytest tests/experiments/test_damages.py`.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch

from experiments import checkpoint, runner
from experiments.config import RunConfig, UserError
from experiments.store import Folder, read_rows
from experiments.table import read_runs

SHORT: dict[str, Any] = {
    "train__epochs": 1.0, "train__ema_decay": None, "eval__every_epochs": 0.5,
    "checkpoint__every_steps": 2, "launch__log_every_steps": 2,
}  # fmt: skip
FILES = ("config.yaml", "run.json", "metrics.jsonl", "status.json", "log.txt", ".lock")
FILES += ("checkpoints", "checkpoints/newest", "checkpoints/oldest")
NUM_SAMPLES = int(os.environ.get("DAMAGE_SAMPLES", "5"))


def cut(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(max(1, path.stat().st_size))])


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 5, 50])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def scribble(path: Path, chance: random.Random) -> None:
    """A block of other bytes, as a disk gives back that lied about a write."""
    data = bytearray(path.read_bytes())
    start = chance.randrange(len(data))
    data[start : start + 40] = chance.choice([bytes(40), b"\n" * 40, chance.randbytes(40)])
    path.write_bytes(data)


def change_types(path: Path, chance: random.Random) -> None:
    """Valid JSON with something else where a value was."""
    lines = path.read_text().split("\n")
    odd = ["x", -1, None, [], {}, True, 1e300, "nan"]
    where = chance.randrange(len(lines))
    text = re.sub(r'(": )([^,{}\[\]]+)', lambda m: m[1] + json.dumps(chance.choice(odd)),
                  lines[where], count=chance.choice([1, 3]))  # fmt: skip
    path.write_text("\n".join([*lines[:where], text, *lines[where + 1 :]]))


def remove(path: Path, _: random.Random) -> None:
    path.unlink()


def make_folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("x")


def fill_with(text: str) -> Callable[[Path, random.Random], None]:
    return lambda path, _: path.write_text(text)  # type: ignore[return-value]


WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    "cut": cut, "flip": flip, "scribble": scribble, "types": change_types, "remove": remove,
    "folder": make_folder, "empty": fill_with(""), "list": fill_with("[1]\n"),
    "null": fill_with("null\n"), "object": fill_with("{}\n"), "text": fill_with("nonsense\n"),
    "deep": fill_with("[" * 5000 + "\n"), "zeros": fill_with("\0" * 500),
}  # fmt: skip


def damages() -> Iterator[tuple[str, str, str, int]]:
    """State of the run, file, way, and seed; every file and every way come up."""
    every = [
        (state, file, way)
        for state in ("finished", "running")
        for file in FILES
        for way in WAYS
        if file != "checkpoints" or way in ("remove", "text", "empty")
    ]
    picked = random.Random(1).sample(every, min(len(every), 9 * NUM_SAMPLES))
    for number in range(max(1, 9 * NUM_SAMPLES // len(every))):
        yield from ((*one, number) for one in picked)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run that nothing happens to."""
    config = tiny.config(tmp_path_factory.mktemp("whole"), **SHORT)
    runner.run(config)
    return config


def damage(folder: Folder, file: str, way: str, seed: int) -> None:
    path = folder.path / file
    if file == "checkpoints":
        shutil.rmtree(path)
        if way != "remove":
            WAYS[way](path, random.Random(seed))
        return
    if file.startswith("checkpoints/"):
        files = checkpoint.list_newest_first(folder.checkpoints)
        path = files[0] if file.endswith("newest") else files[-1]
    if way in ("flip", "scribble", "cut") and not path.stat().st_size:
        return
    if way == "types" and path.suffix == ".pt":
        way = "flip"
    WAYS[way](path, random.Random(f"{file} {way} {seed}"))


def test_no_damage_ends_in_a_traceback_or_loses_rows_unsaid(
    whole: RunConfig, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    rows = {name(row): row for row in forked.rows(whole)}
    weights = forked.weights(whole)["model"]
    neighbour = tmp_path / "runs" / "neighbour"
    shutil.copytree(forked.folder(whole), neighbour)
    header = neighbour / "run.json"
    header.write_text(header.read_text().replace(forked.folder(whole).name, "neighbour"))
    folder = Folder(tmp_path / "runs" / forked.folder(whole).name)
    config = tiny.config(tmp_path / "runs", **SHORT)
    problems = []
    for state, file, way, seed in damages():
        shutil.rmtree(folder.path, ignore_errors=True)
        shutil.copytree(forked.folder(whole), folder.path)
        if state == "running":
            folder.write_status("running", 4, 6)
        damage(folder, file, way, seed)
        try:
            problem = look_at(config, folder, rows, weights, state)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            problems.append(f"{state}, {file}, {way}, {seed}: {problem}")
    assert not problems, "\n".join(problems)


def name(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("step", "split", "metric", "weights"))


def is_same(one: dict[str, Any], there: list[dict[str, Any]]) -> bool:
    return any(name(one) == name(row) and one["value"] == row["value"] for row in there)


def look_at(
    config: RunConfig,
    folder: Folder,
    rows: dict[Any, Any],
    weights: dict[str, Any],
    state: str,
) -> str:
    """What is wrong; "" where all is as it should be."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = read_runs(folder.path.parent)
        there = table[table.run_id == folder.path.name].to_dict("records")
        missing = [not is_same(one, there) for one in rows.values()]
        # Of a run that goes on the last ones may not have been written.
        is_cut = state == "running" and missing == sorted(missing)
        if not caught and any(missing) and not is_cut:
            return "rows are missing or others in the table, and nothing is said"
        if len(read_rows(folder.path.parent / "neighbour" / "metrics.jsonl")) < len(rows):
            return "the neighbour is hurt"
        before = sorted(p.name for p in folder.path.rglob("*"))
        try:
            outcome = runner.run(config)
        except UserError as error:
            line = str(error)
            is_kept = set(before) <= {p.name for p in folder.path.rglob("*")}
            return "" if "\n" not in line and is_kept else f"not one line, or files gone: {line}"
    if outcome.state not in ("finished", "diverged"):
        return f"it ended as {outcome.state}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {name(row): row for row in read_rows(folder.metrics)}
    lost = set(rows) - set(found)
    said = (folder.log.read_text(errors="replace") if folder.log.is_file() else "") + " ".join(
        str(warning.message) for warning in caught
    )
    if lost and not re.search(r"are lost|lacks|has lost|left out", said):
        return f"{len(lost)} rows are lost, and nothing is said"
    if last := [key for key in lost if key[0] == 6 and key[1] in ("val", "test")]:
        return f"the last evaluation is lost: {last}"
    if not checkpoint.list_newest_first(folder.checkpoints):
        return ""  # a finished run is not trained again for its weights
    newest = checkpoint.find_good(folder.checkpoints)
    if newest is not None and checkpoint.step_of(newest) == 6:
        same = checkpoint.load(newest)["model"]
        if not all(torch.equal(tensor, weights[key]) for key, tensor in same.items()):
            return "other weights"
    return ""
