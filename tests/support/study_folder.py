"""A results folder for tests: the committed paper tables and proxies, and made-up studies."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).resolve().parent.parent.parent / "results"


def make(folder: Path, **studies: list[dict]) -> Path:
    """Writes each study's runs.csv below `folder`/results, beside links to what is committed."""
    results = folder / "results"
    results.mkdir()
    for name in ("paper", "proxies"):
        (results / name).symlink_to(RESULTS / name)
    for name, rows in studies.items():
        (results / "studies" / "vit_proxy" / name).mkdir(parents=True)
        pd.DataFrame(rows).to_csv(
            results / "studies" / "vit_proxy" / name / "runs.csv", index=False
        )
    return results
