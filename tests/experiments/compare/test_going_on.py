"""A program whose runs go on from one another is refused, and an honest one is let alone."""

import math
import sys
from pathlib import Path

import pytest

from experiments.compare import __main__ as compare
from experiments.compare import going_on
from experiments.compare.asking import Answer, Ask, Unheeding
from experiments.compare.command import Program, Runner
from experiments.compare.going_on import carried, check_fresh, first_value, note_carried
from experiments.compare.ledger import Ledger
from experiments.compare.left_files import LeftFiles
from experiments.compare.metric import Metric
from experiments.compare.plan import Pilot

ASK = Ask("a/pilot/0", "adamw", "pilot", 1e-3, 0.1, 0)
CHAIN = [(7.0, 3.4), (2.3, 1.2), (0.8, 0.3), (0.2, 0.1)]
FRESH = [(7.0, 3.4), (6.9, 3.5), (7.1, 3.3), (7.0, 3.45)]
BARELY = [(3.5, 3.4), (3.45, 3.52), (3.38, 3.3), (3.49, 3.41)]  # all is noise
ONCE = [(last, last) for _, last in CHAIN]  # each says one number


def checked(path, rounding, runs=(), files=(), sign=-1):
    with Ledger(path / "mine").opened({}) as ledger:
        note_carried(ledger, files)
        return list(check_fresh(Pilot(1.0, (), rounding, 1.0), sign, runs, ledger))


@pytest.mark.parametrize(
    ("rounding", "runs", "files", "said"),
    [
        (0.0, FRESH, [], None),
        (0.0, FRESH, ["out/a.json"], None),  # read, but it moves no number
        (0.5, FRESH, [], None),
        (0.5, BARELY, [], None),
        (1.8, BARELY, [], None),
        (0.5, FRESH, ["out/a.json"], "Beware: runs read out/a.json, which other runs have"),
        (math.nan, [], ["out/a.json"], "Beware: runs read"),
        (2.1, ONCE, [], "Beware: each run of the pilot is better than the one before"),
        (0.0, ONCE, [], None),
        (2.1, [], [], None),
    ],
)
def test_what_is_said_of_a_pilot(rounding, runs, files, said, tmp_path):
    found = checked(tmp_path, rounding, runs, files)
    assert (found == []) if said is None else (len(found) == 1 and found[0].startswith(said))


@pytest.mark.parametrize(
    ("runs", "files", "said"),
    [
        (CHAIN, [], r"begins where the run before has ended \(from 7 to 3.4, from 2.3 to 1.2"),
        (FRESH, list("abcde"), r"runs read a, b, c and 2 more, .* the same seed .* \(2.1 sd\)"),
    ],
)
def test_what_is_as_good_as_sure_is_refused(runs, files, said, tmp_path):
    with pytest.raises(Unheeding, match=f"{said}.*--out_dir {{run_dir}}"):
        checked(tmp_path, 2.1, runs, files)


def test_a_metric_that_is_made_large_may_rise_too(tmp_path):
    rising = [(v, v) for v in (50.0, 70.0, 75.0, 78.0)]
    assert checked(tmp_path, 2.0, rising, sign=1)
    assert not checked(tmp_path, 2.0, rising, sign=-1)


def test_files_are_of_the_pilot_or_of_later_until_it_is_run_again(tmp_path):
    later = Ask("a/search/0", "adamw", "grow", 1e-3, 0.1, 1000)
    with Ledger(tmp_path).opened({}) as ledger:
        ledger.end(ASK, Answer(1.0), "finished")
        note_carried(ledger, ["a"])
        ledger.forget([ASK])
        assert carried(ledger) == []
        ledger.end(ASK, Answer(1.0), "finished")
        note_carried(ledger, ["b"])
        ledger.end(later, Answer(1.0), "finished")
        note_carried(ledger, ["b", "c"])
        ledger.forget([later])
        assert (carried(ledger), carried(ledger, False)) == (["b"], ["c"])
        (said,) = going_on.remarks(ledger)
    assert said.startswith("Beware: runs read c, which")


@pytest.mark.parametrize(
    ("metric", "output", "value"),
    [
        ("loss=([0-9.]+)", "start\nloss=3\nloss=2\nloss=1\nend", 3),
        ("loss=([0-9.]+)", "loss=1", 1),
        ("loss=([0-9.]+)", "nothing\nat all", math.nan),
        ("loss=([0-9.]+)", "", math.nan),
        ("json:acc", 'x\n{"acc": 3}\n{"acc": 2}', 3),
        ("csv:acc", "step,acc\n1,5\n2,6\n3,7", 5),
    ],
)
def test_the_first_number_of_an_output(metric, output, value):
    assert first_value(Metric(metric), output) == pytest.approx(value, nan_ok=True)


GOES_ON = """
import os, random, sys
path, seed, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
draw = random.Random(seed)
x = float(open(path).read()) if os.path.exists(path) else 10.0
for _ in range(steps):
    x = 0.7 * x + draw.gauss(0, 0.05)
    print(f"loss={x:.5f}")
open(path, "w").write(str(x))
"""


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(GOES_ON)

    def called(path):
        command = f"{sys.executable} -S -E -B train.py {path} {{seed}} 3 {{opt}} {{lr}} {{wd}}"
        arguments = ["--command", command, "--metric", "loss=([0-9.]+)", "--name", "mine"]
        base = ["--baseline", "adamw:lr=1e-3,weight_decay=0.1", "--budget", "10"]
        assert compare.main([*arguments, *base]) == 2
        return capsys.readouterr().err

    return called


def test_a_program_that_goes_on_is_refused_by_its_numbers_alone(call, monkeypatch):
    monkeypatch.setattr(going_on, "carried", lambda *_, **__: [])  # no times of access
    said = call("ckpt")
    assert "each run of the pilot begins where the run before has ended (from 6.9" in said


def test_of_runs_at_a_time_nobody_knows_which_came_first(tmp_path):
    program = Program("true", Metric("loss=(.*)"), Metric("loss=(.*)"), folder=tmp_path)
    for num_workers, known in ((1, [(3.0, 1.0)]), (2, [])):
        with Ledger(tmp_path / str(num_workers)).opened({}) as ledger:
            ledger.end(ASK, Answer(1.0), "finished")
            folder = ledger.path / "runs" / "adamw-lr0.001-wd0.1-s0"
            folder.mkdir(parents=True)
            (folder / "output1.txt").write_text("loss=3\nloss=1\n")
            assert Runner(program, ledger, num_workers).pilot_runs() == known


def test_one_whose_checkpoints_have_folders_of_their_own_is_not(call):
    assert "the program does not use {optimizer}" in call("{run_dir}/ckpt")


def test_mended_it_is_run_again(call):
    call("ckpt")
    Path("train.py").write_text(GOES_ON.replace("os.path.exists(path)", "False"))
    assert "the program does not use {optimizer}" in call("ckpt")


def test_a_run_that_has_nothing_left_to_train_is_explained(call, monkeypatch):
    """It goes on at its last epoch, prints nothing, and has failed."""
    Path("train.py").write_text(GOES_ON.replace("else 10.0", "else 10.0\nif x < 9: sys.exit()"))
    monkeypatch.setattr(LeftFiles, "read_again", lambda _, number: ["ckpt"] if number == 1 else [])
    said = call("ckpt")
    assert "it printed nothing); runs read ckpt, which other runs have written: if they" in said
