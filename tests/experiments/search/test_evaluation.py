"""Fitness: against the reference on the same data, at the best of several learning rates."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import searched

from experiments.search import finals, funnel, library
from experiments.search.evaluation import Job, Outcome, Tier, judge
from experiments.search.finals import Final
from experiments.search.funnel import Passage
from experiments.search.language import parse
from experiments.search.proxies.families import FAMILIES, family

TIER = searched.rules().tier
LION, ADAMW = library.load("lion"), library.load("adamw_early")
DIES = parse(
    "def train(w, g, m, v, lr):\n  update = exp(g)\n  update = update * 1e30\n"
    "  update = update * update\n  return update, m, v\n"
)


def test_the_reference_is_worth_nothing_more_than_itself() -> None:
    for number in range(3):
        outcome = judge([Job(ADAMW, TIER, number)])[0]
        assert outcome.fitness == 0.0 and outcome.losses[outcome.best_rate or 0] == min(
            outcome.losses
        )


def test_fitness_does_not_depend_on_batch_mates_or_on_their_rounds() -> None:
    alone = judge([Job(LION, TIER, 1)])
    jobs = [Job(DIES, TIER, 1), Job(LION, TIER, 0), Job(LION, TIER, 1), Job(ADAMW, TIER, 1)]
    together = judge(jobs)
    assert together[2] == alone[0] and together[1] != alone[0]
    assert together[0].fitness == -math.inf and together[0].best_rate is None


def test_a_lost_training_ends_early_and_says_when() -> None:
    outcome = judge([Job(DIES, TIER, 0)])[0]
    assert outcome.killed_at == (10, 10) and outcome.num_steps == 20
    assert judge([Job(ADAMW, TIER, 0)])[0].num_steps == 40


def test_a_rate_at_which_the_reference_diverges_kills_nobody() -> None:
    """Its NaN stood first, and NaN is less than nothing: every lane ended there."""
    rates = replace(TIER, num_steps=60, lrs=(10.0, 0.05), reference=library.load("sgd").text())
    falling = replace(rates, lrs=(0.05, 10.0))
    jobs = [Job(library.load(name), tier, 0) for name in ("sgd", "sign_sgd")
            for tier in (rates, falling)]  # fmt: skip
    sgd, other, sign, other_sign = judge(jobs)
    assert sgd.fitness == other.fitness == 0.0
    assert sign.fitness == other_sign.fitness > 0.1


@pytest.mark.parametrize("program", [LION, DIES])
def test_outcomes_survive_json_exactly(program) -> None:
    outcome = judge([Job(program, TIER, 0)])[0]
    row = json.loads(json.dumps(outcome.to_json(), allow_nan=False))
    assert Outcome.from_json(row) == outcome


def test_everything_that_moves_a_fitness_names_another_tier() -> None:
    changes = [
        {"num_steps": 30},
        {"lrs": (0.1,)},
        {"num_seeds": 2},
        {"part": "fresh"},
        {"family": "lm"},
    ]
    ids = {TIER.id, *(replace(TIER, **change).id for change in changes)}
    assert len(ids) == 6
    assert Tier("mlp").id == Tier("mlp", lrs=FAMILIES["mlp"].lrs).id


def test_streams_of_rounds_seeds_and_final_numbers_are_all_different() -> None:
    tier = replace(TIER, num_seeds=3)
    streams = [stream for number in range(4) for stream in tier.plan(number).streams]
    streams += [s for number in range(4) for s in finals.fresh(tier).plan(number).streams]
    assert len(set(streams)) == 24
    assert finals.fresh(tier).kill_margin == math.inf


def test_final_numbers_are_pairs_over_rounds() -> None:
    lion, adamw = finals.evaluate([LION, ADAMW], TIER, num_rounds=3)
    assert adamw.gains == (0.0, 0.0, 0.0) and adamw.standard_error == 0.0
    assert len(set(lion.gains)) == 3 and lion.mean == pytest.approx(sum(lion.gains) / 3)
    assert not math.isfinite(Final((0.1, -math.inf), (0, None)).mean)
    assert math.isnan(Final((0.1, -math.inf), (0, None)).standard_error)


@pytest.mark.parametrize("gains, promoted", [
    ({"lm": (0.3, 0.2, 0.25), "mlp": (0.01, -0.01, 0.02)}, True),
    ({"lm": (0.3, 0.2, 0.25), "mlp": (-0.3, -0.2, -0.25)}, False),  # worse elsewhere
    ({"lm": (0.3, 0.2, 0.25), "mlp": (0.1, -math.inf, 0.2)}, False),  # fails elsewhere
    ({"lm": (0.3, -0.2, 0.1), "mlp": (0.2, -0.1, 0.0)}, False),  # better nowhere
    ({"lm": (0.0, 0.0, 0.0)}, False),
])  # fmt: skip
def test_promotion(gains: dict, promoted: bool) -> None:
    passage = Passage("T1", {name: Final(of, (0, 0, 0)) for name, of in gains.items()})
    assert passage.is_promoted is promoted


def test_survivors_are_trained_at_the_rates_that_they_were_judged_at() -> None:
    (command,) = funnel.commands("found.txt", (1e-4, 0.5))
    assert "optimizer.path=found.txt optimizer.lr=0.0001,0.5 seed=0" in command


def test_survivors_are_ranked_by_their_worst_family() -> None:
    def passage(gate: str, worst: float) -> Passage:
        of = {"lm": Final((0.3, 0.2, 0.25), (0,)), "mlp": Final((worst, worst + 0.01, worst), (0,))}
        return Passage(gate, of)

    good, better = passage("T2", 0.01), passage("T2", 0.02)
    through = [[passage("T1", 0.0), good], [passage("T1", 0.0)], [passage("T1", 0.0), better]]
    assert funnel.survivors(through) == [2, 0]


def test_gates_grow_tenfold_and_use_rounds_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def pretended(programs, tier, num_rounds, first_round):
        asked.append((tier.family, tier.num_steps, len(programs), first_round))
        return [Final((0.3, 0.2) if p == LION else (-0.3, -0.2), (0, 0)) for p in programs]

    monkeypatch.setattr(funnel.finals, "evaluate", pretended)
    passages = funnel.run([ADAMW, LION], 100, ADAMW.text(), num_rounds=2)
    assert [len(of) for of in passages] == [1, 2] and funnel.survivors(passages) == [1]
    assert [(steps, count) for _, steps, count, _ in asked] == [(100, 2)] * 3 + [(1000, 1)] * 3
    assert {first for *_, first in asked} == {1000, 2000}


def test_a_gate_tries_the_lowest_rates_of_a_family_or_those_of_the_search() -> None:
    rates = family("mlp").lrs
    assert funnel.tier_of("T1", "mlp", 100, ADAMW.text()).lrs == tuple(sorted(rates)[:3])
    assert funnel.tier_of("T2", "mlp", 100, ADAMW.text(), [0.5]).lrs == (0.5,)
