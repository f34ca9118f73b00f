"""How far a comparison has come is said of all of it, not of the runs that are asked for now."""

import math
from dataclasses import replace

import pytest

from experiments.compare import kinds, session
from experiments.compare.asking import Answer, Ask, Notice, Setting, converse
from experiments.compare.ledger import Ledger
from experiments.compare.outlook import Outlook
from experiments.compare.plan import Contestant, Plan
from experiments.compare.protocol import compare
from experiments.compare.search import MOST_SCOUTS, Guess, Search
from experiments.compare.session import Options
from experiments.compare.verdict import Words

PLAN = Plan(Contestant("adamw", "AdamW"), (Contestant("lion", "Lion"),), Setting(1e-3, 0.1))


@pytest.mark.parametrize("decay", [0.1, 0.0])
def test_what_is_foreseen_is_what_is_run(decay, tmp_path):
    """Of a smooth world with its tops inside; five checks are run by others than the protocol."""
    plan = Plan(PLAN.baseline, PLAN.others, Setting(1e-3, decay), budget=16, effect=4.0)
    outlook, said = Outlook(plan, 2), []
    with Ledger(tmp_path / "mine").opened({}) as ledger:

        def answer(asks):
            said.append(outlook.said(ledger))
            for ask in asks:
                best = 0.1 if decay else 0.01
                u, v = math.log10(ask.lr / 1e-3), math.log10(max(ask.weight_decay, 1e-9) / best)
                value = 90 - 8 * u * u - 4 * v * v + ask.seed * 7 % 11 / 20
                ledger.end(ask, Answer(value, value, seconds=120.0), "finished")
            return [ledger.answer(ask) for ask in asks]

        def hear(notice):
            outlook.hear(notice)
            if notice.kind == "pilot":
                answer([Ask(f"check/{n}", "adamw", "check", 1.0, 1.0, n) for n in range(5)])

        converse(compare(plan), answer, hear)
        done = len(ledger.known)
    assert said[0] == "0 of 4 runs of the pilot"
    total = 4 + 5 + 2 * (16 + 4) + (0 if decay else 2)
    assert done == total and said[1] == f"4 of about {total} runs, about {total - 4} min left"


def test_of_a_page_nothing_is_checked_and_no_seed_is_run_twice(tmp_path):
    outlook = Outlook(PLAN, 1, of_page=True)
    with Ledger(tmp_path / "mine").opened({}) as ledger:
        assert outlook.said(ledger) == "0 of 3 runs of the pilot"
        outlook.hear(heard_of_pilot()[0])
        assert outlook.said(ledger).startswith("0 of about 73 runs")


def test_how_long_is_told_by_the_last_ten(tmp_path):
    outlook = Outlook(PLAN, 1)
    outlook.hear(heard_of_pilot()[0])
    with Ledger(tmp_path / "mine").opened({}) as ledger:
        for n in range(19):
            ask = Ask(f"adamw/search/{n}", "adamw", "grow", 1e-3, 0.1, n)
            ledger.end(ask, Answer(1.0, seconds=600.0 if n < 9 else 60.0), "finished")
        assert outlook.said(ledger) == "19 of about 79 runs, about 60 min left"


def test_extensions_and_the_noise_of_the_tuning_change_it(tmp_path):
    class Found:
        n = 7

    outlook = Outlook(PLAN, 1)
    with Ledger(tmp_path / "mine").opened({}) as ledger:
        pilot = next(n for n in heard_of_pilot() if n.kind == "pilot")
        outlook.hear(pilot)
        assert outlook.said(ledger).startswith("0 of about 79 runs, about unknown time left")
        outlook.hear(Notice("extended", {}))
        assert outlook.said(ledger).startswith("0 of about 97 runs")
        outlook.hear(Notice("planned", {"result": Found}))
        assert outlook.said(ledger).startswith("0 of about 91 runs")


def heard_of_pilot():
    heard = []
    dialogue = compare(PLAN)
    dialogue.send(None)
    heard.append(dialogue.send([Answer(90.0 + n, 80.0 + n, seconds=1.0) for n in (0, 1, 2, 0)]))
    return heard


def test_the_pilot_shows_its_numbers():
    """Who reads an epoch for an accuracy sees it here."""
    words = Words("test_acc", "points", tuned="val_acc")
    (notice,) = heard_of_pilot()
    lost = replace(notice.facts["pilot"], tune=(90.0, math.nan, 91.0))
    told = session.said_of(Notice("pilot", {"pilot": lost, "plan": PLAN}), words, Options())
    assert "val_acc 90.0, lost, 91.0 (sd 1)" in told[0]
    large = replace(notice.facts["pilot"], tune=(19966.0, 19475.0, 20005.0), sd=296.0)
    told = session.said_of(Notice("pilot", {"pilot": large, "plan": PLAN}), words, Options())
    assert "19966, 19475, 20005 (sd 300)" in told[0] and "of 590 points (2 sd" in told[1]
    first, second = session.said_of(notice, words, Options())
    assert first == (
        "Pilot: AdamW as it is, 3 seeds: val_acc 90.0, 91.0, 92.0 (sd 1) points; test_acc 80.0, "
        "81.0, 82.0; the same seed gives the same number; 1.0 s a run."
    )
    assert second.endswith("2 points (2 sd of a run, which three seeds tell roughly).")


@pytest.mark.parametrize(
    ("baseline", "other", "factors"),
    [
        ("adamw", "lion", (0.1818, 5.5)),
        ("AdamW", "Lion", (0.1818, 5.5)),
        ("adamw_torch", "lion_32bit", (0.1818, 5.5)),
        ("torch.optim.AdamW", "lion_pytorch.Lion", (0.1818, 5.5)),
        ("AdamW8bit", "Lion8bit", (0.1818, 5.5)),
        ("adafactor", "muon", (1.0, 1.0)),
        ("adamw_torch", "million", (1.0, 1.0)),
        ("lion_32bit", "adamw_torch", (5.5006, 0.1818)),
        ("lion_32bit", "lion_8bit", (1.0, 1.0)),
    ],
)
def test_where_a_search_begins_follows_from_the_words_of_names(baseline, other, factors):
    first, (second,) = kinds.contestants(baseline, [other])
    assert (second.lr_factor, second.weight_decay_factor) == factors
    assert (first.lr_factor, first.weight_decay_factor) == (1.0, 1.0)
    assert second.label == {"lion": "Lion", "Lion": "Lion"}.get(other, other)


@pytest.mark.parametrize(
    ("baseline", "other", "factors"),
    [
        ("sgd", "lion", (0.0036, 1100)),
        ("torch.optim.SGD", "lion.Lion", (0.0036, 1100)),
        ("sgd_nesterov", "adamw_torch", (0.02, 200)),
        ("momentum", "adam", (0.02, 1)),
        ("adamw", "sgd", (50.0, 0.005)),
        ("lion", "sgd", (277.7778, 0.0009)),
        ("adadelta", "lion", (0.00036, 170)),
        ("torch.optim.LBFGS", "adamw", (0.002, 30)),
    ],
)
def test_beside_sgd_a_search_is_far_from_its_setting_and_scouts(baseline, other, factors):
    first, (second,) = kinds.contestants(baseline, [other])
    assert (second.lr_factor, second.weight_decay_factor, second.scouts) == (*factors, "lr")
    assert not first.scouts and not kinds.contestants("adamw", ["lion"])[1][0].scouts


def test_scouts_are_counted_as_long_as_they_may_come_and_then_as_they_were():
    plan = Plan(PLAN.baseline, (replace(PLAN.others[0], scouts="lr"),), PLAN.start)
    plain, scouting = Outlook(PLAN, 1), Outlook(plan, 1)
    assert scouting._total() - plain._total() == MOST_SCOUTS
    search = Search("lion", PLAN.start, Guess(1.0, 2, False))
    search.num_scouts = 3
    scouting.hear(Notice("scouted", {"contestant": plan.others[0], "search": search}))
    assert scouting._total() - plain._total() == 3


@pytest.mark.parametrize(
    ("baseline", "other", "factors"),
    [
        ("adam", "lion", (0.1818, 170)),
        ("torch.optim.Adam", "adamw", (1.0, 30)),
        ("adamw", "nadam", (1.0, 0.0333)),
        ("adam8bit", "lion8bit", (0.1818, 170)),
    ],
)
def test_beside_an_l2_decay_the_weight_decay_is_scouted(baseline, other, factors):
    _, (second,) = kinds.contestants(baseline, [other])
    assert (second.lr_factor, second.weight_decay_factor) == factors
    assert second.scouts == "weight_decay"


@pytest.mark.parametrize(
    ("baseline", "decay"),
    [("adamw", 0.01), ("torch.optim.SGD", 5e-5), ("adam", 3.3e-4), ("lion", 0.055), ("own", 0.01)],
)
def test_where_a_weight_decay_of_zero_begins_follows_from_the_kind(baseline, decay):
    first, _ = kinds.contestants(baseline, ["other"])
    assert first.first_decay == decay
