"""README.md and RESULTS.md say what the committed tables say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import study_folder

from experiments.analysis.text_tables import BLOCKS, fill
from experiments.store import UserError

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["README.md", "RESULTS.md"])
def test_the_text_is_as_its_tables(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "<!-- numbers: " in text
    assert fill(text) == text, "python scripts/text_tables.py"


def test_every_block_is_used() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "RESULTS.md").read_text()
    assert set(re.findall(r"<!-- numbers: (\w+) -->", text)) == set(BLOCKS)


def test_a_changed_run_changes_the_text(tmp_path: Path) -> None:
    results = study_folder.make(tmp_path)
    (results / "proxies").unlink()
    shutil.copytree(ROOT / "results" / "proxies", results / "proxies")
    path = results / "proxies" / "fashion.csv"
    table = pd.read_csv(path)
    table.loc[table.optimizer == "lion", "test"] -= 5.0
    table.to_csv(path, index=False)
    text = (ROOT / "README.md").read_text()
    new = fill(text, results)
    assert "| `fashion` | 77.31 ± 0.15 | 73.48 ± 0.14 | −3.83" in new and "Lion is behind" in new
    with pytest.raises(UserError, match="no block of numbers nothing"):
        fill("<!-- numbers: nothing -->\n<!-- end -->", results)


def test_the_number_of_claims_is_said_right() -> None:
    claims = pd.read_csv(ROOT / "results" / "claims.csv")
    text = " ".join((ROOT / "README.md").read_text().split())
    known = claims.paper_consistency.notna().sum()
    assert f"the paper's {len(claims)} claims" in text
    assert f"Of the {known} claims that can be recomputed, three differ" in text
    assert (claims.paper_consistency == "differs").sum() == 3
