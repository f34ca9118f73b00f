"""Flatness of several finished runs, as two tidy tables for the claims and the figure.

    python scripts/landscape.py RUN_ID RUN_ID ...          # measures what is missing, then writes
    python scripts/landscape.py RUN_ID ... landscape.num_draws=1000
    python scripts/landscape.py --runs-dir results/runs    # writes what has been measured before

Writes results/studies/EXPERIMENT/landscape/noise.csv (loss under noise) and hessian.csv (top
eigenvalues).
Give one setting per optimizer: the chosen one, all its seeds. Stop it at any time and call again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.config import UserError  # noqa: E402
from experiments.programs import of_place  # noqa: E402
from experiments.store import write_text  # noqa: E402
from experiments.table import read_runs  # noqa: E402
from run import compose  # noqa: E402


def main() -> int:
    """Measures the runs that are named, then writes the tables of all that are measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "words", nargs="*", help="run ids, and key=value for landscape.* or launch.*"
    )
    parser.add_argument("--runs-dir", type=Path, default=Path("results/runs"))
    parser.add_argument("--out", type=Path, help="default: results/studies/EXPERIMENT/landscape")
    args = parser.parse_args()
    overrides = [word for word in args.words if "=" in word]
    names = [word for word in args.words if "=" not in word]
    try:
        for number, name in enumerate(names, 1):
            print(f"{number} of {len(names)}: {name}", file=sys.stderr)
            measure(name, args.runs_dir, overrides)
        write(args.runs_dir, args.out, names)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except (UserError, OSError) as error:
        print(f"error: {of_place(error)}", file=sys.stderr)
        return 2
    return 0


def measure(name: str, runs_dir: Path, overrides: list[str]) -> None:
    """What `python run.py job=landscape run=NAME` does."""
    words = ["job=landscape", f"run={name}", f"results_dir={runs_dir}", *overrides]
    config = compose(words)
    from experiments.jobs import landscape

    landscape.main(config)


def write(runs_dir: Path, out: Path | None, names: list[str]) -> None:
    """Both tables, of the named runs or of all that are measured."""
    from experiments.analysis.landscape import eigenvalue_table, noise_table
    from experiments.outcomes import circumstances

    runs = read_runs(runs_dir)
    if names:
        runs = runs[runs.run_id.isin(names)]
    noise, eigenvalues = noise_table(runs), eigenvalue_table(runs)
    if noise.empty:
        raise UserError(f"{runs_dir}: no run has been measured; name some run ids")
    if out is None:
        experiments = sorted(noise.experiment.unique())
        if len(experiments) > 1:
            raise UserError(f"runs of several experiments ({', '.join(experiments)}): name runs")
        out = Path("results/studies") / experiments[0] / "landscape"
        _check_keeps(out / "noise.csv", set(noise.run_id))
    out.mkdir(parents=True, exist_ok=True)
    measured = circumstances(runs[runs.split == "landscape"])
    for file, table in (("noise.csv", noise), ("hessian.csv", eigenvalues)):
        table = table.merge(measured, on="run_id", how="left")
        write_text(out / file, table.to_csv(index=False, float_format="%.6g"))
        print(f"{table.run_id.nunique()} runs -> {out / file}")


def _check_keeps(path: Path, runs: set[str]) -> None:
    """The table of a study is not written over by one of fewer runs.

    Raises:
        UserError: where runs would be lost, such as a committed study's.
    """
    import pandas as pd

    if not path.exists():
        return
    lost = set(pd.read_csv(path).run_id) - runs
    if lost:
        raise UserError(
            f"{path} has {len(lost)} other runs, which would be lost: name another folder with "
            "--out (what was measured is in the ledger)"
        )


if __name__ == "__main__":
    sys.exit(main())
