"""How often `compare` is wrong, and how often it finds what is there: on made-up models.

    python scripts/calibrate_compare.py                     # all tables, some minutes
    python scripts/calibrate_compare.py --pairs 200 --only default --out /tmp/tables

The models are those of `calibrate_worlds.py`, in the ranges of the committed studies. The protocol
that is run is `experiments.compare.protocol`, the very code of `compare`. All numbers are in
standard deviations of one run at a good setting, and hold in these made-up worlds.

Written: tuning.csv (regret and luck, by budget) and verdicts.csv (shares of the verdicts, by true
difference), with Monte-Carlo standard errors.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# First, as it says in a line what this Python lacks.
import experiments  # noqa: E402, F401

# isort: split
import numpy as np  # noqa: E402

from experiments.compare import protocol  # noqa: E402
from experiments.compare.asking import Dialogue, converse  # noqa: E402
from experiments.compare.plan import Contestant, Plan, Result  # noqa: E402
from experiments.config import UserError  # noqa: E402
from scripts.calibrate_worlds import START, WORLD, User, World, draw_user  # noqa: E402

FACTOR = 5.5
PLAN = Plan(
    Contestant("adamw", "AdamW"),
    (Contestant("lion", "Lion", 1 / FACTOR, FACTOR),),
    START,
    budget=25,
    effect=2.0,
    effect_in_sd=False,
)
NUM_FINALS = 4
"""Finals with fresh seeds of every tuned pair and true difference."""


def answered(dialogue: Dialogue, user: User) -> Any:
    """Runs a dialogue against a user; returns its result."""
    return converse(dialogue, lambda asks: [user.answer(ask) for ask in asks])


def one_pair(
    number: int, plan: Plan, world: World, differences: Sequence[float], num_finals: int
) -> dict[str, Any]:
    """Tunes one user's pair, and judges it under several true differences of equal optimizers."""
    rng = np.random.default_rng([number, plan.budget])
    user = draw_user(rng, world)
    try:
        pilot = answered(protocol._pilot(plan), user)
        tuned, budget = answered(protocol.tune_all(plan, pilot), user)
    except UserError as refused:
        return {"pair": number, "refused": str(refused)[:40]}
    row: dict[str, Any] = {"pair": number, "refused": "", "trials": budget, "pilot_sd": pilot.sd}
    for name, one in tuned.items():
        at = np.log10([one.pick.lr / START.lr, one.pick.weight_decay / START.weight_decay])
        row[f"regret_{name}"] = float(user.surfaces[name].deficit(at)[0])
        row[f"sd_{name}"] = one.search.sd
        row[f"decay_at_end_{name}"] = bool(
            one.search.last is not None and one.search.last.rising[1]
        )
    row["verdicts"] = []
    for difference in differences:
        user.gain = {"lion": difference}
        for _ in range(num_finals):
            result = answered(protocol.finish(plan, pilot, tuned, budget), user)
            row["verdicts"].append(_verdict(result, difference))
            ratios = result.judged[0].ratios
    for axis, ratio in enumerate(ratios):
        row[f"ratio_{axis}"] = ratio.reason or ""
        if ratio.low is not None and ratio.high is not None:
            low, high = math.log10(ratio.low), math.log10(ratio.high)
            row[f"covers_{axis}"] = float(low <= user.ratio[axis] <= high)
    return row


def _verdict(result: Result, difference: float) -> dict[str, Any]:
    """Of several contestants: what any of them is said to be, before what all are."""
    said = [j.verdict if j.reason != "edge" else "edge" for j in result.judged]
    ranked = ("better", "worse", "edge", "undecided", "equivalent")
    found = result.judged[0].interval
    row = {"difference": difference, "verdict": min(said, key=ranked.index), "n": result.n}
    row |= {"used": math.nan, "covers": math.nan, "bare": math.nan}
    if found is not None:
        row["used"] = found.n_ours
        row["covers"] = float(found.low <= difference <= found.high)
        row["bare"] = float(found.low_settings <= difference <= found.high_settings)
    return row


def simulate(
    plan: Plan,
    num_pairs: int,
    world: World = WORLD,
    differences: Sequence[float] | None = None,
    num_finals: int = NUM_FINALS,
    workers: int = 1,
) -> list[dict[str, Any]]:
    """Rows of `one_pair` for as many users."""
    if differences is None:
        differences = (0.0, plan.effect / 2, plan.effect, 2 * plan.effect)
    work = partial(one_pair, plan=plan, world=world, differences=differences, num_finals=num_finals)
    if workers == 1:
        return [work(number) for number in range(num_pairs)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return pool.map(work, range(num_pairs), chunksize=8)


def summary_of_tuning(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Regret, luck (sd of the difference of the regrets) and coverage of the ratios."""
    whole = [r for r in rows if not r["refused"]]
    judged = [r for r in whole if all(v["verdict"] != "edge" for v in r["verdicts"])]
    luck = np.array([r["regret_adamw"] - r["regret_lion"] for r in judged])
    found: dict[str, float] = {"pairs": len(rows), "refused_percent": _percent(
        [bool(r["refused"]) for r in rows])}  # fmt: skip
    found["edge_percent"] = _percent(
        [any(v["verdict"] == "edge" for v in r["verdicts"]) for r in whole]
    )
    found["extended_percent"] = _percent([r["trials"] > min(x["trials"] for x in whole)
                                          for r in whole])  # fmt: skip
    for name in ("adamw", "lion"):
        values = [r[f"regret_{name}"] for r in judged]
        found[f"regret_{name}"] = float(np.mean(values))
        found[f"regret_{name}_error"] = float(np.std(values) / math.sqrt(len(values)))
    found["luck"] = float(luck.std())
    found["bias"] = float(luck.mean())
    found["bias_error"] = float(luck.std() / math.sqrt(len(luck)))
    found["sd_of_fit"] = float(np.mean([r["sd_adamw"] for r in judged]))
    for axis, name in enumerate(("lr", "weight_decay")):
        covers = [r[f"covers_{axis}"] for r in judged if f"covers_{axis}" in r]
        found[f"{name}_ratio_given_percent"] = 100 * len(covers) / len(judged)
        found[f"{name}_ratio_covers_percent"] = _percent(covers)
    return found


def summary_of_verdicts(rows: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Shares of the verdicts by true difference; errors count pairs, not finals."""
    whole = [r for r in rows if not r["refused"]]
    table = []
    for difference in sorted({v["difference"] for r in whole for v in r["verdicts"]}):
        mine = [[v for v in r["verdicts"] if v["difference"] == difference] for r in whole]
        row: dict[str, float] = {"difference": difference, "pairs": len(mine)}
        for verdict in ("better", "worse", "equivalent", "undecided", "edge"):
            shares = np.array([np.mean([v["verdict"] == verdict for v in own]) for own in mine])
            row[f"{verdict}_percent"] = 100 * float(shares.mean())
            row[f"{verdict}_error"] = 100 * float(shares.std() / math.sqrt(len(shares)))
        for key in ("n", "used"):
            row[key] = float(np.nanmean([v[key] for own in mine for v in own]))
        for key in ("covers", "bare"):
            row[f"{key}_percent"] = 100 * float(np.nanmean([v[key] for own in mine for v in own]))
        table.append(row)
    return table


def _percent(values: Sequence[Any]) -> float:
    return 100 * float(np.mean(values)) if len(values) else math.nan


@dataclass(frozen=True)
class Scenario:
    """What is simulated."""

    plan: Plan = PLAN
    world: World = WORLD
    share: float = 0.3  # of the users asked for


def _plan(budget: int, effect: float, in_sd: bool = False) -> Plan:
    return replace(PLAN, budget=budget, effect=effect, effect_in_sd=in_sd)


THIRD = Contestant("third", "Third", 1 / FACTOR, FACTOR)
BESIDE_SGD = Contestant("lion", "Lion", 0.0036, 1100, scouts="lr")
BESIDE_ADAM = Contestant("lion", "Lion", 0.1818, 170, scouts="weight_decay")
SCENARIOS = {
    "default": Scenario(share=1.0),
    "default, effect in sd": Scenario(_plan(25, 2.0, in_sd=True)),
    "quick look": Scenario(_plan(10, 3.0), World(reach=0.5)),
    "36 trials": Scenario(_plan(36, 1.5)),
    "baseline two decades off": Scenario(world=World(reach=2.0)),
    "two tops": Scenario(world=World(two_tops=True)),
    "exploding losses": Scenario(world=World(explodes=True)),
    "exploding losses, effect in sd": Scenario(_plan(25, 2.0, in_sd=True), World(explodes=True)),
    "committed heatmaps": Scenario(world=World(reach=0.8, measured=True)),
    "three contestants": Scenario(
        replace(PLAN, others=(*PLAN.others, THIRD)), World(names=("adamw", "lion", "third"))
    ),
    "beside SGD": Scenario(replace(PLAN, others=(BESIDE_SGD,)), World(reach=0.7, beside="sgd")),
    "beside SGD, quick look": Scenario(
        replace(_plan(10, 3.0), others=(BESIDE_SGD,)), World(reach=0.4, beside="sgd")
    ),
    "beside Adam": Scenario(replace(PLAN, others=(BESIDE_ADAM,)), World(reach=0.7, beside="adam")),
}
"""By name. Effects are in sd of a run at a good setting, known to the user but where it says so."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the tables."""
    import pandas as pd

    from experiments.surroundings import measured_on

    summary = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=summary)
    parser.add_argument(
        "--pairs", type=int, default=1000, help="made-up users of the default (1000); others: 30 %%"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(SCENARIOS), help="renew the rows of these scenarios"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "results/compare_calibration")
    args = parser.parse_args(arguments)
    tuning, verdicts = [], []
    for name in args.only or SCENARIOS:
        scenario = SCENARIOS[name]
        differences = (0.0,) if len(scenario.plan.others) > 1 else None
        rows = simulate(
            scenario.plan,
            max(2, round(args.pairs * scenario.share)),
            scenario.world,
            differences,
            workers=args.workers,
        )
        facts = {"scenario": name, "budget": scenario.plan.budget, "effect": scenario.plan.effect}
        tuning.append(facts | summary_of_tuning(rows) | measured_on())
        verdicts += [facts | row | measured_on() for row in summary_of_verdicts(rows)]
        print(name, tuning[-1], *verdicts[-4:], sep="\n", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, table in {"tuning": tuning, "verdicts": verdicts}.items():
        fresh, path = pd.DataFrame(table).round(3), args.out / f"{name}.csv"
        if args.only and path.exists():
            kept = pd.read_csv(path)
            order = list(SCENARIOS).index
            fresh = pd.concat([kept[~kept.scenario.isin(args.only)], fresh])
            fresh = fresh.sort_values("scenario", key=lambda c: c.map(order), kind="stable")
        fresh.to_csv(path, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
