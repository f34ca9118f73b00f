"""The main job: a small, fair comparison of Lion and AdamW, on a CPU, in about two minutes.

    python scripts/demo.py                              # or: make demo
    python scripts/demo.py --experiment mixer_proxy     # the same on another proxy
    python scripts/demo.py --publish                    # also write results/proxies/

Both optimizers get the same number of learning rates and the same seeds. Validation picks each
one's learning rate, the test set reports it. Ctrl-C at any time; the next call goes on where this
one stopped, and once all is done it only draws.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.config import UserError  # noqa: E402
from experiments.sweep import local, manifest  # noqa: E402
from experiments.sweep import report as sweep_report  # noqa: E402
from experiments.sweep.manifest import Cell  # noqa: E402
from run import compose  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

    from experiments.analysis.statistics.comparison import Chosen, Difference

Grid = dict[str, tuple[float, ...]]

LEARNING_RATES: dict[str, Grid] = {
    "vit_proxy": {"adamw": (2e-3, 8e-3, 3.2e-2), "lion": (5e-4, 2e-3, 8e-3)},
    "vit_mnist1d_proxy": {"adamw": (1e-3, 4e-3, 1.6e-2), "lion": (2.5e-4, 1e-3, 4e-3)},
    "mixer_proxy": {"adamw": (5e-3, 2e-2, 8e-2), "lion": (2e-3, 8e-3, 3.2e-2)},
    "resnet_proxy": {
        "adamw": (3e-3, 3e-2, 3e-1),
        "lion": (1e-3, 1e-2, 1e-1),
        "sgd": (3e-2, 3e-1, 3e0),
    },
    "fashion": {"adamw": (1e-3, 4e-3, 1.6e-2), "lion": (2.5e-4, 1e-3, 4e-3)},
}
"""Learning rates per proxy and optimizer: as many for each, a factor of 4 (or 10) apart."""
NUM_SEEDS = 5


def main() -> int:
    """Trains what is missing, then reports."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("results/demo"), help="results folder")
    parser.add_argument("--experiment", choices=sorted(LEARNING_RATES), default="vit_proxy")
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS, help="seeds per setting")
    parser.add_argument("--publish", action="store_true", help="write results/proxies/, too")
    parser.add_argument("overrides", nargs="*", help="key=value for every run, e.g. train.epochs=1")
    args = parser.parse_args()
    started = time.monotonic()
    try:
        cells = plan_cells(args.experiment, args.seeds, args.out / "runs", args.overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sweep = manifest.write(args.out / "sweeps" / sweep_name(args), cells)
    num_missing = sum(sweep.final_state(cell) is None for cell in cells)
    if num_missing:
        code = local.launch(sweep.path, num_workers=args.workers, threads=1)
        if code:
            sweep_report.show(sweep)
            print("Not all runs are done; call the same command again to go on.")
            return 1 if code == 1 else 130
        print(f"Trained {num_missing} runs in {time.monotonic() - started:.0f} s.")
    results, figure = report(cells, args.experiment, args.out)
    if args.publish:
        publish(results, figure, args.experiment)
    return 0


def plan_cells(experiment: str, num_seeds: int, runs: Path, overrides: list[str]) -> list[Cell]:
    """Every optimizer x learning rate x seed, through the pages that `run.py` uses."""
    base, grid = {}, LEARNING_RATES[experiment]
    for optimizer in grid:
        chosen = [f"experiment={experiment}", f"optimizer={optimizer}", f"results_dir={runs}"]
        base[optimizer] = compose([*chosen, "launch.progress=false", *overrides])
    cells = []
    for seed in range(num_seeds):  # outermost: a comparison that is stopped early is still fair
        for lrs in zip(*grid.values(), strict=True):
            for optimizer, lr in zip(grid, lrs, strict=True):
                settings = {**base[optimizer].optimizer, "lr": lr}
                config = replace(base[optimizer], optimizer=settings, seed=seed)
                cells.append(Cell.of(config, {"optimizer.lr": lr}))
    return cells


def sweep_name(args: argparse.Namespace) -> str:
    """Another set of cells is another sweep; the runs are shared."""
    digest = hashlib.sha256(" ".join(args.overrides).encode()).hexdigest()[:6]
    return f"{args.experiment}-{args.seeds}-seeds" + (f"-{digest}" if args.overrides else "")


def report(cells: list[Cell], experiment: str, out: Path) -> tuple[pd.DataFrame, Path]:
    """Prints the table and the verdicts, and draws the figure."""
    from experiments.analysis.drawing import comparison_figure
    from experiments.analysis.statistics import comparison
    from experiments.table import read_runs

    runs = read_runs(out / "runs", runs=[cell.run_id for cell in cells])
    results = comparison.final_results(runs)
    chosen = [comparison.choose(results, name) for name in LEARNING_RATES[experiment]]
    _print_table(chosen)
    lion = next(c for c in chosen if c.optimizer == "lion")
    for other in (c for c in chosen if c is not lion):
        difference = comparison.paired_difference(results, lion, other)
        print(verdict(cells[0].config["stands_for"], runs, lion, other, difference))
    figure = out / f"{experiment}.png"
    data, size = runs.data.iloc[0], runs.num_params.iloc[0]
    title = f"{experiment}: a proxy ({size:,} parameters on {data}), not a result of the paper"
    comparison_figure.draw(runs, results, chosen, title, figure)
    print(f"Figure: {figure}\nLedger: {out / 'runs'}")
    return results, figure


def verdict(
    stands_for: str, runs: pd.DataFrame, ours: Chosen, theirs: Chosen, difference: Difference
) -> str:
    """One line that says what was shown, and that it is a proxy's."""
    names = f"{ours.optimizer} and {theirs.optimizer}"
    said = {
        "better": f"{ours.optimizer} is better than {theirs.optimizer}",
        "worse": f"{ours.optimizer} is worse than {theirs.optimizer}",
        "inconclusive": f"no difference is shown between {names}",
    }[difference.verdict]
    interval = (
        f"95% interval {difference.low:+.2f} to {difference.high:+.2f}, {difference.n} paired seeds"
        if difference.n > 1
        else "one seed gives no interval"
    )
    edges = [c.optimizer for c in (ours, theirs) if c.on_edge]
    warning = f" NOT TUNED: best lr on the edge of its grid: {', '.join(edges)}." if edges else ""
    return (
        f"Proxy verdict ({runs.data.iloc[0]}, {runs.num_params.iloc[0]:,} parameters; it says "
        f"nothing of {stands_for}): {said}; {difference.mean:+.2f} points of test accuracy "
        f"[{interval}].{warning}"
    )


def publish(results: pd.DataFrame, figure: Path, experiment: str) -> None:
    """Copies the table of runs and the figure to where they are committed."""
    folder = ROOT / "results/proxies"
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["optimizer", "lr", "weight_decay", "seed", "state", "val", "test", "seconds"]
    table = results.sort_values(columns[:4])[columns].round({"val": 4, "test": 4, "seconds": 2})
    table.to_csv(folder / f"{experiment}.csv", index=False)
    shutil.copyfile(figure, folder / figure.name)
    print(f"Published: {folder / experiment}.csv and .png")


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
            f"{c.test_mean:.2f}" + (f" ± {c.test_error:.2f}" if c.n > 1 else ""),
            str(c.n),
            f"{c.seconds:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
