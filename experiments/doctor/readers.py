"""Evidence out of what tools have logged: our runs, JSON lines, CSV, TensorBoard, wandb offline."""

from __future__ import annotations

import csv
import json
import math
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.config import UserError
from experiments.doctor.evidence import Evidence, Series
from experiments.doctor.given import ALIASES
from experiments.packages import get

_NAMES = {
    "loss": ("train/loss", "loss", "train_loss", "training_loss", "train.loss", "loss/train"),
    "lr": ("train/lr", "lr", "learning_rate", "train/learning_rate"),
    "grad_norm": ("telemetry/grad_norm", "grad_norm", "train/grad_norm", "gradient_norm"),
}
"""What we call it: how it is called in logs, in small letters, first come first served."""
_BY_GROUP = ("weight_rms", "update_rms", "momentum_rms", "sign_flips", "zero_updates")
"""Metrics of telemetry that rules ask for, `weight_rms/decay`: a log of them needs no loss."""
_STEPS = ("step", "global_step", "iteration", "iter", "_step")
_BLOCK, _HEADER = 32768, 7


def read(path: Path) -> Evidence:
    """Evidence of a run's folder, or of a file or folder of logs.

    Raises:
        UserError: where there is nothing that can be read.
    """
    if (path / "metrics.jsonl").is_file():
        if (path / "config.yaml").is_file():
            return _of_run(path)
        path = path / "metrics.jsonl"  # of another tool
    if path.name == "metrics.jsonl" and (path.parent / "config.yaml").is_file():
        return _of_run(path.parent)
    if path.suffix in (".jsonl", ".json"):
        return _named(path, _json_lines(path))
    if path.suffix == ".csv":
        return _named(path, _csv(path))
    if path.suffix == ".wandb" or list(path.glob("*.wandb")):
        return _of_wandb(path if path.suffix == ".wandb" else next(path.glob("*.wandb")))
    if list(path.rglob("*tfevents*")):
        return _named(path, _tensorboard(path))
    raise UserError(
        f"{path}: neither a run's folder nor metrics.jsonl, a .csv, a TensorBoard or an offline "
        "wandb folder"
    )


def _of_run(folder: Path) -> Evidence:
    from experiments.store import read_config, read_json, read_rows

    config = read_config(folder)
    run = Evidence(folder.name, settings=settings_of(config))
    header, status = read_json(folder / "run.json"), read_json(folder / "status.json")
    total, share = status.get("total_steps"), config.get("schedule", {}).get("warmup_fraction", 0.0)
    run.settings |= {"state": status.get("state"), "total_steps": total}
    if run.settings["warmup_steps"] is None and isinstance(total, int):  # of epochs
        run.settings["warmup_steps"] = share * total
    starts = [session.get("start_step", 0) for session in header.get("sessions", [])]
    run.resumed_at = sorted({float(step) for step in starts if step})
    _add_rows(run, read_rows(folder / "metrics.jsonl"))
    return run


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the rules ask of a configuration of this suite."""
    optimizer, train = config.get("optimizer", {}), config.get("train", {})
    schedule = config.get("schedule", {})
    steps, fraction = schedule.get("warmup_steps"), schedule.get("warmup_fraction", 0.0)
    total = train.get("steps")
    return {
        "optimizer": config.get("optimizer_name"),
        "experiment": config.get("experiment"),
        "lr": optimizer.get("lr"),
        "weight_decay": optimizer.get("weight_decay", 0.0),
        "batch_size": train.get("batch_size"),
        "grad_clip_norm": train.get("grad_clip_norm"),
        "param_dtype": train.get("param_dtype", "float32"),
        "warmup_steps": fraction * total if steps is None and total else steps,
        "final_fraction": 1.0
        if schedule.get("name") == "constant"
        else schedule.get("final_fraction", 0.0),
    }


def _add_rows(run: Evidence, rows: list[dict[str, Any]]) -> None:
    """Rows of our ledger: split, metric, value."""
    named: dict[str, Series] = {}
    for row in rows:
        is_telemetry = row.get("split") == "telemetry"
        name = row["metric"] if is_telemetry else f"{row['split']}/{row['metric']}"
        named.setdefault(name, []).append((float(row["step"]), float(row["value"])))
    run.series = _known(named)


def _named(path: Path, named: dict[str, Series]) -> Evidence:
    run = Evidence(path.name, series=_known(named))
    if not named:
        raise UserError(
            f"{path}: no number could be read; it must have a row per step, e.g. step,loss"
        )
    if not run.series.get("loss") and not any(map(run.groups_of, _BY_GROUP)):
        raise UserError(
            f"{path}: no column for the loss; name it one of {', '.join(_NAMES['loss'])}"
        )
    return run


def _known(named: dict[str, Series]) -> dict[str, Series]:
    """Our names for what is known; telemetry keeps its own."""
    found = {name.removeprefix("telemetry/"): series for name, series in named.items()}
    for ours, theirs in _NAMES.items():
        first = next((name for name in theirs if name in named), None)
        if first is not None:
            found[ours] = named[first]
    return {name: sorted(series) for name, series in found.items()}


def _wide(rows: Iterator[tuple[int, Mapping[str, Any]]]) -> dict[str, Series]:
    """A row per step, a column per number; or a row per number (step, split, metric, value)."""
    named: dict[str, Series] = {}
    for number, mixed in rows:
        row: Mapping[str, Any] = {str(key).strip().lower(): v for key, v in mixed.items()}
        step = next((_float(row[key]) for key in _STEPS if key in row), None)
        step = float(number) if step is None else step
        if not math.isfinite(step):
            continue
        if "metric" in row and "value" in row:
            split = row.get("split")
            name, value = f"{split}/{row['metric']}" if split else str(row["metric"]), row["value"]
            row = {name: value}
        for name, value in row.items():
            found = _float(value)
            if found is not None and name not in _STEPS:
                named.setdefault(name, []).append((step, found))
    return named


def _float(value: Any) -> float | None:
    if isinstance(value, bool) or value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _json_lines(path: Path) -> dict[str, Series]:
    lines = [line for line in _lines(path) if line.strip()]
    rows = [row for row in map(_json_object, lines) if row is not None]
    if len(rows) < len(lines) - 1:  # one may be cut by a kill
        told = f"{path}: {len(lines) - len(rows)} of {len(lines)} lines are no JSON objects"
        print(f"note: {told}, left out", file=sys.stderr)
    return _wide(iter(enumerate(rows)))


def _json_object(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _csv(path: Path) -> dict[str, Series]:
    try:
        return _wide(iter(enumerate(csv.DictReader(_lines(path)))))
    except csv.Error as error:
        raise UserError(f"{path}: no CSV file: {error}") from error


def _tensorboard(path: Path) -> dict[str, Series]:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as error:
        raise UserError(f"{error}: {get('tensorboard')}") from error
    named: dict[str, Series] = {}
    for folder in sorted({file.parent for file in path.rglob("*tfevents*")}):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        for name in events.Tags()["scalars"]:
            found = [(float(e.step), float(e.value)) for e in events.Scalars(name)]
            named.setdefault(name.lower(), []).extend(found)
    return named


def _of_wandb(path: Path) -> Evidence:
    """History and configuration of an offline run's file."""
    config: dict[str, Any] = {}
    rows: list[tuple[int, dict[str, Any]]] = []
    for record in _records(path):
        kind = record.WhichOneof("record_type")
        if kind in ("run", "config"):
            update = record.run.config.update if kind == "run" else record.config.update
            config |= {item.key: json.loads(item.value_json) for item in update}
        elif kind == "history":
            items = record.history.item
            values = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
            rows.append((len(rows), values))
    run = _named(path, _wide(iter(rows)))
    is_ours = isinstance(config.get("optimizer"), dict)
    run.settings = settings_of(config) if is_ours else _flat(config)
    return run


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of others under our names."""
    return {ALIASES.get(key, key): value for key, value in config.items()}


def _records(path: Path) -> Iterator[Any]:
    """Records of a .wandb file: LevelDB's log format after 7 bytes."""
    try:
        from wandb.proto import wandb_internal_pb2
    except ImportError as error:
        raise UserError(f"{error}: {get('wandb')}") from error
    data, place, part = path.read_bytes(), _HEADER, b""
    while place + _HEADER <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + _HEADER])
        if size == kind == 0:
            place += left
            continue
        part += data[place + _HEADER : place + _HEADER + size]
        place += _HEADER + size
        if kind in (1, 4):  # whole, or the last part of one
            record: Any = getattr(wandb_internal_pb2, "Record")()  # noqa: B009 - made at run time
            try:
                record.ParseFromString(part)
            except Exception as error:  # protobuf's DecodeError has moved between versions
                raise UserError(f"{path}: damaged, or no wandb file: {error}") from error
            part = b""
            yield record


def is_sweep(path: Path) -> bool:
    """Whether a file is a table with a row per run."""
    if path.suffix != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        columns = set(file.readline().strip().split(","))
    return {"optimizer", "lr", "seed", "state", "val"} <= columns
