"""Whether a run has ended for good before, and what has changed since it was trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from experiments import checkpoint, header, sources, telemetry
from experiments.config import RunConfig
from experiments.ledger import is_changed, lacks_end, num_lost, read_rows
from experiments.store import FINAL_STATES, Folder, read_json
from experiments.surroundings import commit


def is_over(folder: Folder, config: RunConfig, tell: Callable[[str], None]) -> bool:
    """Whether a run is over; main process only.

    A finished run whose last evaluation is gone is not over: what is left of it goes on.

    Args:
        folder: Of the run.
        config: As it is asked for now.
        tell: Shows a line: of what is lost or has changed.

    Raises:
        UserError: where its ledger cannot be read.
    """
    status = folder.read_status()
    if status.get("state") not in FINAL_STATES:
        return False
    run_id = folder.path.name
    place = f"{run_id}: {status['state']} at step {status.get('step')}"
    if lacks_end(status, read_rows(folder.metrics)):
        tell(f"{place}, but {folder.metrics} lacks the evaluation there: going on")
        return False
    has_header = header.sessions_of(read_json(folder.header)) is not None
    if not has_header and checkpoint.list_newest_first(folder.checkpoints):
        tell(f"{place}, but {folder.header} is missing or damaged: making it again")
        return False
    lost = num_lost(folder.metrics, status.get("num_rows"), status.get("step", 0))
    if lost:
        tell(f"{place}, but {lost} of its measurements are no longer in its ledger")
    elif is_changed(folder.metrics, status.get("ledger")):
        tell(f"{place}, but {folder.metrics} has been changed since")
    for differs in _changes(folder, config):
        tell(
            f"{run_id}: not trained again, though {differs}; to train anew, move "
            f"{folder.path} away or say results_dir=ELSEWHERE"
        )
    if measured := header.other_measure(folder, config):
        tell(f"{run_id}: not measured again, though {measured} was another: job=evaluate does it")
    with contextlib.suppress(OSError):
        header.keep_config(folder, config)
    return True


def _changes(folder: Folder, config: RunConfig) -> Iterator[str]:
    """What is not as it would be if the run were trained now: code, data, telemetry."""
    sessions = header.sessions_of(read_json(folder.header))
    now_here = {"sources": sources.hashes(config), "commit": commit()}
    code = sources.difference(sessions[-1], now_here) if sessions else ""
    found = (code, header.other_data(folder, config), _lacks_telemetry(folder, config))
    yield from filter(None, found)


def _lacks_telemetry(folder: Folder, config: RunConfig) -> str:
    has_any = any(row.get("split") == telemetry.SPLIT for row in read_rows(folder.metrics))
    asked = config.tracking.telemetry_every_steps
    return "telemetry is asked for, of which it has none" if asked and not has_any else ""
