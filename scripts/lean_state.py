"""What leaner optimizer state costs in accuracy: Lion on two proxies, against float32.

    python scripts/lean_state.py               # about 20 minutes on two cores
    python scripts/lean_state.py --publish     # also write results/lean_state/

Seeds are paired. Every variant has the recipe's learning rate, which was picked in float32 on some
of these seeds, and its weight decay, which was not tuned; so one that would want others is at a
disadvantage. Ctrl-C at any time; the next call goes
on.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.config import RunConfig  # noqa: E402
from experiments.identity import run_id  # noqa: E402
from experiments.rounded import rounded  # noqa: E402
from run import compose  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

EXPERIMENTS = ("vit_proxy", "vit_mnist1d_proxy")
BF16 = ["train.precision=bf16"]
WEIGHTS = [*BF16, "train.param_dtype=bfloat16"]
VARIANTS = {  # name: (overrides, bytes of weight, of optimizer state, per parameter)
    "float32": ([], 4, 4.0),
    "momentum bfloat16": (["optimizer.momentum_dtype=bfloat16"], 4, 2.0),
    "momentum int8": (["optimizer.momentum_dtype=int8"], 4, 1.02),
    "activations bfloat16": (BF16, 4, 4.0),
    "weights bfloat16": (WEIGHTS, 2, 2.0),
    "weights bfloat16, compensated": ([*WEIGHTS, "optimizer.kahan_sum=true"], 2, 4.0),
    "weights bfloat16, compensated, momentum int8": (
        [*WEIGHTS, "optimizer.kahan_sum=true", "optimizer.momentum_dtype=int8"],
        2,
        3.02,
    ),
}


def main() -> int:
    """Trains what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--seeds", type=int, default=10, help="per variant (default: 10)")
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="ledger")
    parser.add_argument("--publish", action="store_true", help="write results/lean_state/, too")
    args = parser.parse_args()
    if args.seeds < 1 or args.workers < 1:
        parser.error("--seeds and --workers must be 1 or more")
    cells = plan(args.seeds, args.runs)
    if not train(list(cells.values()), args.workers):
        print("Not all runs are done; call the same command again to go on.")
        return 1
    runs = read(cells, args.runs)
    table = compare(runs)
    print(to_markdown(table))
    if args.publish:
        publish(runs, table)
    return 0


def plan(num_seeds: int, runs: Path) -> dict[tuple[str, str, int], RunConfig]:
    """Every experiment x variant x seed; seeds outermost, so that an early stop is still paired."""
    base = {
        (experiment, name): compose(
            [f"experiment={experiment}", "optimizer=lion", f"results_dir={runs}", *overrides]
        )
        for experiment in EXPERIMENTS
        for name, (overrides, _, _) in VARIANTS.items()
    }
    return {
        (*key, seed): replace(config, seed=seed)
        for seed in range(num_seeds)
        for key, config in base.items()
    }


def train(configs: list[RunConfig], workers: int) -> bool:
    """Trains what is not done; whether all is."""
    from experiments.sweep import pool

    def show(running: list[int], finished: list[pool.Finished]) -> None:
        print(f"\r{len(finished)} of {len(configs)} runs done", end="", flush=True, file=sys.stderr)

    quiet = [replace(c, launch=replace(c.launch, progress=False)) for c in configs]
    ended = pool.run_all(quiet, workers, on_change=show)
    print(file=sys.stderr)
    for end in ended:
        if end.state == "failed":
            print(f"{run_id(configs[end.index])} failed: {end.message}", file=sys.stderr)
    return sum(end.state in ("finished", "diverged") for end in ended) == len(configs)


def read(cells: dict[tuple[str, str, int], RunConfig], runs: Path) -> pd.DataFrame:
    """One row per run: experiment, variant, seed, state, final val and test accuracy in %."""
    import pandas as pd

    from experiments.analysis.statistics.comparison import final_results
    from experiments.outcomes import MACHINE
    from experiments.table import read_runs

    index = pd.DataFrame(
        [(run_id(config), *key) for key, config in cells.items()],
        columns=["run_id", "experiment", "variant", "seed"],
    )
    told = ["run_id", "state", "val", "test", "seconds", *MACHINE]
    results = final_results(read_runs(runs))[told]
    return index.merge(results, on="run_id", validate="one_to_one")


def compare(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean test accuracy per variant; paired difference from float32 with its 95 % interval."""
    import pandas as pd
    from scipy import stats

    rows: list[dict[str, Any]] = []
    for experiment in EXPERIMENTS:
        wide = runs[runs.experiment == experiment].pivot(
            index="seed", columns="variant", values="test"
        )
        for name, (_, weight, state) in VARIANTS.items():
            difference = (wide[name] - wide["float32"]).dropna()
            n = len(difference)
            reach = stats.t.ppf(0.975, n - 1) * difference.sem() if n > 1 else float("inf")
            rows.append(
                {
                    "experiment": experiment,
                    "variant": name,
                    "weight_bytes": weight,
                    "state_bytes": state,
                    "test": wide[name].mean(),
                    "test_se": wide[name].sem(),
                    "difference": difference.mean(),
                    "low": difference.mean() - reach,
                    "high": difference.mean() + reach,
                    "n": n,
                }
            )
    return pd.DataFrame(rows)


def _range(low: float, high: float) -> str:
    return f"{rounded(low, 2, signed=True)} to {rounded(high, 2, signed=True)}"


def to_markdown(table: pd.DataFrame) -> str:
    """The table as a reader wants it."""
    lines = [
        "| proxy | stored | bytes a parameter: weight + state | test %, mean ± s.e. "
        "| minus float32, 95 % interval | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        gap = "" if row["variant"] == "float32" else _range(row["low"], row["high"])
        lines.append(
            f"| `{row['experiment']}` | {row['variant']} "
            f"| {row['weight_bytes']} + {row['state_bytes']:g} "
            f"| {row['test']:.2f} ± {row['test_se']:.2f} | {gap} | {row['n']} |"
        )
    return "\n".join(lines)


def publish(runs: pd.DataFrame, table: pd.DataFrame) -> None:
    """Writes the runs and the table to where they are committed."""
    folder = ROOT / "results/lean_state"
    folder.mkdir(parents=True, exist_ok=True)
    rounded = {"val": 4, "test": 4, "seconds": 2}
    runs = runs.sort_values(["experiment", "variant", "seed"]).round(rounded)
    runs["threads"] = runs.threads.astype("Int64")
    runs.to_csv(folder / "runs.csv", index=False)
    places = runs[["commit", "cpu", "torch"]].drop_duplicates().itertuples()
    where = "; ".join(f"commit {at.commit}, {at.cpu}, torch {at.torch}" for at in places)
    text = (
        "# What leaner optimizer state costs in accuracy\n\n"
        "Lion with the recipe's learning rate, picked in float32 (on seeds that are among these),\n"
        "and its weight decay, not tuned, so that a variant which would want others is at a\n"
        "disadvantage. Seeds are paired (same weights, same data). Proxies: they say nothing of\n"
        "models of full size. Intervals are Student's t over paired differences, 95 % each, not\n"
        "corrected for their number; where one contains 0, no cost is shown.\n\n"
        f"{to_markdown(table)}\n\nFrom `python scripts/lean_state.py --publish`; {where}.\n"
    )
    (folder / "README.md").write_text(text)
    print(f"Published: {folder}")


if __name__ == "__main__":
    sys.exit(main())
