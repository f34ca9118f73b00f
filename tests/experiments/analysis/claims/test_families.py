"""Claims on language and diffusion: picked in one study, judged on the seeds of another."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import known_truth
import numpy as np
import pandas as pd
import pytest

from experiments.analysis import text_families
from experiments.analysis.claims import families
from experiments.analysis.claims.evidence import Evidence, NotRun
from experiments.analysis.claims.tuned_pairs import Tuned, tuned_difference
from experiments.analysis.figures import language
from experiments.analysis.statistics.uncertainty import Interval
from experiments.headline import Headline
from experiments.store import UserError

HEADLINE = Headline("loss", "lower", "nats per token", digits=3)
NUM_STEPS = 10


def put(root: Path, study: str, rows: list[dict[str, Any]]) -> None:
    folder = root / "results" / "studies" / "lm_proxy" / study
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)


def runs(means: dict[str, float], lr: float, seeds: range) -> list[dict[str, Any]]:
    facts = {**HEADLINE.columns(), "experiment": "lm_proxy", "data": "kjv", "steps": NUM_STEPS}
    return [
        known_truth.run(name, seed, mean + 0.01 * (seed * len(name) % 5 % 3), lr=lr, **facts)
        for name, mean in means.items()
        for seed in seeds
    ]


def tuning(root: Path, best: float = 1e-3) -> None:
    rows = []
    for lr in (1e-4, 1e-3, 1e-2):
        rows += runs({n: 2.0 + (lr != best) for n in ("lion", "adamw")}, lr, range(3))
    put(root, "tuning", rows)


def fresh(
    root: Path, lion: float, lr: float = 1e-3, start: int = 100, first: float | None = None
) -> None:
    """Lion falls along a line to `lion` (its first seed to `first`), AdamW to 1.8, both from 3."""
    rows = runs({"lion": lion, "adamw": 1.8}, lr, range(start, start + 8))
    if first is not None:
        rows[0] |= {"val": first, "test": first}
    put(root, "fresh", rows)
    curves = [
        {"run_id": row["run_id"], "step": step, "split": "val", "metric": "loss",
         "value": 3 + (row["val"] - 3) * step / NUM_STEPS}
        for row in rows
        for step in range(1, NUM_STEPS + 1)
    ]  # fmt: skip
    path = root / "results" / "studies" / "lm_proxy" / "fresh" / "curves.csv"
    pd.DataFrame(curves).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("lion", "verdict"), [(1.5, "supported"), (2.1, "contradicted"), (1.8, "inconclusive")]
)
def test_the_lower_loss_wins_and_gets_there_sooner(
    tmp_path: Path, lion: float, verdict: str
) -> None:
    tuning(tmp_path)
    fresh(tmp_path, lion)
    evidence = Evidence(tmp_path)
    gain = families.gain("lm_proxy")(evidence)
    assert (gain.verdict, gain.unit, gain.n) == (verdict, "nats per token", 8)
    assert gain.estimate == pytest.approx(lion - 1.8, abs=0.01)
    assert "picked of 3 settings on 3 other seeds" in gain.note
    sooner = families.sooner("lm_proxy")(evidence)
    assert sooner.verdict == verdict
    assert (sooner.estimate > 1.1) == (lion < 1.8)
    assert ("8 of lion (n = 8 each)" in sooner.note) == (lion > 1.8), "never there, and said so"
    assert np.isnan(sooner.low) == ("no interval" in sooner.note) == (lion >= 1.8)


def test_one_seed_that_is_sooner_decides_nothing(tmp_path: Path) -> None:
    tuning(tmp_path)
    fresh(tmp_path, 1.8, first=1.0)
    found = families.sooner("lm_proxy")(Evidence(tmp_path))
    assert found.verdict == "inconclusive" and found.low < 1 < found.estimate


def test_steps_decide_by_the_whole_interval_four_seeds_and_who_ends_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning(tmp_path)
    outcomes = {
        (1.5, 1.2, 2.0, 4): "supported", (1.5, 0.9, 2.0, 4): "inconclusive",
        (1.5, 1.2, 2.0, 3): "inconclusive", (0.8, 0.7, 0.9, 4): "contradicted",
        (0.8, 0.7, 1.1, 4): "inconclusive", (0.8, 0.7, 0.9, 3): "inconclusive",
    }  # fmt: skip
    for end in (1.8, 2.1):  # alike, and shown to be worse in the end
        fresh(tmp_path, end)
        for interval, verdict in outcomes.items():
            found = lambda *_, i=interval, **__: Interval(*i, "x")  # noqa: E731
            monkeypatch.setattr(families, "compute_saving", found)
            own, other = (
                families.sooner("lm_proxy", metric)(Evidence(tmp_path)).verdict
                for metric in (None, "loss")
            )
            assert own == ("contradicted" if end > 1.8 else verdict), interval
            assert other == verdict, "of a metric that does not decide"


@pytest.mark.parametrize(
    ("lion", "spread", "verdict", "is_of_settings"),
    [(1.8, 0.1, "supported", False), (1.8, 1.0, "inconclusive", True),
     (1.85, 0.1, "contradicted", False), (1.835, 1.0, "inconclusive", True),
     (1.81, 0.1, "inconclusive", False)],
)  # fmt: skip
def test_alike_to_adafactor_holds_with_the_luck_of_tuning(
    tmp_path: Path, lion: float, spread: float, verdict: str, is_of_settings: bool
) -> None:
    """Pairs that move together tell the settings apart well, and the optimizers by their spread."""
    best = {"lion": 2.0, "adafactor": 2.0}
    put(tmp_path, "adafactor", [
        row for lr in (1e-4, 1e-3, 1e-2)
        for row in runs({n: v + (lr != 1e-3) for n, v in best.items()}, lr, range(1))
    ])  # fmt: skip
    rows = runs({"lion": lion, "adafactor": 1.8}, 1e-3, range(101, 111))
    for row in rows:
        own = lion if row["optimizer"] == "lion" else 1.8
        shared = 0.012 * spread * (row["seed"] % 5 - 2)
        alone = 0.001 * (row["seed"] % 2 - 0.5) * (row["optimizer"] == "lion")
        row["test"] = own + shared + alone
    put(tmp_path, "adafactor_fresh", rows)
    found = families.CHECKS["C030"](Evidence(tmp_path))
    assert (found.verdict, found.n) == (verdict, 10)
    assert ("shown at the settings found only" in found.note) == is_of_settings
    assert "alike means within 0.017 nats per token" in found.note
    assert found.note.endswith(families.OTHER_TOKENS)


def test_a_gain_of_fresh_seeds_has_the_luck_of_tuning_in_it(tmp_path: Path) -> None:
    tuning(tmp_path)
    fresh(tmp_path, 1.784)  # lower by 0.01 +- 0.006 at these settings
    found = families.gain("lm_proxy")(Evidence(tmp_path))
    assert found.high < 0 and found.verdict == "inconclusive"
    assert "shown at the settings found only" in found.note


def test_nothing_is_said_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="lm_proxy"):
        families.sooner("lm_proxy")(Evidence(tmp_path))
    tuning(tmp_path)
    with pytest.raises(NotRun, match="fresh on lm_proxy"):
        families.sooner("lm_proxy")(Evidence(tmp_path))


def test_a_pick_on_the_edge_decides_nothing(tmp_path: Path) -> None:
    tuning(tmp_path, best=1e-2)
    fresh(tmp_path, 1.5, lr=1e-2)
    for check in (families.gain("lm_proxy"), families.sooner("lm_proxy")):
        found = check(Evidence(tmp_path))
        assert found.verdict == "inconclusive" and "on the edge of its grid" in found.note


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"lr": 1e-4}, "another setting than the tuning picks"), ({"start": 2}, "seed 2 of the")],
)
def test_fresh_runs_are_of_the_picks_and_of_other_seeds(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    tuning(tmp_path)
    fresh(tmp_path, 1.5, **changes)
    with pytest.raises(UserError, match=said):
        families.gain("lm_proxy")(Evidence(tmp_path))


def test_the_figure_has_our_curves_in_panels_of_their_own(tmp_path: Path) -> None:
    results = tmp_path / "results"
    fresh(tmp_path, 1.5)
    source = Path(language.__file__).parents[3] / "results"
    (results / "paper").symlink_to(source / "paper")
    entropies = "studies/lm_proxy/kjv_entropies.csv"
    (results / entropies).write_bytes((source / entropies).read_bytes())
    ours = language.table(results).query("origin == 'proxy'")
    assert set(ours.optimizer) == {"AdamW", "Lion"} and (ours.n == 8).all()
    figure = language.draw(results)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert [t for t in titles if "proxy" in t] == ["Ours, proxy: lm_proxy\n(39,322 weights, kjv)"]
    assert "n = 8 fresh seeds" in figure.get_supxlabel()


def of_length(steps: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "steps": steps, "run_id": f"{row['run_id']}-{steps}"} for row in rows]


def test_each_length_of_run_has_its_own_picks_and_an_edge_is_not_tuned(tmp_path: Path) -> None:
    tried, again = [], []
    for steps, best in ((400, 1e-3), (1500, 1e-2)):
        for lr in (1e-4, 1e-3, 1e-2):
            means = {name: 2.0 + (lr != best) for name in ("lion", "adamw")}
            tried += of_length(steps, runs(means, lr, range(2)))
        ran = runs({"lion": 1.9, "adamw": 2.0}, best, range(100, 108))
        again += of_length(steps, ran)
    put(tmp_path, "horizon", tried)
    assert text_families.horizon(tmp_path / "results") == text_families.NO_STUDY
    put(tmp_path, "horizon_fresh", again)
    short, long = text_families.horizon(tmp_path / "results").splitlines()[2:]
    assert short.startswith("| 400 | 0.001; ") and "Lion is ahead" in short
    assert long.startswith("| 1,500 | 0.01; ") and "(edge)" in long and "Lion is ahead" not in long
    assert short.endswith("| Lion is ahead | 8 |")
    for row in again:  # the same in every pair, but seeds that lie far apart: luck may have made it
        row["test"] += (row["seed"] - 103) * (row["steps"] == 400)
    put(tmp_path, "horizon_fresh", again)
    short = text_families.horizon(tmp_path / "results").splitlines()[2]
    assert short.endswith("| Lion is ahead, at these settings | 8 |")
    for line in (short, long):
        assert "| −0.09" in line and line.endswith("| 8 |")


def test_distances_of_samples_are_corrected_for_asking_twice(tmp_path: Path) -> None:
    """Either alone would be shown; of two like it none is, beside a clearer one both are."""
    folder = tmp_path / "results" / "studies" / "diffusion_proxy" / "fresh"
    folder.mkdir(parents=True)
    ran = pd.DataFrame(runs({"lion": 1.5, "adamw": 1.8}, 1e-3, range(8)))
    ran.to_csv(folder / "runs.csv", index=False)
    away = (0.5, 0.5, -0.5, -0.5, 1.5, 1.5, -1.5, -1.5)

    def said(first: float) -> str:
        means = {"fd1k_ddim20": first, "kd1k_ddim20": -1.15}
        points = [
            {"run_id": row.run_id, "step": 1, "split": "samples", "metric": metric,
             "value": 5.0 + (row.optimizer == "lion") * (mean + away[int(row.seed)])}
            for row in ran.itertuples() for metric, mean in means.items()
        ]  # fmt: skip
        pd.DataFrame(points).to_csv(folder / "curves.csv", index=False)
        return text_families.diffusion(tmp_path / "results").partition("Of samples")[2]

    assert said(-1.15).count("p 0.059, not shown") == 2
    clearer = said(-2.3)
    assert "−2.300 [" in clearer and clearer.count("Lion is ahead, at these settings") == 1
    assert "p 0.03, Lion is ahead" in clearer


def test_a_gain_within_the_luck_of_tuning_is_none_of_the_optimizers() -> None:
    seeds = np.random.default_rng(0).normal(size=(2, 10))
    theirs = 80 + seeds[0]
    pairs = pd.DataFrame({"ours": theirs + 1 + 0.1 * seeds[1], "theirs": theirs})
    alike = Tuned(pairs, "", ())  # each seed reports what the others picked
    assert alike.larger("").verdict == "supported"
    found = replace(alike, is_fresh=True).larger("")
    assert found.verdict == "inconclusive" and "shown at the settings found only" in found.note
    assert "of the optimizers [-0." in found.note
    unclear = Tuned(pairs.assign(ours=pairs.ours - 1), "", (), is_fresh=True)
    for found in (unclear.larger(""), unclear.alike("", 0.1)):  # no seed makes that luck smaller
        assert math.isnan(found.seeds_to_decide) and "no number of them for 80 %" in found.note
    assert replace(unclear, is_fresh=False).larger("").seeds_to_decide == 4
    far = Tuned(pairs.assign(ours=pairs.ours + 5), "", (), is_fresh=True).larger("")
    assert far.verdict == "supported"
    behind = Tuned(pairs.assign(ours=pairs.ours - 7), "", (), is_fresh=True)
    assert behind.larger("").verdict == "contradicted"


@pytest.mark.parametrize(("step", "verdict"), [(0.01, "supported"), (0.1, "inconclusive")])
def test_a_gain_below_one_step_of_the_metric_is_not_shown(step: float, verdict: str) -> None:
    theirs = 80 + np.arange(8.0)
    pairs = pd.DataFrame({"ours": theirs + 0.06 + 0.01 * (np.arange(8) % 2), "theirs": theirs})
    assert Tuned(pairs, "", (), resolution=step).larger("").verdict == verdict


def test_the_loss_beside_the_headline_is_ours_minus_theirs() -> None:
    rows = pd.DataFrame(known_truth.arms({"lion": 91.0, "adamw": 90.0}))
    rows["test_loss"] = 1.2 + 0.01 * rows.seed - (rows.optimizer == "lion") * 0.1 * rows.seed
    found = tuned_difference(rows, "lion", "adamw")  # seeds 0 to 5: less by 0.25 in the mean
    assert "test loss -0.250 [-0.4" in found.note and found.difference.mean > 0


def test_a_gain_minus_a_gain_has_the_edges_and_the_steps_of_both() -> None:
    pairs = pd.DataFrame({"ours": [3.0, 4.0, 6.0], "theirs": [1.0, 2.0, 2.0]})
    one = Tuned(pairs, "", ("lion",), resolution=0.1)
    more = Tuned(pairs.assign(ours=pairs.ours + 1), "", ("adamw",), resolution=0.5)
    for found, mean in ((more.less(one), 1.0), (one.less(more), -1.0)):
        assert found.difference.mean == mean and found.resolution == 0.5
        assert set(found.untuned) == {"lion", "adamw"}


def test_a_metric_that_picked_nothing_stands_beside_the_verdict(tmp_path: Path) -> None:
    tuning(tmp_path)
    fresh(tmp_path, 1.8)
    check = families.gain_with("lm_proxy", "accuracy", "points")
    assert "accuracy" not in check(Evidence(tmp_path)).note, "nobody has measured it"
    path = tmp_path / "results" / "studies" / "lm_proxy" / "fresh" / "curves.csv"
    names = pd.read_csv(path).run_id.unique()
    rows = [
        {"run_id": name, "step": step, "split": "test", "metric": "accuracy", "value": value}
        for place, name in enumerate(names)
        for step, value in ((5, 50.0), (10, (60.0 if "lion" in name else 68.0) + place % 3))
    ]
    pd.concat([pd.read_csv(path), pd.DataFrame(rows)]).to_csv(path, index=False)
    found = check(Evidence(tmp_path))
    assert found.verdict == "inconclusive", "the headline decides"
    assert "by accuracy, which picked nothing: -8" in found.note
    assert "of the optimizers (exact p 0.0078)" in found.note


def test_the_direction_of_another_metric_is_its_own() -> None:
    rows = [{"metric": name, "split": "val", "value": 1.0} for name in ("loss", "accuracy")]
    for name, told in (
        ("accuracy", "higher"),
        ("loss", "lower"),
    ):  # the headline's, whatever is said
        found = families._points(pd.DataFrame(rows), HEADLINE, name, "higher", "val")
        assert found.better.tolist() == [told]
