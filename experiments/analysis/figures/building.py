"""Figures by name: drawn and written, or compared with what stands, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from experiments.analysis.drawing import figure_style
from experiments.analysis.figures.catalogue import FIGURES

T = TypeVar("T")


def build(
    names: Sequence[str], results: Path, out: Path, *, anew: bool = False, jobs: int = 1
) -> Iterator[tuple[str, list[Path]]]:
    """Draws and writes figures; yields for each, in order, its name and its files.

    Args:
        names: Of `FIGURES`.
        results: Where the tables are.
        out: The folder of the files.
        anew: As in `figure_style.save`.
        jobs: Processes that draw.

    Raises:
        UserError: A table is missing or damaged.
    """
    yield from zip(names, _each(partial(_write, results, out, anew), names, jobs), strict=True)


def outdated(names: Sequence[str], results: Path, out: Path, *, jobs: int = 1) -> list[str]:
    """Which figures' SVG files are missing or not what would be drawn now; as in `build`."""
    current = _each(partial(_is_current, results, out), names, jobs)
    return [name for name, is_current in zip(names, current, strict=True) if not is_current]


def _each(work: Callable[[str], T], names: Sequence[str], jobs: int) -> Iterator[T]:
    if min(jobs, len(names)) < 2:
        yield from map(work, names)
        return
    with ProcessPoolExecutor(min(jobs, len(names))) as pool:
        yield from pool.map(work, names)


def _write(results: Path, out: Path, anew: bool, name: str) -> list[Path]:
    return figure_style.save(FIGURES[name].draw(results), out, name, anew=anew)


def _is_current(results: Path, out: Path, name: str) -> bool:
    path = out / f"{name}.svg"
    return path.exists() and path.read_bytes() == figure_style.svg(FIGURES[name].draw(results))
