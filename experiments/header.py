"""What holds for a whole run: `run.json`, and what of it can be told where that is damaged."""

from __future__ import annotations

import json
import warnings
from typing import Any

from experiments.config import RunConfig, from_dict
from experiments.store import SCHEMA_VERSION, Folder, read_config, read_json


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
