"""Any program: from the command line to the verdict, killed in the middle, and with every fault."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import forked
import pytest

from experiments.compare import __main__ as compare
from experiments.compare import command
from experiments.compare import ledger as ledgers
from experiments.compare.asking import Ask
from experiments.compare.metric import Metric

ROOT = Path(__file__).resolve().parents[3]
FOREIGN = """
import argparse, math, os, random, sys, time
if held := os.environ.get("HOLD_THE_EIGHTH"):
    with open(held, "a") as file: file.write("x")
    while os.path.exists(held) and os.path.getsize(held) >= 8: time.sleep(0.01)
p = argparse.ArgumentParser()
for k in ("opt", "lr", "wd", "seed"): p.add_argument("--" + k)
a = p.parse_args()
draw = random.Random(f"{a.opt} {a.lr} {a.wd} {a.seed}")
best = {"adamw": (2e-3, 0.1, 90), "lion": (4e-4, 0.5, 95)}[a.opt]
u, v = math.log10(float(a.lr) / best[0]), math.log10(float(a.wd) / best[1])
mean = best[2] - 7 * u * u - v * v
print("epoch 1 val_acc=10.0 test_acc=10.0")
print(f"epoch 2 val_acc={mean + draw.gauss(0, .5):.2f} test_acc={mean + draw.gauss(0, .5):.2f}")
"""
PYTHON = f"{sys.executable} -S -E -B"
ARGUMENTS = "--opt {optimizer} --lr {lr} --wd {weight_decay} --seed {seed}"


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(FOREIGN)
    return f"{PYTHON} train.py {ARGUMENTS}"


def options(command, *more, name="mine"):
    return [
        *("--command", command, "--metric", "val_acc=([0-9.]+)", "--name", name, "--yes"),
        *("--test-metric", "test_acc=([0-9.]+)", "--unit", "points", "--budget", "10"),
        *("--baseline", "adamw:lr=1e-3,weight_decay=0.05", "--json", *more),
    ]


def events(name="mine"):
    """What was measured, without times."""
    kept = ("key", "optimizer", "phase", "lr", "weight_decay", "seed", "tune", "report", "state")
    path = Path("results/comparisons") / name / "events.jsonl"
    rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]  # the last: cut
    return [{k: row[k] for k in kept} for row in rows if row["event"] == "ended"]


def test_from_a_foreign_script_to_the_verdict_and_again_without_a_run(script, capsys):
    before = sorted(p.name for p in Path().iterdir())
    assert compare.main(options(script)) == 0
    said = capsys.readouterr().out
    row = json.loads(said.splitlines()[-1])
    assert {"verdict", "difference", "low", "high", "n", "unit", "trials", "seconds"} <= set(row)
    assert {"lr_ratio", "weight_decay_ratio", "reason", "tau", "margin"} <= set(row)
    assert row["verdict"] == "better" and row["low"] < 5 < row["high"] and row["trials"] == 10
    assert "Quick look (10 trials each): Lion is better than AdamW by" in said
    assert len(events()) == 4 + 5 + 2 * (10 + 5)
    table = ledgers.read_table("results/comparisons/mine")
    assert len(table) == len(events()) and set(table.state) == {"finished"}
    assert sorted(p.name for p in Path().iterdir()) == sorted([*before, "results"])
    kept = Path("results/comparisons/mine/events.jsonl").read_bytes()
    assert compare.main(options(script)) == 0  # nothing is run again
    assert Path("results/comparisons/mine/events.jsonl").read_bytes() == kept
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == row


def test_several_contestants_are_named_and_the_first_ones_verdict_stands_on_top(script, capsys):
    """What to beware of stands below all: this program uses no weight decay."""
    more = FOREIGN.replace('"lion": (4e-4', '"sgd": (2e-4, 0.3, 90), "lion": (4e-4')
    more = more.replace(" {a.wd} ", " ").replace(" - v * v", "")
    Path("train.py").write_text(more)
    assert compare.main(options(script, "--optimizers", "lion,sgd")) == 0
    said = capsys.readouterr().out
    assert "Comparing Lion and SGD with AdamW in" in said
    row = json.loads(said.splitlines()[-1])
    assert [one["optimizer"] for one in row["comparisons"]] == ["lion", "sgd"]
    assert row["comparisons"][0] == {
        k: v for k, v in row.items() if k not in ("comparisons", "remarks")
    }
    of = ["", " with lion", " with sgd"]
    assert [text.partition(" gave")[0] for text in row["remarks"]] == [
        f"Beware: 0.05 and 0.5{name}" for name in of
    ]
    assert row["weight_decay_ratio"] is None
    kept = Path("results/comparisons/mine/verdict.txt").read_text()
    assert re.search(r"tuned with \d+ trials in lr alone", kept)
    assert kept.endswith("\n".join(row["remarks"]) + "\n")
    most = int(said.split("(up to ")[1].split()[0])
    assert int(said.split("about ")[2].split()[0]) + 3 * 2 * 9 == most


def test_killed_in_the_middle_it_goes_on_to_the_same_events(script, capsys, tmp_path):
    """kill -9 of the comparison while its eighth run trains, and a last line cut in half."""
    assert compare.main(options(script, name="whole")) == 0
    program = [sys.executable, str(ROOT / "scripts/compare.py"), *options(script)]
    held = tmp_path / "held"
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, "HOLD_THE_EIGHTH": str(held)})  # fmt: skip
    path = Path("results/comparisons/mine/events.jsonl")
    forked.wait_for(lambda: process.poll() is not None or (path.exists() and len(events()) >= 7))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with path.with_name(".lock").open() as lock:  # a child forked at that very moment holds it, too
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert len(events()) == 7
    held.unlink()
    with path.open("a") as file:
        file.write('{"event": "ended", "optimizer": "ad')
    assert compare.main(options(script, "--workers", "2")) == 0
    by_key = sorted(events(), key=lambda event: event["key"])
    assert by_key == sorted(events("whole"), key=lambda event: event["key"])
    verdicts = [Path(f"results/comparisons/{n}/verdict.txt").read_text() for n in ("mine", "whole")]
    assert verdicts[0] == verdicts[1]


def test_a_run_that_is_not_written_down_never_begins(tmp_path, monkeypatch):
    """Killed between the two, the next call would run it a second time beside it."""
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append(self)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    metric = Metric("acc=(.*)")
    with ledgers.Ledger(tmp_path / "mine").opened({}) as ledger:
        runner = command.Runner(command.Program("touch begun; echo acc=1", metric, metric), ledger)
        monkeypatch.setattr(subprocess, "Popen", Popen)
        monkeypatch.setattr(ledger, "note", stopped)
        with pytest.raises(KeyboardInterrupt):
            runner.run([Ask("pilot/1", "lion", "pilot", 1e-3, 0.1, 0)])
    assert started[0].wait() != 0 and not Path("begun").exists()


FAULTS = {
    "metric never printed": ("print('hello')", "no line of the output matches"),
    "no number": ("print('val_acc=. test_acc=1')", "no number"),
    "always nan": ("print('val_acc=nan test_acc=nan')", "the baseline gave a number in 0 of 3"),
    "exit code": ("import sys; print('no GPU'); sys.exit(3)", "exit code 3: no GPU"),
    "all seeds equal": ("print('val_acc=90 test_acc=90')", "{seed} is not used"),
    "no such module": ("import nothing_like_this", "No module named 'nothing_like_this'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_program_is_one_clear_line(fault, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(FAULTS[fault][0])
    assert compare.main(options(f"{PYTHON} train.py {ARGUMENTS}")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and FAULTS[fault][1] in error


def test_a_pattern_that_never_matches_costs_one_run(script, tmp_path, capsys):
    wrong = [text.replace("val_acc", "acc_val") for text in options(script)]
    (tmp_path / "train.py").write_text(f"open('n', 'a').write('x')\n{FOREIGN}")
    assert compare.main(wrong) == 2
    assert "the first run went well, but no line" in capsys.readouterr().err
    assert (tmp_path / "n").read_text() == "x"


def test_a_mended_program_is_run_again(script, tmp_path, capsys):
    (tmp_path / "train.py").write_text("raise SystemExit(1)")
    assert compare.main(options(script)) == 2
    (tmp_path / "train.py").write_text(FOREIGN)
    assert compare.main(options(script)) == 0


def test_a_program_that_ignored_its_seed_and_is_mended_is_run_again(script, tmp_path, capsys):
    """Nor does a slip in the command itself cost the name, while no run has gone well."""
    once = [text for text in options(script) if text != "--yes"]
    (tmp_path / "train.py").write_text(FOREIGN.replace("{a.seed}", ""))
    assert compare.main(once) == 2 and "{seed} is not used" in capsys.readouterr().err
    (tmp_path / "train.py").write_text(FOREIGN.replace("{a.lr}", "").replace("float(a.lr)", "1e-3"))
    assert compare.main(once) == 2 and "does not use {lr}" in capsys.readouterr().err
    assert compare.main([*once, "--metric", "acc_val=(.*)"]) == 2
    assert "no line of the output matches" in capsys.readouterr().err
    (tmp_path / "train.py").write_text(FOREIGN)
    assert compare.main(once) == 2 and "--yes to go on" in capsys.readouterr().err
    assert compare.main([*once, "--metric", "val_acc=(.*)"]) == 2  # now there is something to lose
    assert "with another metric: give this one a name" in capsys.readouterr().err


def test_two_numbers_of_one_name_are_told_apart(script, capsys):
    once = [text for text in options(script) if text != "--yes"]
    (Path.cwd() / "train.py").write_text(FOREIGN.replace("val_acc", "acc").replace("test_acc", ","))
    both = ["--metric", "acc=([0-9.]+)", "--test-metric", ",=([0-9.]+)", "--better", "higher"]
    assert compare.main([*once, *both]) == 2
    assert "acc decides the tuning, the metric gives the verdict" in capsys.readouterr().out
    both = ["--metric", "epoch 2 acc=([0-9.]+)", "--test-metric", "acc=([0-9.]+)"]
    assert compare.main([*once, *both, "--name", "other"]) == 2
    said = capsys.readouterr().out
    assert "acc decides the tuning, acc (--test-metric) gives the verdict" in said
    same = [*both[:2], "--test-metric", both[1], "--metric-name", "test accuracy"]
    assert compare.main([*once, *same, "--name", "same"]) == 2
    assert "acc decides the tuning, and gives the verdict, too" in capsys.readouterr().out


def test_a_test_metric_that_reads_the_validation_is_refused_after_the_pilot(script, capsys):
    """Else the verdict would be of the data that tuned, and speak of a test set."""
    assert compare.main(options(script, "--test-metric", "al_acc=([0-9.]+)")) == 2
    captured = capsys.readouterr()
    assert "gave the very same numbers with all seeds" in captured.err
    assert len(events()) == 4 and "Next:" in captured.out


def test_a_pattern_that_fits_in_a_longer_name_is_told_with_what_it_has_read(script, capsys):
    """Now and when it goes on: the numbers themselves look as good."""
    once = [text for text in options(script) if text != "--yes"]
    for _ in range(2):
        assert compare.main([*once, "--metric", "l_acc=([0-9.]+)"]) == 2
        said = capsys.readouterr().out
        assert "Beware: --metric 'l_acc=([0-9.]+)' has read val_acc: if another" in said
        assert "--test-metric 'test_acc" not in said


def test_an_optimizer_that_only_fails_stops_the_comparison(script, tmp_path, capsys):
    wrong = FOREIGN.replace('"lion": (4e-4, 0.5, 95)', '"sgd": 0')
    (tmp_path / "train.py").write_text(wrong)
    assert compare.main(options(script)) == 2
    assert "every run of lion failed (exit code 1:" in capsys.readouterr().err


@pytest.mark.parametrize(("module", "source"), [("lion", ROOT), ("no_such", "no_such")])
def test_a_python_that_lacks_a_module_is_told_with_the_remedy(
    module, source, script, tmp_path, capsys
):
    (tmp_path / "train.py").write_text(f"{FOREIGN}if a.opt == 'lion': import {module}.rule\n")
    assert compare.main(options(script)) == 2
    assert f": pip install {source} into the Python that the" in capsys.readouterr().err


def test_a_run_that_fails_once_is_tried_again(script, tmp_path):
    flaky = "import os, sys\nif not os.path.exists('x'): open('x', 'w'); sys.exit(1)\n" + FOREIGN
    (tmp_path / "train.py").write_text(flaky)
    assert compare.main(options(script)) == 0
    assert {event["state"] for event in events()} == {"finished"}


BAD_OPTIONS = {
    "no placeholder": (["--command", "train {optimizer} {weight_decay} {seed}"], "lacks {lr}"),
    "no group": (["--metric", "acc"], "must have one group"),
    "baseline": (["--baseline", "adamw"], "cannot be read"),
    "baseline without lr": (["--baseline", "adamw:weight_decay=1"], "must say a name, lr"),
    "baseline in words": (["--baseline", "adamw:lr=small,weight_decay=0"], "are numbers"),
    "effect": (["--effect", "large"], "give a size"),
    "small effect": (["--budget", "25", "--effect", "0.5sd"], "cannot be found with any"),
    "same twice": (["--optimizers", "lion,lion"], "each once"),
    "only the baseline": (["--optimizers", "adamw"], "at least two"),
    "workers": (["--workers", "0"], "at least 1"),
    "name": (["--name", "../up"], "not a path"),
    "file": (["nothing.yaml"], "No such file"),
    "budget": (["--budget", "many"], "budget: 'many' is no number"),
    "half a trial": (["--budget", "10.5"], "is no whole number"),
    "endless margin": (["--margin", "inf"], "margin: 'inf' is no number"),
    "endless lr": (["--baseline", "adamw:lr=inf,weight_decay=0"], "an lr above 0"),
    "no lr": (["--baseline", "adamw:lr=nan,weight_decay=0"], "an lr above 0"),
    "two directions": (
        ["--metric", "val_loss=(.*)"],
        "--metric (val_loss) looks like a number to "
        "be made small, --test-metric (test_acc) does not",
    ),
    "two directions, said": (["--metric", "val_loss=(.*)", "--better", "lower"], "go the same way"),
    "no direction": (
        ["--metric", "val_x=(.*)", "--test-metric", "test_x=(.*)"],
        "--metric (val_x): its name does not tell which way is better: say --better higher or",
    ),
    "one file for all": (
        ["--metric", "file:log.txt:val_acc=(.*)", "--workers", "2"],
        "runs at a time would write one file: put {run_dir} into its path",
    ),
    "no time": (["--timeout", "0"], "--timeout 0: give seconds, or a time like 90min, 2h"),
    "no such option": (["--bugdet", "25"], "unrecognized arguments: --bugdet: --help lists"),
    "no value": (["--budget"], "expected one argument"),
    "no such choice": (["--better", "up"], "invalid choice"),
    "folder": (["--dir", "train.py"], "train.py/mine: cannot be written"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_are_one_clear_line_and_start_nothing(case, script, capsys):
    more, said = BAD_OPTIONS[case]
    assert compare.main([*options(script), *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
    assert not Path("results").exists()


def test_nobody_to_ask_stops_after_the_pilot(script, capsys):
    without = [text for text in options(script) if text != "--yes"]
    assert compare.main(without) == 2
    assert len(events()) == 4 + 5
    captured = capsys.readouterr()
    assert "--yes" in captured.err and "about 30 runs" in captured.out


def test_an_effect_far_below_the_noise_stops_after_the_pilot(script, capsys):
    """In the metric's unit it is known only then; --yes is no answer to that."""
    assert compare.main(options(script, "--effect", "0.05")) == 2
    assert "cannot be found with any number of seeds" in capsys.readouterr().err
    assert len(events()) == 4 + 5


def test_another_comparison_needs_another_name(script, capsys):
    assert compare.main([t for t in options(script) if t != "--yes"]) == 2
    assert compare.main([*options(script), "--better", "lower"]) == 2
    assert "with another better: give this one a name of its own" in capsys.readouterr().err


def test_a_file_holds_the_same_options(script, capsys):
    Path("mine.yaml").write_text(
        f"command: {json.dumps(script)}\nmetric: 'val_acc=([0-9.]+)'\n"
        "baseline: {name: adamw, lr: 1.0e-3, weight_decay: 0.05}\nbudget: 10\n"
    )
    assert compare.main(["mine.yaml"]) == 2  # nobody to ask
    assert "Pilot: AdamW as it is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("comand: x", "no option is called comand; did you mean command? there are: command"),
        ("file: other.yaml", "no option is called file"),
        ("yes: 'no'", "yes: 'no' must be true or false, without quotes"),
        ("budget: true", "budget: True must be text or a number"),
        ("metric: [a, b]", "metric: ['a', 'b'] is neither text nor a number"),
        ("- a", "give keys and values"),
        ("a: 'b", "no YAML"),
        (b"metric: \xff", "no YAML"),
    ],
)
def test_a_file_that_says_nothing_sensible_is_one_clear_line(content, said, script, capsys):
    raw = content if isinstance(content, bytes) else content.encode()
    Path("mine.yaml").write_bytes(raw)
    assert compare.main(["mine.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: mine.yaml: ") and error.count("\n") == 1 and said in error


def test_a_machine_that_breaks_is_no_bad_setting(script, tmp_path, capsys):
    """Its disk is full from the 20th run on: nothing is judged by that, and nothing is lost."""
    broken = "import os, sys\nopen('n', 'a').write('x')\n"
    broken += "if os.path.getsize('n') > 20 and not os.path.exists('room'):\n"
    broken += "    sys.exit('no space left')\n"
    (tmp_path / "train.py").write_text(broken + FOREIGN)
    assert compare.main(options(script)) == 2
    error = capsys.readouterr().err
    assert (
        "runs failed, and so does one that went well before (exit code 1: no space left)" in error
    )
    assert error.count("\n") == 1
    (tmp_path / "room").touch()
    assert compare.main(options(script)) == 0
    assert compare.main(options(script, name="whole")) == 0
    kept = {event["key"]: event for event in events()}
    assert sorted(kept) == sorted(event["key"] for event in events("whole"))
    verdicts = [Path(f"results/comparisons/{n}/verdict.txt").read_text() for n in ("mine", "whole")]
    assert verdicts[0] == verdicts[1]


def test_settings_that_fail_are_trials_where_others_still_run(script, tmp_path):
    """A program that gives up at large learning rates, instead of printing nan."""
    fails = 'if float(a.lr) > 3e-3: sys.exit("loss is nan")\n'
    (tmp_path / "train.py").write_text(FOREIGN.replace("draw = ", f"{fails}draw = ", 1))
    assert compare.main(options(script)) == 0
    assert "failed" in {event["state"] for event in events()}


def test_another_price_is_asked_anew(script, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    answers, asked = ["n", "y"], []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or answers.pop(0))
    once = [text for text in options(script) if text != "--yes"]
    assert compare.main(once) == 2 and "asks again" in capsys.readouterr().err
    assert compare.main(once) == 0
    assert compare.main(once) == 0 and len(asked) == 2
    answers.append("n")
    assert compare.main([*once, "--budget", "16", "--effect", "4sd"]) == 2
    assert len(asked) == 3


def test_the_table_of_costs_needs_nothing_else(capsys):
    assert compare.main(["--cost"]) == 0
    assert "25: 74 (86 %)" in capsys.readouterr().out


def test_a_file_may_ask_for_the_table_of_costs(script, capsys):
    """It would have been passed over, and the comparison begun."""
    Path("mine.yaml").write_text("cost: true\n")
    assert compare.main([*options(script), "mine.yaml"]) == 0
    assert "25: 74 (86 %)" in capsys.readouterr().out and not Path("results").exists()
