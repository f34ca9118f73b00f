"""The main job: a small, fair comparison of Lion and AdamW, on a CPU, in about two minutes.

    python scripts/demo.py            # or: make demo

Both optimizers get the same number of learning rates and the same seeds. Validation picks each
one's learning rate, the test set reports it. Ctrl-C at any time; the next call goes on where this
one stopped, and once all is done it only draws.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments import store  # noqa: E402
from experiments.config import RunConfig, UserError  # noqa: E402
from experiments.identity import run_id  # noqa: E402
from run import compose  # noqa: E402

if TYPE_CHECKING:
    from experiments.analysis.comparison import Chosen, Difference
    from experiments.sweep.pool import Finished

EXPERIMENT = "vit_proxy"
LEARNING_RATES = {"adamw": (1e-3, 3e-3, 1e-2), "lion": (3e-4, 1e-3, 3e-3)}
SEEDS = (0, 1, 2)


@dataclass
class Cell:
    """One run of the comparison."""

    name: str
    config: RunConfig
    folder: store.Folder

    @property
    def status(self) -> dict[str, Any]:
        """As the run itself has written it."""
        return store.read_json(self.folder.status)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.status.get("state") in store.FINAL_STATES


def main() -> int:
    """Trains what is missing, then reports."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("results/demo"), help="results folder")
    parser.add_argument("overrides", nargs="*", help="key=value for every run, e.g. train.epochs=1")
    args = parser.parse_args()
    started = time.monotonic()
    try:
        cells = plan_cells(args.out / "runs", args.overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    missing = [cell for cell in cells if not cell.is_done]
    if missing:
        finished = train(cells, missing, args.workers)
        for cell, end in ((missing[e.index], e) for e in finished):
            if end.state == "failed":
                print(f"{cell.name} failed: {end.message} (see {cell.folder.log})", file=sys.stderr)
        if not all(cell.is_done for cell in cells):
            print("Not all runs are done; call the same command again to go on.")
            return 1 if any(e.state == "failed" for e in finished) else 130
        print(f"Trained {len(missing)} runs in {time.monotonic() - started:.0f} s.")
    return report(cells, args.out)


def plan_cells(runs: Path, overrides: list[str]) -> list[Cell]:
    """Every optimizer x learning rate x seed, through the pages that `run.py` uses."""
    base = {}
    for optimizer in LEARNING_RATES:
        chosen = [f"experiment={EXPERIMENT}", f"optimizer={optimizer}", f"results_dir={runs}"]
        base[optimizer] = compose([*chosen, "launch.progress=false", *overrides])
    cells = []
    for seed in SEEDS:  # seeds outermost: a comparison that is stopped early is still fair
        for lrs in zip(*LEARNING_RATES.values(), strict=True):
            for optimizer, lr in zip(LEARNING_RATES, lrs, strict=True):
                settings = {**base[optimizer].optimizer, "lr": lr}
                config = replace(base[optimizer], optimizer=settings, seed=seed)
                name = f"{optimizer} lr {lr:g} seed {seed}"
                cells.append(Cell(name, config, store.Folder(runs / run_id(config))))
    return cells


def train(cells: list[Cell], missing: list[Cell], workers: int) -> list[Finished]:
    """Trains the missing cells with a live view."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from experiments.sweep import pool

    total = [c.config for c in missing]
    done_before = len(cells) - len(missing)
    print(
        f"{len(missing)} of {len(cells)} runs to train, {workers} at a time. "
        "Ctrl-C saves; the next call goes on."
    )
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, refresh_per_second=4) as view:
        overall = view.add_task("runs", total=len(cells), completed=done_before, note="starting")
        lines: dict[int, Any] = {}
        clock = _Clock(missing)

        def show(running: list[int], finished: list[Finished]) -> None:
            for index in [i for i in lines if i not in running]:
                view.remove_task(lines.pop(index))
            for index in running:
                status = missing[index].status
                if index not in lines:
                    lines[index] = view.add_task(missing[index].name, total=None, note="")
                note = _describe(status)
                steps, of = status.get("step", 0), status.get("total_steps")
                view.update(lines[index], completed=steps, total=of, note=note)
            view.update(overall, completed=done_before + len(finished), note=clock.left())

        return pool.run_all(total, workers, on_change=show)


def _describe(status: dict[str, Any]) -> str:
    if "loss" not in status:
        return "loading"
    return f"loss {status['loss']:.3f}  {status['steps_per_second']:.0f} it/s"


class _Clock:
    """Guesses the time left from the steps that this call has done."""

    def __init__(self, cells: list[Cell]) -> None:
        self._cells = cells
        self._start: tuple[float, float] | None = None

    def left(self) -> str:
        """E.g. `1:20 left`; empty until there is something to go by."""
        statuses = [cell.status for cell in self._cells]
        totals = [s["total_steps"] for s in statuses if s.get("total_steps")]
        if not totals:
            return "loading"
        done, now = sum(s.get("step", 0) for s in statuses), time.monotonic()
        if self._start is None:
            self._start = now, done
        rate = (done - self._start[1]) / max(now - self._start[0], 1e-9)
        if rate <= 0:
            return ""
        seconds = int((totals[0] * len(self._cells) - done) / rate)
        return f"{seconds // 60}:{seconds % 60:02d} left"


def report(cells: list[Cell], out: Path) -> int:
    """Prints the table and the verdict, and draws the figure."""
    from experiments.analysis import comparison, comparison_figure

    runs = store.read_runs(out / "runs")
    runs = runs[runs.run_id.isin([cell.folder.path.name for cell in cells])]
    results = comparison.final_results(runs)
    chosen = [comparison.choose(results, optimizer) for optimizer in LEARNING_RATES]
    adamw, lion = chosen
    _print_table(chosen)
    difference = comparison.paired_difference(results, lion, adamw)
    print(verdict(cells[0].config, runs, lion, adamw, difference))
    figure = out / "comparison.png"
    title = f"{EXPERIMENT}: a proxy on {runs.data.iloc[0]}, not a result of the paper"
    comparison_figure.draw(runs, results, chosen, title, figure)
    print(f"Figure: {figure}\nLedger: {out / 'runs'}")
    return 0


def verdict(
    config: RunConfig, runs: Any, lion: Chosen, adamw: Chosen, difference: Difference
) -> str:
    """One line that says what was shown, and that it is a proxy's."""
    said = {
        "better": "Lion is better than AdamW",
        "worse": "Lion is worse than AdamW",
        "inconclusive": "no difference is shown between Lion and AdamW",
    }[difference.verdict]
    edges = [c.optimizer for c in (lion, adamw) if c.on_edge]
    warning = f" NOT TUNED: best lr on the grid's edge for {', '.join(edges)}." if edges else ""
    return (
        f"Proxy verdict ({runs.data.iloc[0]}, {runs.num_params.iloc[0]:,} parameters; it says "
        f"nothing of {config.stands_for}): {said}, {difference.mean:+.2f} points of test accuracy "
        f"[95% interval {difference.low:+.2f} to {difference.high:+.2f}, {difference.n} paired "
        f"seeds].{warning}"
    )


def _print_table(chosen: list[Chosen]) -> None:
    from rich.console import Console
    from rich.table import Table

    settings, seeds = chosen[0].num_settings, chosen[0].n
    title = f"Best of {settings} learning rates each, picked on validation ({seeds} seeds)"
    table = Table(title=title, title_justify="left")
    for heading in ("optimizer", "best lr", "decay", "val %", "test % (s.e.)", "n", "s/run"):
        table.add_column(heading, justify="left" if heading == "optimizer" else "right")
    for c in chosen:
        table.add_row(
            c.optimizer + (f" ({c.num_diverged} diverged)" if c.num_diverged else ""),
            f"{c.lr:g}" + (" (edge)" if c.on_edge else ""),
            f"{c.weight_decay:g}",
            f"{c.val_mean:.2f}",
            f"{c.test_mean:.2f} ± {c.test_error:.2f}",
            str(c.n),
            f"{c.seconds:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
