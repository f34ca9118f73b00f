"""One's own sweep, drawn: what its page says, and when it withholds a verdict."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import swept as sweeps
from pretended import Values, planned, pretend

from experiments.analysis.swept import cells, page, picks, verdicts
from experiments.arms import Arm, Swept
from experiments.config import UserError
from experiments.store import read_json, write_json
from experiments.sweep import arms, codes, confirm
from experiments.sweep.manifest import Sweep

INSIDE = {1e-3: 50.0, 2e-3: 60.0, 4e-3: 55.0}
GRID: Values = {
    ("lion", lr, decay): (value if decay < 0.15 else 10, 90)
    for lr, value in INSIDE.items() for decay in (0.1, 0.2)
}  # fmt: skip


def arm(name: str, gain: float, seeds: int = 6, better: str = "higher", **more: object) -> Arm:
    """An optimizer of which three learning rates were tried; the middle one is best."""
    sign = 1 if better == "higher" else -1
    facts = {
        "optimizer": name, "state": "finished", "weight_decay": 0.1, "metric": "x", "unit": "nats",
        "better": better, "tune_split": "val", "report_split": "test", "weights": "raw",
        "digits": 2, "experiment": "mine", "num_params": 500, "data": "own", "scale": "paper",
        "seconds": 1.0,
    }  # fmt: skip
    rows = []
    for lr, value in INSIDE.items():
        for seed in range(seeds):
            score = sign * (value + gain + 0.1 * ((seed * 7 + len(name)) % 5))
            run = f"{name}-{lr}-{seed}"
            rows.append(
                {**facts, "run_id": run, "lr": lr, "seed": seed, "val": score, "test": score}
            )
    table = pd.DataFrame(rows).assign(**more)
    plan = table.filter(["lr", "seed", "run_id"])
    return Arm(name, "", ("lr",), plan, table, table.head(0), plan.head(0))


def fresh(one: Arm, lr: float = 2e-3) -> Arm:
    """The same with fresh runs of a setting."""
    runs = one.tuning[one.tuning.lr == lr]
    runs = runs.assign(seed=runs.seed + 100, run_id=runs.run_id + "-fresh")
    return replace(one, fresh=runs, fresh_planned=runs.filter(["lr", "seed", "run_id"]))


def told(*of: Arm, reference: str | None = None, **more: object) -> str:
    swept = Swept("mine", of, **more)  # pyright: ignore[reportArgumentType]
    found = picks.all_picked(swept)
    compared = verdicts.compared(swept, found, verdicts.reference_of(swept, reference))
    return page.text(swept, found, compared, {})


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_better_one_is_ahead_in_either_direction(better: str) -> None:
    said = told(fresh(arm("lion", 5, better=better)), fresh(arm("adamw", 0, better=better)))
    assert "| Lion is ahead |" in said and "fresh seeds, at the settings found" in said
    turned = told(fresh(arm("lion", 5, better=better)), fresh(arm("adamw", 0, better=better)),
                  reference="adamw")  # fmt: skip
    assert "AdamW − Lion" in turned and "| AdamW is behind |" in turned


def test_without_fresh_seeds_each_reports_what_the_others_pick_and_it_is_said() -> None:
    said = told(arm("lion", 5), arm("adamw", 0), confirm="CONFIRM")
    assert "tuning seeds, each as the others pick" in said
    assert "**No fresh seeds**" in said and "`CONFIRM --seeds 100-109`" in said
    other = told(fresh(arm("lion", 5), lr=1e-3), fresh(arm("adamw", 0)))
    assert "fresh runs of a former pick, or of seeds that tuned, are left out" in other


def test_runs_of_seeds_that_tuned_are_no_fresh_ones() -> None:
    one = fresh(arm("lion", 5))
    again = replace(one, fresh=one.fresh.assign(seed=one.fresh.seed - 100))
    assert picks.picked(one).is_fresh and not picks.picked(again).is_fresh
    assert picks.picked(again).has_other_fresh


def test_verdicts_are_withheld_where_nothing_fair_can_be_said() -> None:
    lion, adamw = fresh(arm("lion", 5)), fresh(arm("adamw", 0))
    lost = replace(adamw, tuning=adamw.tuning.drop(index=0))
    assert "no verdict: 1 cell has no result yet" in told(lion, lost)
    less = {k: getattr(adamw, k).query("lr < 3e-3") for k in ("planned", "tuning")}
    few = replace(adamw, **less)
    assert "no verdict: unequal budgets (AdamW 2, Lion 3 settings)" in told(lion, few)
    assert "more than one version" in told(lion, adamw, remarks=("MIXED",))
    edge = fresh(replace(adamw, tuning=adamw.tuning.assign(val=-adamw.tuning.lr)), lr=1e-3)
    assert "no verdict: not tuned (AdamW on an edge)" in told(lion, edge)
    one = told(arm("lion", 5, seeds=1), arm("adamw", 0, seeds=1))
    assert "no verdict: one seed picks, and there are no fresh ones" in one
    early = replace(adamw, fresh=adamw.fresh[1:])
    assert "no verdict: 1 fresh run has no result yet" in told(lion, early)
    assert "Fresh runs of the picks without a result yet: 1 (``)." in told(lion, early)
    bad = replace(adamw, fresh=adamw.fresh.assign(state="diverged"))
    assert "no verdict: a fresh run of AdamW diverged" in told(lion, bad)


def test_no_two_conditions_share_a_file() -> None:
    """`shift -1` and `shift 1` are two; so are names that differ in case, or very late."""
    names = ["shift 1", "shift -1", "shift 1 2", "Shift 1", "a" * 300 + "b", "a" * 300 + "c", ""]
    places = page.places_of([*names, *names])
    assert [*places] == names and places["shift 1"] == "-shift-1" and places[""] == ""
    assert len({place.lower() for place in places.values()}) == len(names)
    assert max(map(len, places.values())) < 100


def test_a_condition_of_data_says_the_name_that_the_data_have(tmp_path: Path) -> None:
    """A condition has the page's name; `data.name` may be another."""
    own, known = (replace(arm("lion", 0, data=name), condition=f"data {page}")
                  for name, page in (("mine", "digits"), ("fashion", "fashion")))  # fmt: skip
    text = told(own, known)
    assert "## data digits (data: mine)\n" in text and "## data fashion\n" in text
    assert "## data digits (data: mine)\n" in told(own)
    lists = replace(own, condition='model {"depth": 2}')
    written = page.write(Swept("mine", (lists,)), tmp_path, lambda runs: pd.DataFrame(
        {"run_id": runs, "step": 1, "split": "val", "metric": "x", "value": 1.0}))  # fmt: skip
    assert [path.name for path in written][1] == "settings-model-depth-2.png"
    size = replace(arm("lion", 0, data="mine"), condition="batch_size 64")
    assert "## batch_size 64\n" in told(size)


def test_equal_ones_are_not_shown_and_one_alone_is_not_compared() -> None:
    assert "| not shown |" in told(fresh(arm("lion", 0)), fresh(arm("adamw", 0)))
    assert "## Compared" not in told(fresh(arm("lion", 0)))
    with pytest.raises(UserError, match="the sweep has lion"):
        told(arm("lion", 0), reference="sgd")


def test_settings_that_make_no_grid_are_dots_and_a_third_key_is_a_slice() -> None:
    few = pd.DataFrame({"lr": range(9), "weight_decay": range(9)})
    assert not cells.is_grid(few, ["lr", "weight_decay"])
    full = few.merge(few, how="cross", suffixes=("", "_")).filter(["lr", "weight_decay_"])
    assert cells.is_grid(full, ["lr", "weight_decay_"])
    lion = arm("lion", 0)
    both = pd.concat([lion.tuning.assign(betas=b, weight_decay=w, val=lion.tuning.val + (w == 0.2),
                                         run_id=lion.tuning.run_id + b + str(w))
                      for b in ("[0.9, 0.99]", "[0.95, 0.98]") for w in (0.1, 0.2)])  # fmt: skip
    keys = ("lr", "weight_decay", "betas")
    plan, none = both.filter([*keys, "seed", "run_id"]), both.head(0)
    one = picks.picked(replace(lion, keys=keys, planned=plan, tuning=both, fresh=none))
    shown, axes, at = cells.plane(one, cells.cells_of(one))
    assert (len(shown), axes) == (6, ("lr", "weight_decay")) and at.startswith("betas [0.9")
    assert shown.is_picked.sum() == 1


def test_a_scale_ends_where_half_of_the_cells_lie_whatever_the_worst() -> None:
    table = pd.DataFrame({"value": [1.0, 1.1, 1.3, 1e9, float("nan")]})
    assert cells.scale_end([table], 1.0) == pytest.approx(0.5)


def test_a_sweep_is_drawn_from_its_folder(tmp_path: Path) -> None:
    sweep = sweeps.sweep(tmp_path, planned(tmp_path, GRID), max_tries=1)
    with pytest.raises(UserError, match="no run is over yet"):
        arms.swept(sweep)
    for cell in sweep.cells[:-1]:
        lr, decay = (cell.config["optimizer"][key] for key in ("lr", "weight_decay"))
        pretend(sweep, cell, *GRID["lion", lr, decay])
    found = arms.swept(Sweep(sweep.path))
    (one,) = found.arms
    assert (one.keys, one.num_settings, one.num_missing) == (("lr", "weight_decay"), 6, 1)
    written = page.write(found, tmp_path / "out", lambda runs: arms.curves(sweep, runs))
    assert [path.name for path in written] == [
        "sweep.md", "settings.png", "settings.svg", "curves.png", "curves.svg"
    ]  # fmt: skip
    text, table = written[0].read_text(), pd.DataFrame()
    assert "**Unfinished**: 1 of 12 cells have no result, and" in text and "0.1 (edge)" in text
    lease = sweep.leases.claim(sweep.cells[-1].run_id, [], pid=1, host="x")
    assert lease is not None
    lease.release("failed", "no memory")
    of_failed = page.text(arms.swept(sweep), picks.all_picked(arms.swept(sweep)), table, {})
    assert "1 of 12 cells have no result (1 given up after failures)" in of_failed
    assert "resume" in of_failed and "--retry-failed`)" in of_failed
    picked = confirm.confirm(sweep, [100, 101])
    with pytest.raises(UserError, match="is of the picks of trial"):
        arms.swept(picked)
    missing = page.text(arms.swept(sweep), picks.all_picked(arms.swept(sweep)), table, {})
    assert re.search(r"without a result yet: 2 \(`.* resume \S*trial-fresh`\)", missing)
    for cell in picked.cells:
        pretend(picked, cell, 60, 70)
    (again,) = arms.swept(sweep).arms
    assert len(again.fresh) == 2 and picks.picked(again).is_fresh
    for of, code in ((sweep, "before"), (picked, "changed")):
        for cell in of.cells[:-1]:
            header = read_json(of.folder(cell).header)
            header["sessions"][0]["sources"] = {"model": code}
            write_json(of.folder(cell).header, header)
    more = confirm.confirm(sweep, [100], measured=["eval.batch_size=8"])
    assert more.name.startswith("trial-fresh-")
    told = arms.swept(sweep).of_picks
    assert "those of trial-fresh (2 of 2 runs are over)" in told
    assert f"left out: {more.name} (1 of 1 runs are over)" in told
    assert told in page.text(arms.swept(sweep), picks.all_picked(arms.swept(sweep)), table, {})
    assert not [*codes.mixed(sweep)] and not [*codes.mixed(picked)]
    (remark,) = arms.swept(sweep).remarks
    assert "2 versions of the model" in remark
