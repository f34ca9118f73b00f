"""Claims on the search: each check tells its outcomes apart, and says what limits it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import search_study
from scipy import stats

from experiments.analysis.claims import searches as claims
from experiments.analysis.claims import two_arms
from experiments.analysis.claims.evidence import Evidence, Finding, NotRun
from experiments.analysis.claims.ledger import ledger
from experiments.store import UserError

ROOT = Path(__file__).resolve().parents[4]
SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
PAPERS = {"cached %": 89.1, "redundant statements %": 69.8}
LARGE = dict.fromkeys(("laptop", "constants", "random"), 50_000)  # 250,000 programs each


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "paper").symlink_to(ROOT / "results" / "paper")
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    return tmp_path


def judge(root: Path, claim: str, **study: Any) -> Finding:
    search_study.write(root / "results", search_study.tables(**study))
    return claims.CHECKS[claim](Evidence(root))


@pytest.mark.parametrize(
    ("claim", "verdict", "study"),
    [
        ("C075", SUPPORTED, {}),
        ("C075", CONTRADICTED, {"gains": {"random": 0.1}}),
        ("C075", INCONCLUSIVE, {"gains": {"random": 0.0}}),
        ("C075", INCONCLUSIVE, {"gains": {"random": -0.015}, "noise": 0.001}),  # within 2 s.e.
        ("C075", INCONCLUSIVE, {"seeds": range(3)}),
        ("C076", SUPPORTED, {}),
        ("C076", CONTRADICTED, {"gains": {"constants": 0.3}}),
        ("C076", CONTRADICTED, {"gains": {"random": 0.3}, "trained": {"random": 400}}),
        ("C076", INCONCLUSIVE, {"gains": {"constants": 0.2}}),
        ("C076", INCONCLUSIVE, {"trained": {"random": 4000}}),  # 1 x, and the claim is of 4 x
        ("C076", INCONCLUSIVE, {"seeds": range(3)}),
        ("C077", SUPPORTED, {"shares": PAPERS}),
        ("C077", CONTRADICTED, {"guided": False, "trained": LARGE}),
        ("C077", INCONCLUSIVE, {"trained": LARGE}),  # other mutations
        ("C077", INCONCLUSIVE, {"guided": False}),  # too short
        ("C078", SUPPORTED, {"shares": PAPERS}),
        ("C078", CONTRADICTED, {"guided": False, "trained": LARGE}),
        ("C078", INCONCLUSIVE, {}),
        ("C080", SUPPORTED, {}),
        ("C080", INCONCLUSIVE, {"seeds": range(3)}),
    ],
)
def test_a_check_tells_the_outcomes_apart(
    root: Path, claim: str, verdict: str, study: dict[str, Any]
) -> None:
    found = judge(root, claim, **study)
    assert found.verdict == verdict, found
    assert found.scale == "proxy" and found.measure and found.unit and found.note
    if claim != "C080":  # a rank correlation has no interval here
        assert found.low <= found.estimate <= found.high


def test_what_limits_an_answer_is_said(root: Path) -> None:
    said = judge(root, "C077").note
    assert "differs from the paper's 89.1 ± 0.6 %" in said and "arguments are drawn to fit" in said
    assert "fewer programs" in said and "trained ones: 5 (the paper: about 10)" in said
    assert "the interval is over searches" in judge(root, "C076").note
    fewer = judge(root, "C076", trained={"random": 4000}).note
    assert "1 x the trained programs of evolution, where the claim is of 4 x" in fewer


def test_the_picked_program_is_reported_not_the_luckiest(root: Path) -> None:
    found = judge(root, "C075", noise=0.0001)
    assert found.estimate == pytest.approx(search_study.GAINS["random"], abs=0.001)


def test_on_search_data_only_the_same_rounds_are_compared(root: Path) -> None:
    """What searches themselves have counted is of rounds of their own."""
    assert "search data" not in judge(root, "C076").note
    study = search_study.tables()
    study["picks"] = search_study.picks(study, {"laptop": 0.1, "constants": 0.15})
    search_study.write(root / "results", study)
    note = claims.CHECKS["C076"](Evidence(root)).note
    assert "on search data, the same 4 rounds for all: -0.050 [-0.0" in note


@pytest.mark.parametrize(("random", "gap"), [(-0.08, 0.08), (0.15, 0.05), (0.3, -0.1)])
def test_the_closer_of_two_baselines_is_shown(root: Path, random: float, gap: float) -> None:
    """Evolution gains 0.20, tuned constants 0.12."""
    found = judge(root, "C076", gains={"random": random}, noise=0.001)
    assert found.estimate == pytest.approx(gap, abs=0.003)


@pytest.mark.parametrize(("ours", "theirs"), [(4, 5), (5, 5), (6, 6)])
def test_two_arms_apart_are_two_of_all_ways_to_divide_them(ours: int, theirs: int) -> None:
    values = np.arange(ours + theirs) ** 1.5
    p = two_arms.exact(values[theirs:], values[:theirs])
    assert p == pytest.approx(2 / math.comb(ours + theirs, ours))


def test_the_interval_of_two_arms_by_hand() -> None:
    """Welch's: variances of 10 and 0.4, so hardly more than four degrees of freedom."""
    ours, theirs = np.array([0.0, 2.0, 4.0, 6.0, 8.0]), np.array([1.0, 1.0, 1.0, 2.5, 2.0, 1.5])
    mean, low, high = two_arms.welch(ours, theirs)
    parts = [arm.var(ddof=1) / len(arm) for arm in (ours, theirs)]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 4 + parts[1] ** 2 / 5)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    assert mean == pytest.approx(2.5) and (low, high) == pytest.approx((2.5 - reach, 2.5 + reach))


@pytest.mark.parametrize("sign", [-1, 1])
def test_searches_that_agree_but_lie_far_apart_decide_nothing(root: Path, sign: int) -> None:
    """Each by more than 2 standard errors of its rounds, and the interval over searches holds 0."""
    study = search_study.tables()
    finals = study["finals"]
    gains = sign * np.where(finals.seed == 0, 0.5, 0.03)
    study["finals"] = finals.assign(mean=finals["mean"].where(finals.arm != "random", gains))
    search_study.write(root / "results", study)
    found = claims.CHECKS["C075"](Evidence(root))
    assert found.estimate == pytest.approx(sign * 0.124) and found.low < 0 < found.high
    assert found.verdict == INCONCLUSIVE


def test_one_search_within_its_standard_errors_leaves_all_open(root: Path) -> None:
    study = search_study.tables()
    finals = study["finals"]
    gains = np.where(finals.seed == 0, -0.0001, -0.1)
    study["finals"] = finals.assign(mean=finals["mean"].where(finals.arm != "random", gains))
    search_study.write(root / "results", study)
    found = claims.CHECKS["C075"](Evidence(root))
    assert found.high < 0 and found.verdict == INCONCLUSIVE


def test_a_search_whose_pick_fails_is_counted(root: Path) -> None:
    study = search_study.tables()
    finals = study["finals"]
    failed = (finals.search == "random-s0-abc") & (finals.number == 14)
    study["finals"] = finals.assign(mean=finals["mean"].mask(failed))
    search_study.write(root / "results", study)
    found = claims.CHECKS["C075"](Evidence(root))
    assert (found.n, found.verdict) == (4, SUPPORTED) and "to pick): 1" in found.note


def test_shares_count_programs_and_the_end_alone(root: Path) -> None:
    study = search_study.tables(seeds=range(4))
    curves = study["curves"]
    late = curves.told > 0.9 * curves.groupby("search").told.transform("max")
    waste = np.where(late, 69.8, 10.0) + 0.1 * curves.seed
    study["curves"] = curves.assign(**{"redundant statements %": waste})
    search_study.write(root / "results", study)
    assert claims.CHECKS["C078"](Evidence(root)).verdict == SUPPORTED


def test_a_share_weighs_by_the_programs_since_the_point_before() -> None:
    curve = pd.DataFrame({"told": [40, 10, 30], "cached %": [40.0, 10.0, 20.0]})
    assert claims._share(curve, "cached %", at_end=False) == (10 * 10 + 20 * 20 + 10 * 40) / 40
    assert claims._share(curve, "cached %", at_end=True) == 40


def test_an_earlier_onset_of_the_better_contradicts(root: Path) -> None:
    study = search_study.tables()
    meta = study["meta"]  # seed k is at its best elsewhere at k + 2, with a gain of 0.02 (k + 2)
    falls = 0.04 * (meta.seed + 2) * (meta.family != "lm")
    study["meta"] = meta.assign(mean=meta["mean"] - falls)
    search_study.write(root / "results", study)
    found = claims.CHECKS["C080"](Evidence(root))
    assert (found.estimate, found.verdict) == (pytest.approx(-1), CONTRADICTED)


def test_onset_is_where_the_worst_other_family_is_best() -> None:
    rows = [
        {"told": told, "family": family, "mean": mean}
        for told, of in ((10, (0.1, 0.1, None)), (20, (0.2, 0.3, 0.2)), (40, (0.4, 0.9, 0.1)))
        for family, mean in zip(("lm", "mlp", "conv"), of, strict=True)
    ]
    assert claims.onset(pd.DataFrame(rows), "lm") == (0.5, 0.2)
    with pytest.raises(UserError, match="no gain on another family"):
        claims.onset(pd.DataFrame(rows).query("family == 'lm'"), "lm")


def test_the_rank_correlation_is_exact() -> None:
    x = np.arange(5.0)
    assert claims._rank_correlation(x, x) == pytest.approx((1.0, 2 / 120))
    rho, p = claims._rank_correlation(x, np.ones(5))
    assert math.isnan(rho) and p == 1.0


def test_no_study_no_verdict_and_unfinished_searches_do_not_count(root: Path) -> None:
    for check in claims.CHECKS.values():
        with pytest.raises(NotRun, match="search=laptop .*--study program_search"):
            check(Evidence(root))
    study = search_study.tables()
    rows = study["searches"]
    study["searches"] = rows.assign(state=rows.state.mask(rows.arm == "random", "running"))
    search_study.write(root / "results", study)
    with pytest.raises(UserError, match="no finished search with search.strategy=random"):
        claims.CHECKS["C076"](Evidence(root))
    table = ledger(root, ("C075", "C077", "C079")).set_index("claim_id")
    assert table.proxy_verdict["C075"] == INCONCLUSIVE and "strategy" in table.proxy_note["C075"]
    assert "results/studies/program_search/curves.csv" in table.proxy_files["C077"]
    assert table.paper_scale_verdict["C077"] == "not run"
