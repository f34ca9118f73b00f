"""What each statement of a program is worth: the program trained without it, pair by pair.

Simplification asks which statements can go; this asks what each of them does, on data that no
simplification has looked at. Without a step size no learning rate fits, so versions that do not
read `lr`, or not the gradient, are none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.search import ablation, liveness
from experiments.search.finals import Final
from experiments.search.hashing import structural_hash
from experiments.search.language import Program
from experiments.search.simplify import proxy_measure
from experiments.store import write_text

FIRST_ROUND = 5000
"""Of the fresh data; rounds before it pick finalists, simplify them and take them through gates."""

ERROR = "standard_error"
SURROUNDINGS = ("commit", "cpu", "versions", "launcher", "command")


def versions(program: Program) -> Iterator[tuple[int, str, Program]]:
    """The place of a statement, what stands there instead, and the program without it.

    Args:
        program: One of valid types, without statements that do not matter.
    """
    seen = {(place, structural_hash(program)) for place in range(len(program))}
    for place, instead, changed in ablation.versions(program, factors=True):
        live = liveness.analyse(changed)
        version = place, structural_hash(changed, live)
        if {"g", "lr"} <= live.read and version not in seen:
            seen.add(version)
            yield place, instead, changed


def measure(
    program: Program, families: Sequence[str], num_rounds: int, num_steps: int
) -> list[dict[str, Any]]:
    """Trains a program without each of its statements, beside the whole.

    Args:
        program: As for `versions`.
        families: Of proxies.
        num_rounds: Pairs on each: data, initial weights and held-out data of their own.
        num_steps: Of a training.

    Returns:
        A row per family and version: family, num_steps, place (of the statement), statement,
        instead, mean (nats of held-out loss below that of the whole; None: it failed in a round),
        standard_error, n.
    """
    found = list(versions(program))
    rows = []
    for family in families:
        measured = proxy_measure(program, family, num_rounds, num_steps, FIRST_ROUND)
        gains = measured([changed for _, _, changed in found])
        for (place, instead, _), of in zip(found, gains, strict=True):
            final = Final(tuple(of), (None,) * len(of))
            error = final.standard_error
            rows.append(
                {
                    "family": family,
                    "num_steps": num_steps,
                    "place": place,
                    "statement": program.statements[place].text(),
                    "instead": instead,
                    "mean": final.mean if math.isfinite(final.mean) else None,
                    ERROR: error if math.isfinite(error) else None,
                    "n": len(of),
                }
            )
    return rows


def measured_by() -> dict[str, Any]:
    """What stands beside a number that this process has measured: `SURROUNDINGS`."""
    import torch

    from experiments.distributed import World
    from experiments.surroundings import surroundings

    facts = surroundings(World(0, 1, torch.device("cpu")))
    return {key: facts[key] for key in SURROUNDINGS}


def add_to(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> Path:
    """Writes a program's rows to `ablation.csv` of a study, in place of those that it has there.

    Args:
        folder: Of the study.
        name: Of the program.
        rows: As `measure` gives them.

    Returns:
        The file.
    """
    import pandas as pd

    where = measured_by()
    table = pd.DataFrame([{"program": name, **row, **where} for row in rows])
    path = folder / "ablation.csv"
    if path.exists():
        before = pd.read_csv(path, keep_default_na=False, na_values={"mean": "", ERROR: ""})
        kept = before.loc[before.program != name].to_dict("records")
        table = pd.DataFrame([*kept, *table.to_dict("records")])
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, table.to_csv(index=False, float_format="%.7g"))
    return path
