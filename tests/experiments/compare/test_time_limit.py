"""A program that hangs: how long it is waited for, how it is ended, and what is said of it."""

import contextlib
import csv
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import forked
import pytest

from experiments.compare import processes
from experiments.compare.asking import Answer, Ask
from experiments.compare.command import Program, Runner
from experiments.compare.ledger import Ledger
from experiments.compare.metric import Metric
from experiments.compare.session import Progress
from experiments.compare.time_limit import TimeLimit
from experiments.config import UserError
from experiments.sweep.holders import process_start

ASK = Ask("lion/search/1", "lion", "grow", 1e-3, 0.1, 0)
ACC = Metric("acc=([0-9.]+)")
HANGS = "touch {run_dir}/hangs; while :; do sleep 0.01; done"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(90, 90), ("7200", 7200), ("2h", 7200), ("1.5 h", 5400), ("1h30m", 5400), ("90min", 5400),
     ("1d 1h", 90000), ("30s", 30), ("none", math.inf), (None, None)],
)  # fmt: skip
def test_a_time_is_read(given, seconds):
    assert TimeLimit.parse(given).told == seconds


@pytest.mark.parametrize("given", ["", "0", "-5", "h", "2w", "soon", "2h!", True, math.nan])
def test_what_is_no_time_is_one_line(given):
    with pytest.raises(UserError, match="--timeout .*: give seconds, or a time like"):
        TimeLimit.parse(given)


def test_without_one_it_follows_from_the_runs_before():
    limit = TimeLimit()
    assert limit.seconds(math.nan) == math.inf  # nobody knows how long the first run takes
    assert limit.seconds(2) == 600 and "those before took 2.0 s at most" in limit.reason(2)
    assert limit.seconds(7200) == 72000
    assert "longer than 20.0 h (10 times the slowest before;" in limit.reason(7200)
    assert "--timeout 90s" in TimeLimit.parse("90s").reason(2)


def test_how_long_a_run_has_taken_is_said_where_it_is_unusual():
    limit = TimeLimit()
    assert not limit.remark(59, 2) and not limit.remark(2999, 1000)
    said = "for 50 min now (the slowest before: 17 min), ended at 2.8 h"
    assert limit.remark(3001, 1000) == said
    assert limit.remark(90, math.nan).endswith(
        "no limit before a run has ended (--timeout sets one)"
    )
    assert TimeLimit.parse("none").remark(120, math.nan) == "for 2 min now"


def test_the_live_line_says_it(capsys):
    Progress(every_seconds=-1).show([ASK, ASK], "3 of 25 runs", "for 50 min now")
    said = capsys.readouterr().err
    assert said.startswith("3 of 25 runs; lion grow: ")
    assert "seed 0, for 50 min now and 1 more" in said


@contextlib.contextmanager
def runner(path, command, limit=None, workers=1):
    """With a clock that runs, and fast, only while every try so far has come to where it hangs."""
    now, said = [0.0], list[str]()

    def clock():
        tries = list((path / "mine").glob("runs/*/try*"))
        now[0] += 100.0 if all((one / "hangs").exists() for one in tries) else 0.0
        return now[0]

    program = Program(command, ACC, ACC, folder=path)
    with Ledger(path / "mine").opened({}) as ledger:
        limit = TimeLimit.parse(limit)
        yield Runner(program, ledger, workers, limit, say=said.append, clock=clock), ledger, said


def test_a_run_that_hangs_is_tried_once_more_and_has_failed(tmp_path):
    """It minds no SIGTERM, nor does what it has begun; what it prints is not its number."""
    command = (
        "trap '' TERM; (while :; do sleep 0.01; done) & echo $! > inner; echo $$ > outer; "
        f"echo acc=5; {HANGS}"
    )
    remarks = set()
    with runner(tmp_path, command, "30min") as (one, ledger, said):
        answers = one.run([ASK], lambda now, done, remark: remarks.add(remark))
        table = list(csv.DictReader(ledger.write_table().open()))
        assert [e["event"] for e in ledger.events()] == ["started", "retried", "started", "ended"]
    assert math.isnan(answers[0].tune) and answers[0].seconds > 1800
    (row,) = table
    assert (row["state"], row["tries"]) == ("failed", "2")
    assert row["message"] == "it took longer than --timeout 30min: acc=5"
    run = "lion grow: lr 0.001, wd 0.1, seed 0 is ended, "
    assert [text.partition(":")[0] for text in (s.removeprefix(run) for s in said)] == [
        "it is tried once more", "it counts as failed"
    ]  # fmt: skip
    assert any("no limit" not in r and "now, ended at 30 min" in r for r in remarks)
    for name in ("inner", "outer"):
        number = int((tmp_path / name).read_text())
        forked.wait_for(lambda number=number: process_start(number) is None)
    with Ledger(tmp_path / "mine").opened({}) as ledger:
        assert ledger.answer(ASK) is not None and math.isnan(ledger.slowest())


def test_one_that_ends_with_a_number_when_told_to_has_failed(tmp_path):
    """It has trained for a part of its time only."""
    command = f"trap 'echo acc=9; exit 0' TERM; {HANGS}"
    with runner(tmp_path, command, 1) as (one, ledger, _):
        one.run([ASK])
        assert ledger.states("lion") == ["failed"]


def test_one_that_hangs_once_is_as_good_as_any(tmp_path):
    command = f"test -e once && {{ echo acc=3; exit; }}; touch once; {HANGS}"
    good = replace(ASK, seed=1)
    with runner(tmp_path, command) as (one, ledger, said):
        ledger.end(good, Answer(1.0, 1.0, seconds=200.0), "finished")
        assert one.run([ASK])[0].tune == 3
    assert len(said) == 1 and "longer than 33 min (10 times the slowest before" in said[0]


def test_a_machine_on_which_all_hangs_is_no_bad_setting(tmp_path):
    """As where a GPU is lost: the run that went well before is not waited for, either."""
    asks = [replace(ASK, seed=number) for number in range(1, 4)]
    with runner(tmp_path, HANGS) as (one, ledger, _):
        ledger.end(ASK, Answer(1.0, 1.0, seconds=2.0), "finished")
        with pytest.raises(UserError, match="so does one that went well before .it took longer"):
            one.run(asks)
        assert not any(map(ledger.answer, asks))


def test_a_pilot_that_failed_is_run_again_by_the_next_call(tmp_path):
    """With a longer --timeout, say; but not what the tuning rests on already."""
    pilot, check = replace(ASK, phase="pilot"), replace(ASK, phase="check", seed=1)
    with runner(tmp_path, "echo acc=4") as (_, ledger, _):
        ledger.end(pilot, Answer(), "failed", "it took longer than --timeout 2")
        ledger.end(check, Answer(1.0, 1.0), "finished")
    with runner(tmp_path, "echo acc=4") as (one, ledger, _):
        assert one.run([pilot])[0].tune == 4
        ledger.end(replace(pilot, seed=2), Answer(), "failed")
        ledger.end(replace(ASK, seed=3), Answer(1.0, 1.0), "finished")
    with runner(tmp_path, "echo acc=4") as (_, ledger, _):
        assert ledger.states("lion") == ["finished", "finished", "failed", "finished"]


@pytest.mark.parametrize(
    ("then", "now", "slowest", "again"),
    [
        ("30min", "1h", 9.0, True),
        ("30min", "none", 9.0, True),
        ("30min", "30min", 9.0, False),
        ("30min", "20min", 9.0, False),
        ("1min", None, 9.0, True),  # 10 minutes of its own
        ("30min", None, 9.0, False),
        (None, "2h", 200.0, True),
        (None, None, 300.0, False),  # it grows by and by
        (None, None, 900.0, True),
    ],
)
def test_what_was_ended_is_tried_again_where_there_is_more_time(
    then, now, slowest, again, tmp_path
):
    """Also in the tuning: a setting that was cut off is none that failed."""
    with runner(tmp_path, HANGS, then) as (one, ledger, _):
        ledger.end(replace(ASK, seed=7), Answer(2.0, 2.0, seconds=200.0), "finished")
        ledger.end(replace(ASK, seed=8), Answer(), "failed", "exit code 1")
        one.run([ASK])
        ledger.end(replace(ASK, seed=9), Answer(2.0, 2.0, seconds=slowest), "finished")
    with runner(tmp_path, "echo acc=4", now) as (one, ledger, said):
        assert (ledger.answer(ASK) is None) == again == bool(said)
        assert ledger.states("lion").count("failed") == (1 if again else 2)
        assert one.run([ASK])[0].tune == 4 or not again
    with runner(tmp_path, "echo acc=4", now) as (_, _, said):
        assert not said


class Stubborn:
    """A process that not even SIGKILL ends: it waits for a disk."""

    pid = 0

    def poll(self):
        return None


def test_what_cannot_be_killed_is_not_waited_for(monkeypatch):
    sent = []
    monkeypatch.setattr(os, "killpg", lambda _, number: sent.append(number))
    one = processes.Run(ASK, 1, Stubborn(), Path(), Path(), 0.0, 0, {})
    assert not one.is_over(1e9) and not sent
    one.end(100.0, "it took long", 90.0)
    assert not one.is_over(104.0) and sent == [signal.SIGTERM]
    assert not one.is_over(106.0) and sent[1:] == [signal.SIGKILL]
    assert one.is_over(111.0)
