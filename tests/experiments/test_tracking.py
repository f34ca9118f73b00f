"""Mirrors copy the ledger, and nothing that happens to them reaches the run."""

from __future__ import annotations

import json
import multiprocessing
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny

from experiments import runner, tracking
from experiments.config import ConfigError
from experiments.store import read_rows
from experiments.tracking import Mirror, Writer

_fork = multiprocessing.get_context("fork")
SHORT = {"train__epochs": 2.0}


def row(step: int, value: float, split: str = "val", weights: str = "raw") -> dict[str, Any]:
    return {"step": step, "split": split, "metric": "loss", "weights": weights, "value": value}


class Service:
    """Notes what it is told; fails where it is told to."""

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.written: list[tuple[int, dict[str, float]]] = []
        self.is_finished = False

    def _maybe_fail(self, where: str) -> None:
        if where == self.fails_at:
            raise ConnectionError(f"no service to {where}")

    def start(self) -> Writer:
        self._maybe_fail("start")
        return self._write, self._finish

    def _write(self, step: int, values: dict[str, float]) -> None:
        self._maybe_fail("write")
        self.written.append((step, values))

    def _finish(self) -> None:
        self._maybe_fail("finish")
        self.is_finished = True


def use(monkeypatch: pytest.MonkeyPatch, service: Service) -> dict[str, Any]:
    """Puts a service in wandb's place; returns the changes that ask for it."""
    monkeypatch.setattr(tracking, "_start_wandb", lambda *_: service.start())
    return {**SHORT, "tracking__wandb": "offline"}


def test_rows_are_handed_on_by_step_under_their_names() -> None:
    service = Service()
    mirror = Mirror("test", service.start)
    mirror.add([row(4, 1.0), row(4, 2.0, "train"), row(4, 3.0, weights="ema"), row(2, 4.0)])
    mirror.add([row(6, float("nan"))])
    mirror.close()
    at_4 = {"val/loss": 1.0, "train/loss": 2.0, "val/loss/ema": 3.0}
    assert service.written[:2] == [(2, {"val/loss": 4.0}), (4, at_4)]
    assert [step for step, _ in service.written] == [2, 4, 6]
    assert service.is_finished


def test_pictures_reach_tensorboard_and_wandb(tmp_path: Path) -> None:
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.new("RGB", (5, 4), (10, 200, 30)).save(tmp_path / "grid.png")
    mirror = Mirror("tensorboard", lambda: tracking._start_tensorboard(tmp_path))
    mirror.add([{**row(4, 1.0), "picture": "grid.png"}])
    mirror.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (shown,) = events.Images("pictures/val/loss")
    assert (shown.step, shown.width, shown.height) == (4, 5, 4)
    (entry,) = tracking._by_step([{**row(4, 1.0), "picture": "grid.png"}])
    assert entry == (4, {"val/loss": 1.0, "pictures/val/loss": Path("grid.png")})


@pytest.mark.parametrize("fails_at", ["start", "write", "finish"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_mirror_that_fails_is_a_warning_and_the_run_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    plain = tiny.config(tmp_path / "plain", **SHORT)
    mirrored = tiny.config(tmp_path / "mirrored", **use(monkeypatch, Service(fails_at)))
    runner.run(plain)
    reason = f"wandb is off: ConnectionError: no service to {fails_at}"
    with pytest.warns(UserWarning, match=reason):
        outcome = runner.run(mirrored)
    assert (outcome.state, outcome.exit_code) == ("finished", 0)
    assert forked.rows(mirrored) == forked.rows(plain)


def test_a_mirror_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    service = Service()

    def hang() -> Writer:
        release.wait()
        return service.start()

    monkeypatch.setattr(tracking, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(tracking, "_start_wandb", lambda *_: hang())
    config = tiny.config(tmp_path, **SHORT, tracking__wandb="offline")
    with pytest.warns(UserWarning, match="wandb did not finish in"):
        assert runner.run(config).state == "finished"
    assert not release.is_set()
    release.set()


def test_a_mirror_has_every_row_of_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    outcome = runner.run(tiny.config(tmp_path, **use(monkeypatch, service)))
    assert flat(service.written) == ledger(outcome.folder)
    assert service.is_finished


def test_the_mirror_of_a_run_that_fails_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a warm worker the next run's wandb.init would return this run, still open."""
    service = Service()
    config = tiny.config(tmp_path, **use(monkeypatch, service))

    def broken(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tiny.Task, "loss", broken)
    with pytest.raises(ConfigError, match="out of memory"):
        runner.run(config)
    assert service.is_finished


def in_child(work: Callable[[], Any]) -> Any:
    """Result of `work` in a forked process: what it imports and starts stays there."""
    ours, theirs = _fork.Pipe(duplex=False)
    process = _fork.Process(target=lambda: theirs.send(work()))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        forked.join(process)


def test_without_tracking_no_service_is_imported(tmp_path: Path) -> None:
    def work() -> list[str]:
        for name in list(sys.modules):
            if name.split(".")[0] in ("wandb", "tensorboard"):
                del sys.modules[name]
        assert runner.run(tiny.config(tmp_path, **SHORT)).state == "finished"
        return [n for n in ("wandb", "tensorboard") if n in sys.modules]

    assert in_child(work) == []
    assert {p.name for p in next(tmp_path.iterdir()).iterdir()} == {
        ".lock",
        "checkpoints",
        "config.yaml",
        "log.txt",
        "metrics.jsonl",
        "run.json",
        "status.json",
    }


def flat(steps: list[tuple[int, dict[str, float]]]) -> dict[tuple[int, str], float]:
    found: dict[tuple[int, str], float] = {}
    for step, values in steps:
        for name, value in values.items():
            assert (step, name) not in found
            found[step, name] = value
    return found


def ledger(folder: Path) -> dict[tuple[int, str], float]:
    """The ledger in the names of the mirrors."""
    found = {}
    for r in read_rows(folder / "metrics.jsonl"):
        suffix = "" if r["weights"] == "raw" else f"/{r['weights']}"
        found[r["step"], f"{r['split']}/{r['metric']}{suffix}"] = r["value"]
    return found


def records(path: Path) -> Iterator[Any]:
    """Records of an offline .wandb file, in LevelDB's framing: 7 bytes of header, 32 KiB blocks."""
    from wandb.proto import wandb_internal_pb2

    data, place, part = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + 7])
        if size == kind == 0:
            place += left
            continue
        part += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


def read_offline(path: Path) -> dict[str, Any]:
    """Id, group, configuration and history of one offline run."""
    found: dict[str, Any] = {"history": []}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run" and record.run.config.update:
            found |= {"id": record.run.run_id, "group": record.run.run_group}
            found["config"] = {i.key: json.loads(i.value_json) for i in record.run.config.update}
        elif kind == "history":
            items = record.history.item
            values = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in items}
            named = {k: v for k, v in values.items() if not k.startswith("_")}
            found["history"].append((values["_step"], named))
    return found


def test_wandb_offline_holds_the_ledger_under_one_id_over_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_RUN_ID", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    config = tiny.config(tmp_path, tracking__wandb="offline", train__epochs=3.0)
    calls, loss = 0, tiny.Task.loss

    def stopping(self: Any, model: Any, batch: Any, world: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 8:
            os.kill(os.getpid(), 15)
        return loss(self, model, batch, world)

    monkeypatch.setattr(tiny.Task, "loss", stopping)

    def work() -> Any:
        states = [runner.run(config).state for _ in range(2)]
        wandb.teardown()  # its service has written all
        files = sorted(tmp_path.glob("*/wandb/offline-run-*/*.wandb"), key=os.path.getmtime)
        return states, [read_offline(path) for path in files]

    states, found = in_child(work)
    assert states == ["interrupted", "finished"]
    (folder,) = tmp_path.iterdir()
    assert [run["id"] for run in found] == [folder.name] * 2  # of which one is to be synced
    assert [run["group"] for run in found] == ["tiny"] * 2
    assert found[0]["config"]["optimizer"]["lr"] == 3e-3
    assert flat(found[1]["history"]) == pytest.approx(ledger(folder))
    assert len(found[1]["history"]) > len(found[0]["history"]) > 1
    log = (folder / "log.txt").read_text()
    assert log.count("the newest folder in") == 1 and f"{folder}/wandb holds the whole run" in log


def test_tensorboard_holds_the_ledger(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")

    def work() -> Any:
        outcome = runner.run(tiny.config(tmp_path, **SHORT, tracking__tensorboard=True))
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(outcome.folder / "tensorboard"))
        events.Reload()
        names = events.Tags()["scalars"]
        return {(e.step, name): e.value for name in names for e in events.Scalars(name)}

    found = in_child(work)
    assert found == pytest.approx(ledger(next(tmp_path.iterdir())), rel=1e-6)
