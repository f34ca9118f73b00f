"""scripts/claims.py from the outside."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "claims.py"


@pytest.fixture
def script(monkeypatch) -> ModuleType:
    monkeypatch.setenv("COLUMNS", "200")
    spec = importlib.util.spec_from_file_location("claims_script", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(script: ModuleType, monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["claims.py", *arguments])
    return script.main()


def test_it_prints_every_claim_and_writes_the_table(tmp_path: Path) -> None:
    out = tmp_path / "claims.csv"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(out)], capture_output=True, text=True,
        timeout=120, check=False, env={"PATH": "/usr/bin:/bin", "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out)
    assert len(table) == 86
    assert [name for name in table.claim_id if done.stdout.count(f" {name} ") != 1] == []
    assert "Answered by runs or measurements here" in done.stdout
    assert "3 differ. A proxy's answer holds for the proxy only." in done.stdout
    committed = ROOT / "results" / "claims.csv"
    assert out.read_text() == committed.read_text(), "python scripts/claims.py"


def test_no_word_of_a_verdict_is_cut_on_a_narrow_terminal(script, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    script.show(pd.read_csv(ROOT / "results" / "claims.csv"))
    said = capsys.readouterr().out
    for word in ("consistent", "inconclusive", "contradicted", "supported", "differs"):
        assert f"│ {word} " in said
    assert max(map(len, said.splitlines())) <= 80


def test_why_an_interval_without_0_decides_nothing_is_said_beside_it(script) -> None:
    table = pd.read_csv(ROOT / "results" / "claims.csv").set_index("claim_id")
    for name in table.index[table.proxy_verdict.eq("inconclusive")]:
        row = table.loc[name].to_dict()
        said = script.numbers(row, "proxy")
        has_no_0 = row["proxy_low"] * row["proxy_high"] > 0 and row["proxy_unit"][0] != "x"
        if has_no_0 and name not in ("C048", "C078"):  # alike; beside the paper's share
            assert "of the optimizers [" in said or "an exact test says p" in said, name
    assert "(95 % [0.474, 2.12]), n=10; of the optimizers [-1.20, +3.79]" in script.numbers(
        table.loc["C016"].to_dict(), "proxy"
    )


def test_a_check_names_what_is_not_as_the_tables_give_it(
    script, monkeypatch, tmp_path: Path, capsys
) -> None:
    now = pd.DataFrame({"claim_id": ["C001", "C002"], "proxy_estimate": [1.0, 2.0]})
    monkeypatch.setattr("experiments.analysis.claims.ledger.ledger", lambda root, ids: now)
    out = tmp_path / "claims.csv"
    arguments = ("--check", "--out", str(out))
    assert call(script, monkeypatch, *arguments) == 1 and not out.exists()
    assert "C002: its row not as" in capsys.readouterr().out
    out.write_text(now.to_csv(index=False, float_format="%.6g"))
    assert call(script, monkeypatch, *arguments) == 0
    assert capsys.readouterr().out == "2 claims are up to date\n"
    changed = out.read_text().replace("C002,2", "C002,2.5")
    out.write_text(changed)
    assert call(script, monkeypatch, *arguments) == 1 and out.read_text() == changed
    said = capsys.readouterr().out
    assert "C002: proxy_estimate not as the tables give it now" in said and "C001" not in said


def test_one_claim_in_full_writes_nothing(script, monkeypatch, tmp_path: Path, capsys) -> None:
    assert call(script, monkeypatch, "C050", "--out", str(tmp_path / "claims.csv")) == 0
    said = capsys.readouterr().out
    assert "cost_basis" in said and "C051" not in said
    assert re.search(r"proxy_high +3\.4", said) and "results/studies/README.md" in said
    assert not (tmp_path / "claims.csv").exists()


def test_mistakes_cost_a_line(script, monkeypatch, tmp_path: Path, capsys) -> None:
    for arguments in (["C999"], ["--root", str(tmp_path)], ["--out", str(tmp_path / "no" / "x")]):
        assert call(script, monkeypatch, *arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1
