"""The table of runs counts what the studies hold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.analysis.text_runs import run_table


def write(root: Path, study: str, launchers: list[str], commits: list[str], cpu: str = "A") -> None:
    folder = root / "studies" / study
    folder.mkdir(parents=True)
    names = [f"r{number}" for number in range(len(launchers))]
    table = {"run_id": names, "seconds": 60.0, "commit": commits, "launcher": launchers, "cpu": cpu}
    pd.DataFrame(table).to_csv(folder / "runs.csv", index=False)


def test_fresh_seeds_stand_beside_what_they_confirm_and_reruns_are_runs(tmp_path: Path) -> None:
    together = ["local, 3 runs together", "local, 5 runs together", "local"]
    write(tmp_path, "p/tuning", together, ["1234567890ab+", "1234567890ab", "1234567890ab"])
    write(tmp_path, "p/fresh", ["local"], ["fffffff"], cpu="B")
    write(tmp_path, "p/betas_fresh", ["slurm, 2 runs together"] * 2, ["7654321e5432"] * 2)
    rows = run_table(tmp_path).splitlines()[2:]
    assert rows == [
        "| `p` | betas | 2 | 2 | 2 | 7654321 |",
        "| `p` | tuning | 3 + 1 | 4 | 3 to 5; 2 alone | 1234567 (2), 1234567+ (1), fffffff (1) |",
        "| all, each run once on each CPU |  | 4 | 4 |  |  |",
    ]
