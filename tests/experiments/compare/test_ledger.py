"""The ledger of a comparison: what is known of runs, and what is forgotten."""

import json
import math

import pytest

from experiments.compare.asking import Answer, Ask
from experiments.compare.ledger import Ledger
from experiments.config import UserError


def ask(seed, optimizer="lion", phase="grow", **facts):
    settings = {"lr": 1e-3, "weight_decay": 0.1, **facts}
    return Ask(f"{optimizer}/{seed}", optimizer, phase, seed=seed, **settings)


def filled(path, *states, optimizer="lion", phase="grow"):
    """An open ledger's runs, one after another, of these states."""
    path.mkdir(exist_ok=True)
    ledger = Ledger(path)
    for seed, state in enumerate(states):
        tune = 1.0 if state == "finished" else math.nan
        ledger.end(
            ask(seed, optimizer, phase), Answer(tune, seconds=float(seed)), state, f"no {seed}"
        )
    return ledger


def test_one_process_at_a_time(tmp_path):
    refused = pytest.raises(UserError, match="another process is at this comparison")
    with Ledger(tmp_path).opened({}), refused, Ledger(tmp_path).opened({}):
        pass
    with Ledger(tmp_path).opened({}):
        pass


def test_what_is_compared_may_change_while_nothing_has_gone_well(tmp_path):
    def opened(about, may_change=True):
        with Ledger(tmp_path).opened(about, may_change) as ledger:
            return ledger

    filled(tmp_path, "failed")
    assert opened({"command": "a"}).answer(ask(0)) is not None
    assert opened({"command": "a"}).answer(ask(0)) is not None
    with pytest.raises(UserError, match="a comparison with another command: give this one a name"):
        opened({"command": "b"}, may_change=False)
    assert opened({"command": "b"}).answer(ask(0)) is None
    assert opened({"command": "b"}).answer(ask(0)) is None, "forgotten for good"
    filled(tmp_path, "finished")
    with pytest.raises(UserError, match="a comparison with another command, metric"):
        opened({"command": "c", "metric": 1})


def test_a_run_is_known_by_its_settings_seed_and_copy(tmp_path):
    filled(tmp_path, "finished")
    ledger = Ledger(tmp_path)
    ledger._read()
    answer = ledger.answer(ask(0, phase="final"))
    assert str(answer) == str(Answer(1.0, seconds=0.0))  # from Python 3.13 on NaN makes them differ
    others = [ask(1), ask(0, "adamw"), ask(0, lr=2e-3), ask(0, weight_decay=0.2), ask(0, copy=1)]
    assert [ledger.answer(other) for other in others] == [None] * 5


def test_what_is_no_number_is_written_as_none(tmp_path):
    ledger = filled(tmp_path, "diverged")
    (line,) = ledger.file.read_text().splitlines()
    row = json.loads(line, parse_constant=lambda name: 1 / 0)
    assert (row["tune"], row["state"]) == (None, "diverged")
    assert math.isnan(ledger.answer(ask(0)).tune)


@pytest.mark.parametrize(("only_failed", "left"), [(True, ["finished"]), (False, [])])
def test_a_pilot_is_forgotten_while_nothing_rests_on_it(tmp_path, only_failed, left):
    ledger = filled(tmp_path, "finished", "failed", phase="pilot")
    ledger.forget_pilot(only_failed)
    again = Ledger(tmp_path)
    again._read()
    assert ledger.states("lion") == again.states("lion") == left
    ledger = filled(tmp_path / "more", "finished", "failed", phase="check")
    ledger.end(ask(9), Answer(1.0), "finished")
    ledger.forget_pilot(only_failed)
    assert len(ledger.known) == 3


@pytest.mark.parametrize(
    ("states", "is_hopeless"),
    [(["failed"] * 3, True), (["failed"] * 2, False), (["failed", "failed", "diverged"], False)],
)
def test_three_failures_and_nothing_else_are_hopeless(tmp_path, states, is_hopeless):
    ledger = filled(tmp_path, *states)
    ledger.end(ask(0, "adamw"), Answer(1.0), "finished")
    asks = [ask(seed, name) for name in ("adamw", "lion") for seed in range(3)]
    if not is_hopeless:
        ledger.refuse_hopeless(asks)
        return
    with pytest.raises(UserError, match=r"every run of lion failed \(no 0\): mend it"):
        ledger.refuse_hopeless(asks)
    assert ledger.states("lion") == [] and ledger.states("adamw") == ["finished"]


@pytest.mark.parametrize(
    ("states", "seeds"),
    [
        (["failed", "finished", "failed", "failed"], [3, 2]),
        (["failed", "diverged", "failed"], [2]),  # it ended by itself, too
        (["failed", "finished"], []),
    ],
)
def test_the_last_failures_are_those_since_a_run_came_to_an_end(tmp_path, states, seeds):
    assert [one.seed for one in filled(tmp_path, *states).failed_last()] == seeds


def test_which_run_went_well_and_which_was_the_slowest(tmp_path):
    ledger = filled(tmp_path, "diverged", "finished", "finished", "diverged", "failed")
    assert ledger.finished() == ask(1) and ledger.slowest() == 3.0
    none = filled(tmp_path / "none", "failed", "diverged")
    assert none.finished() is None and none.slowest() == 1.0
    assert math.isnan(filled(tmp_path / "failed", "failed").slowest())


def test_only_failures_were_ended_early(tmp_path):
    ledger = Ledger(tmp_path)
    for seed, (state, more) in enumerate(
        [("failed", {"limit": 9.0}), ("failed", {}), ("finished", {"limit": 9.0})]
    ):
        ledger.end(ask(seed), Answer(1.0), state, **more)
    assert ledger.ended_early() == [(ask(0), 9.0)]
