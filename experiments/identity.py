"""Which run a configuration is: the same settings, the same folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from experiments import settings, start_from
from experiments.config import RunConfig, to_dict
from experiments.precision import resolved

OPERATIONAL_DATA_KEYS = ("root", "val_root", "eval_roots", "cache_dir", "num_workers", "encoder")
OPERATIONAL_DATA_KEYS += ("tokenizer_file", "annotations")
OPERATIONAL_DATA_KEYS += ("more_labels",)  # known by its SHA-256
"""Keys of `data` that say where files lie and how they are read, not which examples they are."""

DATA_DEFAULTS = {"experiments.data.image_files.ImageFiles": {"decoder": "pil", "test_split": None}}
"""Keys of `data` that came later: no part of which run it is where they have these values."""

OPERATIONAL_EVAL_KEYS = ("batch_size", "weights")
"""Keys of `eval` that change neither the training nor what is measured."""
OPERATIONAL_TASK_KEYS = ("judge", "one_shot")
"""Keys of `task` that say how a model is measured: every row says so itself."""
TASK_DEFAULTS = [asdict(schema()) for schema in settings.TASKS.values()]
"""Every field of the task schemas at its default; a page composes them all."""


def identity(config: RunConfig) -> dict[str, Any]:
    """The part of the configuration that decides which run this is.

    `train.precision=auto` counts as what it means on this machine; fp32 is the default. Left out:
    where files lie, how the work is launched, saved and tracked, what the numbers are
    based on, every field that stands at its schema default, and every null of the optimizer,
    which leaves its class's default (so that a field added later does not rename the runs of
    today).
    """
    full, default = to_dict(config), _defaults()
    begun = start_from.identity(config)
    parts = ("experiment", "optimizer_name", "seed", "task", "data", "model", "optimizer")
    parts += ("param_groups", "schedule", "train", "eval")
    kept = {key: full[key] for key in parts}
    for key in OPERATIONAL_DATA_KEYS:
        kept["data"].pop(key, None)
    for key, value in DATA_DEFAULTS.get(_target(kept["data"]), {}).items():
        if kept["data"].get(key, value) == value:
            kept["data"].pop(key, None)
    for key in OPERATIONAL_EVAL_KEYS:
        kept["eval"].pop(key)
    for key in OPERATIONAL_TASK_KEYS if isinstance(kept["task"], dict) else ():
        kept["task"].pop(key, None)
    kept["train"]["precision"] = "auto" if (found := resolved(config)) == "fp32" else found
    kept["optimizer"] = {k: v for k, v in kept["optimizer"].items() if v is not None}
    task = next((t for t in TASK_DEFAULTS if t["_target_"] == _target(kept["task"])), {})
    for key in ("task", "param_groups", "schedule", "train", "eval"):
        section, defaults = kept[key] or {}, task if key == "task" else default[key]
        kept[key] = {
            k: v
            for k, v in section.items()
            if k == "_target_" or k not in defaults or v != defaults[k]
        }
    return kept | ({"start_from": begun} if begun else {})


@cache
def _defaults() -> dict[str, Any]:
    return to_dict(RunConfig())


def run_id(config: RunConfig) -> str:
    """Readable name plus a hash of `identity`: the same configuration has the same folder.

    A page in a subfolder is named with a dot: the run's folder lies beside all others.
    """
    text = json.dumps(_canonical(identity(config)), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    names = f"{config.experiment}-{config.optimizer_name}".replace("/", ".")
    return f"{names}-s{config.seed}-{digest}"


def folder_of(config: RunConfig) -> Path:
    """Where the run is recorded."""
    return Path(config.results_dir) / run_id(config)


def _target(section: Any) -> Any:
    return section.get("_target_") if isinstance(section, dict) else None


def _canonical(value: Any) -> Any:
    """1 and 1.0 are the same setting, and so are tuples and lists."""
    if isinstance(value, dict):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v) for v in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
