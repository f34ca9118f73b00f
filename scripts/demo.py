"""The main job: a small, fair comparison of Lion and AdamW, on a CPU, in about two minutes.

    python scripts/demo.py                              # or: make demo
    python scripts/demo.py --experiment mixer_proxy     # the same on another proxy
    python scripts/demo.py --publish                    # also write results/proxies/

Both optimizers get the same number of learning rates and the same seeds. Validation picks each
one's learning rate, the test set reports it: for the verdict each seed reports what the other seeds
picked, so that no run judges itself. Ctrl-C at any time; the next call goes on where this
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
from experiments.files import make_folder, show_table  # noqa: E402
from experiments.headline import Headline, of_table  # noqa: E402
from experiments.outcomes import write_outcomes  # noqa: E402
from experiments.rounded import rounded  # noqa: E402
from experiments.sweep import local, writing  # noqa: E402
from experiments.sweep import report as sweep_report  # noqa: E402
from experiments.sweep.manifest import Cell  # noqa: E402
from run import compose  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

    from experiments.analysis.statistics.comparison import Chosen
    from experiments.analysis.statistics.difference import Difference

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
_PLANNED = ("experiment", "optimizer", "optimizer.lr", "seed", "results_dir")


def main(arguments: list[str] | None = None) -> int:
    """Trains what is missing, then reports."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("results/demo"), help="results folder")
    parser.add_argument("--experiment", choices=sorted(LEARNING_RATES), default="vit_proxy")
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS, help="seeds per setting")
    parser.add_argument("--publish", action="store_true", help="write results/proxies/, too")
    parser.add_argument("--metric", help="to judge by (default: the task's own headline)")
    parser.add_argument("overrides", nargs="*", help="key=value for every run, e.g. train.epochs=1")
    args = parser.parse_args(arguments)
    try:
        return work(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def work(args: argparse.Namespace) -> int:
    """The three steps."""
    started = time.monotonic()
    if args.seeds < 1 or args.workers < 1:
        raise UserError("--seeds and --workers must be 1 or more")
    cells = plan_cells(args.experiment, args.seeds, args.out / "runs", args.overrides)
    make_folder(args.out, "choose another with --out FOLDER")
    sweep = writing.write(args.out / "sweeps" / sweep_name(args), cells)
    num_missing = sum(sweep.final_state(cell) is None for cell in cells)
    if num_missing:
        code = local.launch(sweep.path, num_workers=args.workers, threads=1)
        if code:
            sweep_report.show(sweep)
            print("Not all runs are done; call the same command again to go on.")
            return 1 if code == 1 else 130
        print(f"Trained {num_missing} runs in {time.monotonic() - started:.0f} s.")
    try:
        results, figure = report(cells, args.experiment, args.out, args.metric)
    except ValueError as error:  # a grid of which nothing has finished
        raise UserError(str(error)) from error
    if args.publish:
        publish(results, figure, args.experiment)
    return 0


def plan_cells(experiment: str, num_seeds: int, runs: Path, overrides: list[str]) -> list[Cell]:
    """Every optimizer x learning rate x seed, through the pages that `run.py` uses."""
    base, grid = {}, LEARNING_RATES[experiment]
    for override in overrides:
        if override.partition("=")[0] in _PLANNED:
            raise UserError(
                f"{override}: the comparison sets it itself; python run.py trains one run, and "
                "run.py -m sweep=lr_wd a grid of your own"
            )
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


def report(
    cells: list[Cell], experiment: str, out: Path, metric: str | None = None
) -> tuple[pd.DataFrame, Path]:
    """Prints the table and the verdicts, and draws the figure."""
    from experiments.analysis.drawing import comparison_figure
    from experiments.analysis.statistics import comparison
    from experiments.table import read_runs

    runs = read_runs(out / "runs", runs=[cell.run_id for cell in cells])
    results = comparison.final_results(runs, metric)
    chosen = [comparison.choose(results, name) for name in LEARNING_RATES[experiment]]
    _print_table(chosen, of_table(results), comparison.has_loss(results))
    for other in (name for name in LEARNING_RATES[experiment] if name != "lion"):
        print(verdict(cells[0].config["stands_for"], results, "lion", other))
    for remark in (f"{c.optimizer}: {remark}" for c in chosen for remark in c.remarks):
        print(remark)
    figure = out / f"{experiment}.png"
    data, size = runs.data.iloc[0], runs.num_params.iloc[0]
    title = f"{experiment}: a proxy ({size:,} parameters on {data}), not a result of the paper"
    comparison_figure.draw(runs, results, chosen, title, figure)
    print(f"Figure: {figure}\nLedger: {out / 'runs'}")
    return results, figure


def verdict(stands_for: str, results: pd.DataFrame, ours: str, theirs: str) -> str:
    """One line that says what was shown, and that it is a proxy's."""
    from experiments.analysis.statistics import comparison

    headline = of_table(results)
    found = comparison.compare(results, ours, theirs)
    edges = ", ".join(found.untuned)
    said = {
        "better": f"{ours} is better than {theirs}",
        "worse": f"{ours} is worse than {theirs}",
        "inconclusive": f"no difference is shown between {ours} and {theirs} ({found.reason})",
        "not tuned": f"NOT TUNED, so no verdict: best lr on the edge of its grid: {edges}",
    }[found.verdict]
    first = results.iloc[0]
    text = (
        f"Proxy verdict ({first['data']}, {first.num_params:,} parameters; it says "
        f"nothing of {stands_for}): {said}; {ours} - {theirs}: "
        f"{_interval(found, headline.digits)} {headline.points} of {headline.report} "
        f"{headline.metric}"
    )
    if comparison.has_loss(results):
        loss = comparison.compare(results, ours, theirs, "test_loss")
        text += f"; {_interval(loss, 3)} nats of loss ({loss.verdict})"
    return f"{text}. Each seed reports what the others picked."


def _interval(found: Difference, digits: int) -> str:
    """Mean, interval, number of seeds, and how much the pairing is worth."""
    if found.n < 2:
        return f"{rounded(found.mean, digits, signed=True)} [one seed gives no interval]"
    mean, low, high = (
        rounded(value, digits, signed=True) for value in (found.mean, found.low, found.high)
    )
    r = found.correlation
    paired = f", correlation {r:+.2f}" if r == r else ""
    return f"{mean} [95% interval {low} to {high}, {found.n} paired seeds{paired}]"


def publish(results: pd.DataFrame, figure: Path, experiment: str) -> None:
    """Copies the table of runs and the figure to where they are committed."""
    folder = ROOT / "results/proxies"
    folder.mkdir(parents=True, exist_ok=True)
    table = results.sort_values(["optimizer", "lr", "weight_decay", "seed"], kind="stable")
    write_outcomes(table, folder / f"{experiment}.csv")
    shutil.copyfile(figure, folder / figure.name)
    print(f"Published: {folder / experiment}.csv and .png")


def _print_table(chosen: list[Chosen], headline: Headline, with_loss: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    settings, seeds, unit = chosen[0].num_settings, chosen[0].n, headline.unit
    title = f"Best of {settings} learning rates each, picked on {headline.tune} ({seeds} seeds)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    losses = [f"{headline.report} loss"] if with_loss else []
    values = [f"{headline.tune} {unit}", f"{headline.report} {unit} (s.e.)"]
    for heading in ("optimizer", "best lr", "decay", *values, *losses, "n", "s/run"):
        table.add_column(heading, justify="left" if heading == "optimizer" else "right")
    digits = headline.digits
    for c in chosen:
        table.add_row(
            c.optimizer + (f" ({c.num_diverged} diverged)" if c.num_diverged else ""),
            f"{c.lr:g}" + (" (edge)" if c.on_edge else ""),
            f"{c.weight_decay:g}",
            f"{c.val_mean:.{digits}f}",
            f"{c.test_mean:.{digits}f}" + (f" ± {c.test_error:.{digits}f}" if c.n > 1 else ""),
            *([f"{c.test_loss:.3f}"] if with_loss else []),
            str(c.n),
            f"{c.seconds:.1f}",
        )
    show_table(Console(), table)


if __name__ == "__main__":
    sys.exit(main())
