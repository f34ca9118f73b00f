"""The claims page: every claim, its verdicts, and what it can do without."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import synthetic

from experiments.analysis.report.claims import read_claims, topic_of
from experiments.analysis.report.claims_page import body
from experiments.store import UserError

ROOT = Path(__file__).resolve().parents[4]


def test_without_verdicts_the_papers_list_is_shown(tmp_path: Path) -> None:
    (tmp_path / "paper").mkdir()
    listed = pd.read_csv(synthetic.PAPER / "claims.csv")
    listed.to_csv(tmp_path / "paper/claims.csv", index=False)
    table, is_judged = read_claims(tmp_path)
    assert not is_judged and len(table) == len(listed)
    text = body(table, is_judged)
    assert all(f'id="{claim}"' in text for claim in listed.id)
    assert "on proxies: <b>none judged</b>" in text


def test_only_the_claim_itself_is_needed(tmp_path: Path) -> None:
    pd.DataFrame({"claim": ["it works"]}).to_csv(tmp_path / "claims.csv", index=False)
    table, is_judged = read_claims(tmp_path)
    assert "it works" in body(table, is_judged)


def test_verdicts_intervals_and_n_are_shown(tmp_path: Path) -> None:
    row = {"claim_id": "C1", "claim": "gain", "task": "tuning", "proxy_estimate": 1.5}
    row |= {"proxy_low": -0.5, "proxy_high": 3.5, "proxy_n": 5, "paper_low": 2, "unit": "points"}
    row |= {"proxy_measure": "loss, AdamW - Lion"}
    row |= {
        "proxy_verdict": "inconclusive: n = 40 would decide",
        "command": "python run.py -m a=1,2",
    }
    pd.DataFrame([row]).to_csv(tmp_path / "claims.csv", index=False)
    text = body(*read_claims(tmp_path))
    for said in ("[-0.5, 3.5]", "n = 5", "n = 40 would decide", "python run.py -m a=1,2"):
        assert said in text
    assert 'data-value="inconclusive"' in text  # the button has the verdict's word alone
    assert "</small><br><small>loss, AdamW - Lion</small></div>" in text  # which way a sign points


def test_two_values_are_not_shown_as_a_range(tmp_path: Path) -> None:
    rows = {"claim": ["a", "b"], "paper_low": [8, 3], "paper_high": [16, 5]}
    units = {"unit": ["chips (Lion, AdamW)", "x less"]}
    pd.DataFrame({**rows, **units}).to_csv(tmp_path / "claims.csv", index=False)
    text = body(*read_claims(tmp_path))
    assert "<b>8, 16</b>" in text and "<b>3 – 5</b>" in text


def test_every_task_of_the_paper_has_a_topic() -> None:
    tasks = pd.read_csv(synthetic.PAPER / "claims.csv").task
    assert "Other" not in {topic_of(task) for task in tasks}
    assert topic_of("Imagen base 64x64") == "Diffusion"
    assert topic_of("ImageNet-21K") == "ImageNet"
    assert topic_of("beta ablation JFT ViT-B/16") == "Betas"
    assert topic_of("something new") == "Other"


def test_a_table_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "claims.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"scripts/claims\.py"):
        read_claims(tmp_path)
    (tmp_path / "claims.csv").write_text("")
    with pytest.raises(UserError, match="cannot be read"):
        read_claims(tmp_path)


def test_measurements_and_reasons_have_badges_of_their_own(tmp_path: Path) -> None:
    rows = {
        "claim": ["one", "two"],
        "measured_verdict": ["supported", "not run"],
        "measured_estimate": [3, None],
        "measured_unit": ["settings", None],
        "measured_command": ["python scripts/bench_lion.py", None],
        "paper_scale_verdict": ["not run", "no run can tell"],
        "cost": ["541 A100-hours", None],
    }
    pd.DataFrame(rows).to_csv(tmp_path / "claims.csv", index=False)
    text = body(*read_claims(tmp_path))
    assert '<span class="badge good"><small>measured</small> supported</span>' in text
    assert '<span class="badge open">no run can tell</span>' in text
    for said in ("<b>3</b> settings", "python scripts/bench_lion.py", "541 A100-hours"):
        assert said in text
