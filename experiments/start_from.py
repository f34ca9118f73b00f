"""What the section `start_from` says: whose weights a run begins with. Standard library only.

    start_from=vit_x-adamw-s0-0123456789          a run of this results folder, its end
    start_from.source=/models/vit.safetensors     a file of timm, transformers or this suite
    start_from={source: ID, weights: ema, leave_out: [head.*]}
    start_from.source=[{source: A, into: image.}, {source: B, into: text.}]

A run is known by its id, a file by its content, wherever it lies: so both are part of which run
this is (`experiments.identity`). `experiments.warm_start` loads them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from experiments.config import ConfigError, RunConfig, UserError
from experiments.pages import shipped
from experiments.store import run_meant


@dataclass(frozen=True)
class Source:
    """One set of weights to begin with."""

    source: str  # id of a run, or path of a file or folder
    weights: str = "raw"  # raw | ema (averaged), where the source has both
    leave_out: tuple[str, ...] = ()  # patterns of names in the model that keep fresh weights
    into: str = ""  # prefix in the model: its part that these weights are for
    take: str = ""  # prefix in the source: only what stands below it is taken, without it
    grid: tuple[int, ...] = ()  # rows and columns of patches there, where nothing tells them
    sha256: str = field(default="", compare=False)  # of the file; another content is refused


def sources(config: RunConfig) -> list[Source]:
    """The sources of a run, in the order in which they are loaded; none: fresh weights.

    Raises:
        ConfigError: for a section that says something else.
    """
    return [found for entry in entries(config) if (found := _source(entry)) is not None]


def entries(config: RunConfig) -> list[Any]:
    """What the section says of each source: all keys, an id or path alone, or nothing.

    Raises:
        ConfigError: where keys stand beside a list of sources, which have their own.
    """
    section = config.start_from
    listed = section.get("source") if isinstance(section, dict) else section
    if not isinstance(listed, list | tuple):
        return [section]
    beside = section.items() if isinstance(section, dict) else ()
    for key, value in beside:
        if key != "source" and value and (key, value) != ("weights", "raw"):
            raise ConfigError(f"start_from.{key} stands beside a list of sources: say it in each")
    return list(listed)


def _source(entry: Any) -> Source | None:
    if entry is None or entry == "":
        return None
    if isinstance(entry, str):
        return Source(shipped(entry))
    if not isinstance(entry, dict):
        raise ConfigError(f"start_from={entry!r}: give the id of a run, or the path of a file")
    known = [f.name for f in fields(Source)]
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(known)}"
            raise ConfigError(f"start_from.{key}: no such key{hint}")
    given = {key: value for key, value in entry.items() if value not in (None, "", [])}
    if "source" not in given:
        if extra := sorted(set(given) - {"weights"}):
            raise ConfigError(f"start_from.{extra[0]} is set, but not start_from.source")
        return None
    patterns = given.get("leave_out", ())
    if isinstance(patterns, str) or not all(isinstance(p, str) for p in patterns):
        raise ConfigError(f"start_from.leave_out={patterns}: give a list of name patterns")
    lists = {"leave_out": tuple(patterns), "grid": tuple(given.get("grid", ()))}
    found = Source(**{**given, "source": shipped(str(given["source"])), **lists})
    if found.weights not in ("raw", "ema"):
        raise ConfigError(f"start_from.weights={found.weights}: choose one of raw, ema")
    return found


UNSAID = "RUN_ID"
"""What a page says that starts from weights, and leaves it to the command whose."""


def folder_of_run(source: Source, results_dir: str) -> Path | None:
    """The folder of the run that a source means; None where it is a file.

    Raises:
        UserError: where there is neither.
    """
    path = Path(source.source).expanduser()
    if (path / "run.json").exists():
        _check_is_run(path)
        return path
    if path.is_file() or path.is_dir():
        return None
    if source.source == UNSAID:
        raise UserError(
            "this page starts from weights: say start_from.source=, the id of a finished run (the "
            "page names which) or the path of a file of weights"
        )
    folder = Path(results_dir) / source.source
    if (folder / "run.json").exists():
        return folder
    known = sorted(p.parent.name for p in Path(results_dir).glob("*/run.json"))
    hint = run_meant(source.source, known)
    raise UserError(f"start_from: {source.source} is no file, and no run in {results_dir}{hint}")


WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files of a folder as transformers saves it; or shards of one, with an index."""


def _check_is_run(folder: Path) -> None:
    """A run is known by its folder's name, so that must be its own, and hold no other weights."""
    if found := [p.name for name in WEIGHTS for p in folder.glob(f"{name}*")]:
        raise UserError(
            f"start_from: {folder} holds a run and {found[0]}: name the file that is meant"
        )
    try:
        header = json.loads((folder / "run.json").read_text())
        own = header.get("run_id", "")
    except (OSError, ValueError, AttributeError):  # damaged; what needs it says so
        return
    if own and own != folder.resolve().name:
        raise UserError(f"start_from: {folder} holds the run {own}: give the folder that name")


def check(config: RunConfig) -> None:
    """Refuses sources that are not there, before anything heavy is imported.

    Raises:
        UserError: names the nearest run.
    """
    for source in sources(config):
        folder_of_run(source, config.results_dir)


def identity(config: RunConfig) -> list[dict[str, Any]]:
    """What of the section makes another run: run ids and contents of files, never their paths."""
    found = []
    for source in sources(config):
        plain: dict[str, Any] = {
            key: value
            for key in ("weights", "leave_out", "into", "take", "grid")
            if (value := getattr(source, key)) and value != "raw"
        }
        path = Path(source.source).expanduser()
        is_there = path.is_file() or path.is_dir()  # no device, which has no end
        if is_there and not (path / "run.json").exists():
            plain["sha256"] = source.sha256 or checksum(path)
        else:  # a run, whether or not it is still there
            plain["run"] = path.resolve().name
        found.append(plain)
    return found


def checksum(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names; hex."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stamps = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return _checksum(str(path), stamps)


@lru_cache(maxsize=64)
def _checksum(path: str, stamps: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in stamps:
        if name != path:
            digest.update(str(Path(name).relative_to(path)).encode() + b"\0")
        with open(name, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
