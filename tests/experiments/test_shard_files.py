"""Files of a checkpoint in shards: read as they were written, or not at all, running no code."""

from __future__ import annotations

import os
import pickle
import shutil
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments import checkpoint, saved_shards, shard_files, sharded_state
from experiments.checkpoint import find_good, list_newest_first
from experiments.config import CheckpointConfig, UserError
from experiments.distributed import World
from experiments.shard_storage import Reader, Stored, Writer

ALONE = World(0, 1, torch.device("cpu"))


def content(step: int) -> dict[str, Any]:
    """With what a checkpoint can hold: tied, strided, integer, empty and single numbers."""
    generator = torch.Generator().manual_seed(step)
    weight = torch.randn(5, 3, generator=generator)
    image = torch.randn(2, 3, 4, 4, generator=generator).contiguous(
        memory_format=torch.channels_last
    )
    codes = torch.randint(-128, 127, (7,), dtype=torch.int8, generator=generator)
    empty = {"empty": torch.zeros(0, 3)}
    state = {0: {"exp_avg": codes, "step": torch.tensor(float(step))}, 1: {"exp_avg": image}}
    return {
        "step": step,
        "model": {**dict.fromkeys(["a.weight", "b.weight", "c.weight"], weight), **empty},
        "optimizer": {"state": state, "param_groups": [{"betas": (0.9, 0.99), "params": [0, 1]}]},
        "average": None,
    }


def save(folder: Path, *steps: int) -> Path:
    """The folder of the last checkpoint."""
    saver = saved_shards.ShardSaver(CheckpointConfig(keep=2), ALONE)
    for step in steps:
        saver.save(folder, step, content(step), now=True)
    found = find_good(folder)
    assert found is not None
    return found


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    path = save(tmp_path, 1, 2, 3)
    assert [checkpoint.step_of(p) for p in list_newest_first(tmp_path)] == [3, 2]
    found, wanted = checkpoint.load(path), content(3)
    names = ("a.weight", "b.weight", "c.weight")
    assert len({id(found["model"][name]) for name in names}) == 1
    assert found["optimizer"]["param_groups"] == wanted["optimizer"]["param_groups"]
    for key, tensor in wanted["model"].items():
        assert torch.equal(found["model"][key], tensor)
    for number, state in wanted["optimizer"]["state"].items():
        for key, tensor in state.items():
            other = found["optimizer"]["state"][number][key]
            assert torch.equal(other, tensor) and other.dtype == tensor.dtype
            assert other.stride() == tensor.stride()
    assert not list(tmp_path.glob("*.tmp"))
    tensors = shard_files.manifest(path)["tensors"]
    strided = [name for name, facts in tensors.items() if "stride" in facts]
    assert strided == ["optimizer/state/1/exp_avg"]


def test_all_of_a_large_file_counts(tmp_path: Path) -> None:
    """More than is read at a time."""
    path, data = tmp_path / "large", bytes(5 << 20)
    for changed in (0, 1 << 22, len(data) - 1):
        path.write_bytes(data[:changed] + b"x" + data[changed + 1 :])
        assert shard_files.crc(path) == zlib.crc32(path.read_bytes())


def test_where_a_tensor_of_another_order_is_read_to() -> None:
    """Codes have scales in the order that they were saved in, which shards do not have."""
    shard: Any = type("DTensor", (), {})()  # what `is_shard` looks at
    places: tuple[Any, ...] = (shard, torch.empty(2, 2, dtype=torch.int8))
    facts = {"shape": [2, 2], "stride": [1, 2]}
    for place in places:
        found = shard_files._target("w", {**facts, "dtype": "float32"}, lambda *_, p=place: p)
        assert found is place
    codes = {**facts, "dtype": "int8"}
    assert shard_files._target("w", codes, lambda *_: places[1]) is places[1]
    assert shard_files._target("w", codes, lambda *_: None).stride() == (1, 2)
    with pytest.raises(UserError, match="codes were saved in another order .*strategy=ddp"):
        shard_files._target("w", codes, lambda *_: shard)


@pytest.mark.parametrize("error", [RuntimeError("peer is gone\nat line 3"), OSError(5, "no disk")])
def test_whatever_torchs_engine_raises_is_a_line_and_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    kept = save(tmp_path, 1)
    monkeypatch.setattr(shard_files, "write", fail)
    with pytest.raises(checkpoint.CheckpointError, match="in shards: (peer is gone|.*no disk)$"):
        save(tmp_path, 2)
    assert list(tmp_path.iterdir()) == [kept]


def test_of_several_failures_the_first_process_speaks() -> None:
    error: Any = RuntimeError("2 failures")
    error.failures = {3: (OSError("of the last"), None), 1: (OSError("of the first"), None)}
    assert shard_files.in_a_line(error) == "of the first"
    assert shard_files.in_a_line(KeyError()) == "KeyError"


@pytest.mark.parametrize("file", ["manifest.json", "rest.pt", "__0_0.distcp"])
@pytest.mark.parametrize("way", ["bit", "cut", "missing"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, file: str, way: str) -> None:
    newest = save(tmp_path, 1, 2)
    path = newest / file
    whole = path.read_bytes()
    if way == "missing":
        path.unlink()
    elif way == "cut":
        path.write_bytes(whole[:-1])
    else:
        path.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    with pytest.warns(UserWarning, match="is damaged; trying the one before it"):
        found = find_good(tmp_path)
    assert found is not None and checkpoint.step_of(found) == 1


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("file", ["rest.pt", "__0_0.distcp", ".metadata"])
def test_nothing_that_is_read_runs_code(tmp_path: Path, file: str) -> None:
    """Somebody else's folder, with code where torch's own format has pickles."""
    path, mark = save(tmp_path, 1), tmp_path / "ran"
    evil = pickle.dumps(_Evil(mark), protocol=2)  # what torch expects
    whole = (path / file).read_bytes() if (path / file).exists() else b""
    (path / file).write_bytes(evil + whole[len(evil) :])
    if file == ".metadata":
        assert checkpoint.load(path)["step"] == 1
    else:
        with pytest.raises(Exception, match="(?i)weights.only"):
            checkpoint.load(path)
    assert not mark.exists()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickle.dumps(_Evil(tmp_path / "no" / "such")))  # else nothing was tried


def test_files_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"rest.pt"', '"../rest.pt"'))
    with pytest.raises(UserError, match="names files outside of it"):
        checkpoint.load(path)


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    with pytest.raises(UserError, match="cannot be read: .*(?i:size)") as found:
        checkpoint.load(path, place=lambda *_: torch.empty(1))
    assert "\n" not in str(found.value)
    model = torch.nn.Linear(3, 5)
    place = sharded_state.places(model, torch.optim.SGD(model.parameters()), None)
    with pytest.raises(UserError, match=r"it has other tensors than the model, e.g. a.weight \[5"):
        checkpoint.load(path, place=place)


def test_saved_anew_over_the_same(tmp_path: Path) -> None:
    """A good one stays, a damaged one gives way."""
    path = save(tmp_path, 1)
    good = shutil.copytree(path, tmp_path / "good")
    for is_damaged in (False, True):
        if is_damaged:
            (path / "rest.pt").write_bytes(b"")
        draft = shutil.copytree(good, tmp_path / "draft-1.tmp")
        assert checkpoint.adopt_shards(draft, 1, keep=2) == path
        assert find_good(tmp_path) == path
        assert not draft.exists()


def test_pieces_that_lie_elsewhere_are_looked_for_in_the_folder(tmp_path: Path) -> None:
    facts = {"dtype": "float32", "shape": [2], "pieces": [[[0], [2], "../../other/x", 0, 8]]}
    (stored,) = Reader(tmp_path, {"tensors": {"w": facts}}).read_metadata().storage_data.values()
    assert stored.relative_path == "x"


def test_the_files_of_all_processes_have_a_checksum(tmp_path: Path) -> None:
    told: list[Any] = []
    results: Any = [
        [SimpleNamespace(index=n, storage_data=Stored(f"__{n}_0.distcp", 0, 8, checksum=n + 7))]
        for n in range(3)
    ]
    empty: Any = SimpleNamespace(state_dict_metadata={})
    Writer(tmp_path, told.append).finish(empty, results)
    assert told[0]["files"] == {"__0_0.distcp": 7, "__1_0.distcp": 8, "__2_0.distcp": 9}


@pytest.mark.parametrize("is_main", [True, False])
def test_what_is_whole_in_every_process_is_saved_by_the_main_one_alone(is_main: bool) -> None:
    found = shard_files.split(content(1), is_main)
    assert bool(found.tensors) == bool(found.rest) == is_main
