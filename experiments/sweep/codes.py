"""Which code the cells of a sweep were trained by: one's own may change between two calls.

A run is known by its settings, not by its code, so that finished cells stand as they are.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from experiments import sources
from experiments.config import from_dict
from experiments.header import sessions_of
from experiments.store import read_json
from experiments.sweep.manifest import Cell, Sweep


def changed(sweep: Sweep) -> str:
    """What to say where cells that are over were trained by other code than that of now."""
    now: dict[str, dict[str, str]] = {}
    cells, sections = 0, set()
    for cell in sweep.cells:
        if not (before := _before(sweep, cell)):
            continue
        key = json.dumps([cell.config[section] for section in sources.SECTIONS], sort_keys=True)
        if key not in now:
            now[key] = sources.hashes(from_dict(cell.config))
        differ = {name for name in before[-1] if before[-1][name] != now[key].get(name)}
        cells, sections = cells + bool(differ), sections | differ
    if not cells:
        return ""
    return (
        f"{sweep.name}: {cells} of its cells are over and not trained again, though the code of "
        f"their {', '.join(sorted(sections))} has changed since; to train all anew, say "
        "results_dir=ELSEWHERE"
    )


def changed_in(path: Path) -> Iterator[str]:
    """`changed` of a sweep's folder; nothing where there is none yet."""
    if (path / "manifest.json").exists() and (said := changed(Sweep(path))):
        yield said


def mixed(*sweeps: Sweep) -> Iterator[str]:
    """A line for each part of some sweeps' cells that are over whose code has differed."""
    found: dict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    for sweep, cell in ((one, cell) for one in sweeps for cell in one.cells):
        for session in _before(sweep, cell):
            for section, code in session.items():
                found[section, tuple(sources.targets(cell.config[section]))].add(code)
    for (section, targets), codes in sorted(found.items()):
        if len(codes) > 1:
            yield (
                f"the cells were trained by {len(codes)} versions of the {section} "
                f"{', '.join(targets)}: no fair comparison; results_dir=ELSEWHERE trains all anew"
            )


def _before(sweep: Sweep, cell: Cell) -> list[dict[str, str]]:
    """The hashes of code of each session of a cell that is over; see `experiments.sources`."""
    if not sweep.final_state(cell):
        return []
    sessions = sessions_of(read_json(sweep.folder(cell).header)) or []
    told = [session.get("sources") for session in sessions]
    return [one for one in told if isinstance(one, dict) and one]
