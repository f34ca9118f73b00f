"""What a sweep has given so far: progress, failures, the best cells, as text for a terminal."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from experiments.files import show_table
from experiments.sweep import codes
from experiments.sweep.live import duration
from experiments.sweep.manifest import Cell, Sweep
from experiments.sweep.results import Best, best_cells, not_judged, pace, runs_table
from experiments.sweep.unpicked import in_words, without_pick

if TYPE_CHECKING:
    from rich.console import Console

NUM_LOG_LINES = 3
MAX_FAILURES = 10
"""How many failed cells are shown in full."""
PLAIN_WIDTH = 120
"""Characters a line of what goes into a file or a pipe, which has no width of its own."""


def show(sweep: Sweep, console: Console | None = None, metric: str | None = None) -> None:
    """Prints all there is to say about a sweep.

    Args:
        sweep: The sweep.
        console: To print to.
        metric: To judge by, instead of the tasks' own.
    """
    from rich.console import Console

    sweep.refresh()
    console = console or Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = max(console.width, PLAIN_WIDTH)
    states = sweep.states()
    for line in _summary(sweep, states):
        console.print(line, soft_wrap=True)
    for line in codes.mixed(sweep):
        console.print(f"  [red]MIXED CODE[/]: {line}", soft_wrap=True)
    for cell in sweep.cells:
        if states[cell.run_id] == "running":
            facts = sweep.leases.of(cell.run_id)[-1].facts
            console.print(f"  running: {cell.title}, process {facts['pid']} on {facts['host']}")
    failed = [c for c in sweep.cells if states[c.run_id] in ("failed", "retry")]
    for cell in failed[:MAX_FAILURES]:
        console.print(f"[red]  {states[cell.run_id]}[/]: {cell.title}")
        for line in _last_words(sweep, cell):
            console.print(f"      {line}", markup=False)
    if len(failed) > MAX_FAILURES:
        console.print(f"  ... and {len(failed) - MAX_FAILURES} more")
    if any(state == "finished" for state in states.values()):
        _show_best(sweep, console, metric)


def _summary(sweep: Sweep, states: dict[str, str]) -> Iterator[str]:
    counts = Counter(states.values())
    done = counts["finished"] + counts["diverged"]
    said = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    yield f"[bold]{sweep.name}[/]: {done} of {len(states)} cells done ({said})"
    manifest = sweep.manifest
    budget = ", ".join(f"{name} {count}" for name, count in manifest["budget"].items())
    fair = "" if manifest["budget_is_equal"] else " [red]UNEQUAL: no fair comparison[/]"
    yield f"  trials per optimizer: {budget}; seeds {_spans(manifest['seeds'])}{fair}"
    measured = pace(sweep, states)
    if measured and done < len(states):
        rate, left = measured
        yield f"  {rate:.3g} cells per hour; about {duration(left)} left with the workers of now"


def _last_words(sweep: Sweep, cell: Cell) -> Iterator[str]:
    """Why a cell failed, and the last lines of its log."""
    for lease in reversed(sweep.leases.of(cell.run_id)):
        if message := lease.facts.get("message"):
            yield message
            break
    log = sweep.folder(cell).log
    if log.exists():
        yield from log.read_text(errors="replace").splitlines()[-NUM_LOG_LINES:]


def _show_best(sweep: Sweep, console: Console, metric: str | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    chosen = best_cells(sweep, metric)
    if not chosen:
        why = not_judged(runs_table(sweep, metric)) or "no setting has finished with every seed yet"
        console.print(f"  {why}", markup=False, soft_wrap=True)
        return
    scales = {cell.config["scale"] for cell in sweep.cells}
    note = "\n(a proxy: says nothing of full size)" if "proxy" in scales else ""
    judged = " | ".join(
        dict.fromkeys(f"picked on {b.headline.tune}; {b.headline.phrase}" for b in chosen)
    )
    title = f"Best cells, {judged}{note}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    columns = list(dict.fromkeys(name for best in chosen for name in best.settings))
    values = [f"{getattr(chosen[0].headline, which)}" for which in ("tune", "report")]
    with_loss = any(best.test_loss == best.test_loss for best in chosen) and any(
        best.headline.metric != "loss" for best in chosen
    )
    losses = [f"{values[1]} loss"] if with_loss else []
    for heading in ("optimizer", *columns, *values, *losses, "seeds", "trials", "diverged"):
        table.add_column(
            heading.replace("_", " "), justify="left" if heading == "optimizer" else "right"
        )
    seeds = len(sweep.manifest["seeds"])
    for best in chosen:
        table.add_row(*_row(best, columns, with_loss, seeds))
    show_table(console, table)
    if lost := in_words(without_pick(sweep, chosen)):
        console.print(f"  {lost}", end="", markup=False, soft_wrap=True)
    if any(best.edges for best in chosen):
        console.print(
            "[red]* NOT TUNED[/]: the smallest or largest value that was tried; widen the grid "
            "(sweep=lr_wd_wide, or KEY=VALUE,VALUE,... beside the sweep).",
            soft_wrap=True,
        )
    if any(b.headline.tune == b.headline.report and b.num_trials > 1 for b in chosen):
        console.print(
            f"  {values[1]} has picked and reports, so these numbers are too good: compare fresh "
            "seeds (confirm), on a split that has picked nothing",
            soft_wrap=True,
        )
    for best in chosen:
        for remark in best.remarks:
            console.print(f"  {best.optimizer}: {remark}", markup=False, soft_wrap=True)


def _spans(seeds: Sequence[int]) -> str:
    """`0-4, 7`: a thousand seeds are no more to read than two."""
    spans: list[list[int]] = []
    for seed in sorted(seeds):
        if spans and seed == spans[-1][-1] + 1:
            spans[-1][1:] = [seed]
        else:
            spans.append([seed])
    return ", ".join("-".join(map(str, span)) for span in spans)


def _row(best: Best, columns: list[str], with_loss: bool, num_seeds: int) -> list[str]:
    marks = dict.fromkeys(best.edges, "[red] *[/]")
    digits = best.headline.digits
    error = f" ± {best.test_error:.{digits}f}" if best.num_seeds > 1 else ""
    loss = [f"{best.test_loss:.3f}"] if with_loss else []
    partly = f" of {num_seeds}" if best.num_seeds < num_seeds else ""
    return [
        best.optimizer,
        *(f"{_text(best.settings.get(name))}{marks.get(name, '')}" for name in columns),
        f"{best.val:.{digits}f}",
        f"{best.test:.{digits}f}{error}" if best.test == best.test else "-",
        *loss,
        f"{best.num_seeds}{partly}",
        str(best.num_trials),
        str(best.num_diverged),
    ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
