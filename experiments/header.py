"""What holds for a whole run, `config.yaml` and `run.json`: kept, and made anew where damaged."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

from experiments.config import RunConfig, UserError, from_dict, to_dict
from experiments.files import read_json, set_aside, write_text
from experiments.identity import OPERATIONAL_TASK_KEYS, run_id
from experiments.store import SCHEMA_VERSION, Folder, read_config

PLACES = ("root", "val_root", "tokenizer_file", "encoder", "annotations")
"""Keys of `data` that name files, and are no part of which run it is."""


def keep_config(folder: Folder, config: RunConfig) -> None:
    """Writes the configuration where there is none of this run that can be read.

    Raises:
        OSError: e.g. on a full disk.
    """
    try:
        is_there = run_id(from_dict(read_config(folder.path))) == run_id(config)
    except (UserError, TypeError, AttributeError, KeyError, ValueError):  # damaged somewhere
        is_there = False
    if not is_there:
        import yaml

        set_aside(folder.config)
        text = yaml.safe_dump(to_dict(config), sort_keys=False)
        write_text(folder.config, text, durable=True)


def other_data(folder: Folder, config: RunConfig) -> str:
    """Where the data of a recorded run lay, if a configuration looks elsewhere, in a few words."""
    try:
        theirs = _places(from_dict(read_config(folder.path)).data)
    except (UserError, TypeError, AttributeError, KeyError, ValueError):  # damaged somewhere
        return ""
    ours = _places(config.data)
    moved = [key for key in ours if theirs.get(key, ours[key]) != ours[key]]
    words = [f"{key} was {theirs[key]} and is {ours[key]}" for key in moved]
    return f"{', '.join(words)}, where nothing has been looked at" if words else ""


def other_measure(folder: Folder, config: RunConfig) -> str:
    """The sections by which a recorded run would be measured otherwise now; "" where none are."""
    try:
        theirs = from_dict(read_config(folder.path)).task
        pairs = ((key, theirs.get(key), config.task.get(key)) for key in OPERATIONAL_TASK_KEYS)
        return ", ".join(f"task.{key}" for key, before, now in pairs if _differ(before, now))
    except (UserError, TypeError, AttributeError, KeyError, ValueError):  # damaged somewhere
        return ""


def _differ(one: Any, other: Any) -> bool:
    """Of values that only one has, sets count alone: later versions know more keys."""
    if isinstance(one, dict) and isinstance(other, dict):
        alone = [(one | other)[key] for key in one.keys() ^ other.keys()]
        both = one.keys() & other.keys()
        return any(isinstance(value, dict) and value for value in alone) or any(
            _differ(one[key], other[key]) for key in both
        )
    return one != other


def _places(data: dict[str, Any]) -> dict[str, str]:
    """Absolute paths of what `data` reads, by their keys."""
    keys = {f"data.{key}": data.get(key) for key in PLACES}
    roots = data.get("eval_roots")
    keys |= {f"data.eval_roots.{k}": v for k, v in roots.items()} if isinstance(roots, dict) else {}
    return {k: os.path.abspath(os.path.expanduser(v)) for k, v in keys.items() if type(v) is str}


def whole(
    folder: Folder, config: RunConfig, facts: dict[str, Any], rows: list[dict[str, Any]]
) -> tuple[dict[str, Any], str]:
    """The header with its sessions, made where there is none.

    Args:
        folder: Of the run.
        config: Of the run.
        facts: What the configuration does not tell.
        rows: Of the ledger. A header that is made anew has the sessions that they name, empty.

    Returns:
        The header, and the name that a damaged one was given.

    Raises:
        OSError: if a damaged one cannot be renamed.
    """
    made = {**of_config(config, folder.path.name), **facts}
    found = read_json(folder.header)
    if (sessions := sessions_of(found)) is not None:
        return {**made, **found, "sessions": sessions}, ""
    numbers = [row.get("session") for row in rows]
    last = max((number for number in numbers if isinstance(number, int)), default=-1)
    if last >= 0 and config.start_from:  # known to the first session alone
        made = {k: v for k, v in made.items() if k not in ("start_from", "init_optimizer")}
    return {**made, "sessions": [{} for _ in range(last + 1)]}, set_aside(folder.header)


def of_config(config: RunConfig, run_id: str) -> dict[str, Any]:
    """The part of a header that the configuration tells; without sessions."""
    optimizer = config.optimizer
    settings = {k: v for k, v in optimizer.items() if k != "_partial_"}
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "experiment": config.experiment,
        "scale": config.scale,
        "stands_for": config.stands_for,
        "optimizer": config.optimizer_name,
        "lr": optimizer.get("lr"),
        "weight_decay": optimizer.get("weight_decay"),
        "hyper_parameters": json.dumps(settings, sort_keys=True),
        "batch_size": config.train.batch_size,
        "seed": config.seed,
        "provenance": config.provenance.source,
    }


def sessions_of(header: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The sessions in a header; None where it is damaged."""
    sessions = header.get("sessions")
    if not isinstance(header.get("run_id"), str) or not isinstance(sessions, list):
        return None
    return sessions if all(isinstance(session, dict) for session in sessions) else None


def read_header(folder: Folder) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run's header without its sessions, and the sessions.

    Where `run.json` is damaged, what `config.yaml` tells of it, with a warning.

    Raises:
        UserError: where neither can be read.
    """
    header = read_json(folder.header)
    sessions = sessions_of(header)
    if sessions is not None:
        return {k: v for k, v in header.items() if k != "sessions"}, sessions
    told = of_config(from_dict(read_config(folder.path)), folder.path.name)
    warnings.warn(
        f"{folder.header} is missing or damaged: what config.yaml does not say of the run is "
        "unknown, until the run's command is called again",
        stacklevel=2,
    )
    return told, []
