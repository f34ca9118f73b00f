"""One run of a program: its empty folder, its quotes, what it leaves behind, how it is stopped."""

import contextlib
import json
import math
import os
import signal
import threading
from pathlib import Path

import forked
import pytest

from experiments.compare import ledger as ledgers
from experiments.compare import sources
from experiments.compare.asking import Answer, Ask
from experiments.compare.command import Program, Runner
from experiments.compare.ledger import Ledger
from experiments.compare.metric import Metric
from experiments.compare.placeholders import filled_for_shell
from experiments.config import UserError
from experiments.sweep.holders import process_start

ASK = Ask("pilot/1", "lion", "pilot", 1e-3, 0.1, 0)
ACC = Metric("acc=([0-9.]+)")


@contextlib.contextmanager
def runner(path, command, metric=ACC, workers=1):
    with Ledger(path / "mine").opened({}) as ledger:
        yield Runner(Program(command, metric, metric, folder=path), ledger, workers), ledger


def test_every_try_has_an_empty_folder_of_its_own(tmp_path):
    """A program that refuses any other, fails once, and is killed once with half of its work."""
    log = Metric("file:{run_dir}/log:acc=([0-9.]+)")
    command = (
        'test -z "$(ls -A {run_dir})" || exit 9; echo x > {run_dir}/half; '
        "test -e once || { touch once; exit 1; }; echo acc=2 > {run_dir}/log"
    )
    with runner(tmp_path, command, log) as (one, ledger):
        assert one.run([ASK])[0].tune == 2
        ledger.forget([ASK])
        assert one.run([ASK])[0].tune == 2  # beside what the tries before have left
        (folder,) = (ledger.path / "runs").iterdir()
    assert len(list(folder.glob("try*/half"))) == len(list(folder.glob("output*.txt"))) == 3


@pytest.mark.parametrize(
    ("said", "message"),
    [("acc=nan err=1", "acc nan"), ("acc=1 err=inf", "err inf"), ("acc=nan err=inf", "acc nan")],
)
def test_of_two_numbers_the_one_that_is_none_is_named(said, message, tmp_path):
    with Ledger(tmp_path / "mine").opened({}) as ledger:
        program = Program(f"echo {said}", ACC, Metric("err=(.*)"), folder=tmp_path)
        (answer,) = Runner(program, ledger).run([ASK])
        assert math.isnan(answer.tune) and math.isnan(answer.report)
        (event,) = ledger.known.values()
    assert (event["state"], event["message"]) == ("diverged", message)


@pytest.mark.parametrize(
    ("command", "before"),
    [("{run_dir}", ""), ('"{run_dir}"', ""), ("'{run_dir}'", ""), ('"it\'s"/{run_dir}', "it's/"),
     (r"\'/{run_dir}", "'/")],
)  # fmt: skip
@pytest.mark.parametrize("value", ["plain", "a b's", 'q"$HOME`\\x'])
def test_a_value_is_quoted_as_its_place_asks(command, before, value):
    said = os.popen(f"printf %s {filled_for_shell(command, {'run_dir': value})}").read()
    assert said == before + value


def test_other_braces_and_quotes_stay():
    text = """t --cfg '{"lr": {lr}}' --note "it's" ${HOME} {wd}"""
    filled = filled_for_shell(text, {"lr": "0.1", "weight_decay": "2"})
    assert filled == """t --cfg '{"lr": 0.1}' --note "it's" ${HOME} 2"""


def test_what_a_run_leaves_behind_is_ended(tmp_path):
    with runner(tmp_path, "sleep 600 & echo $! > left; echo acc=1") as (one, _):
        assert one.run([ASK])[0].tune == 1
    number = int((tmp_path / "left").read_text())
    forked.wait_for(lambda: process_start(number) is None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("signals_as_in_a_terminal")
def test_stopped_and_stopped_again_nothing_goes_on(number, tmp_path):
    """The program does not mind SIGTERM: the second signal comes while it is waited for."""

    def stop():
        forked.wait_for((tmp_path / "pid").exists)
        os.kill(os.getpid(), number)
        forked.wait_for((tmp_path / "told").exists)
        os.kill(os.getpid(), signal.SIGINT)

    command = (
        "trap 'touch told' TERM; echo $$ > pid.new; mv pid.new pid; while :; do sleep 0.02; done"
    )
    thread = threading.Thread(target=stop)
    with runner(tmp_path, command) as (one, _):
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            one.run([ASK])
    thread.join()
    assert process_start(int((tmp_path / "pid").read_text())) is None


@pytest.mark.parametrize(
    "line",
    ["[]", "{}", '"a"', "\0\0", '{"event": 3}', '{"event": "ended"}', '{"event": "agreed"}',
     '{"event": "started", "machine": "x", "pid": "x", "born": 1}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_line_is_named_whatever_it_is(line, tmp_path):
    with Ledger(tmp_path).opened({}) as ledger:
        ledger.end(ASK, Answer(1.0), "finished")
    with ledger.file.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match="line 2 is damaged"), Ledger(tmp_path).opened({}):
        pass


def test_a_full_disk_is_one_line_and_the_half_written_line_is_cut(tmp_path, monkeypatch):
    def full(_number):
        raise OSError(28, "No space left on device")

    with Ledger(tmp_path).opened({}) as ledger:
        ledger.end(ASK, Answer(1.0), "finished")
        monkeypatch.setattr(ledgers.os, "fsync", full)
        with pytest.raises(UserError, match="No space left on device: mend that"):
            ledger.note("retried", ASK)
        monkeypatch.undo()
        whole = ledger.file.read_bytes()
        ledger.file.write_bytes(whole[:-5])
    with Ledger(tmp_path).opened({}) as ledger:
        assert [event["event"] for event in ledger.events()] == ["ended"]


def test_a_program_that_changes_between_its_runs_is_said(tmp_path):
    (tmp_path / "train.py").write_text("old")
    command = "python train.py --config=cfg.yaml {lr} 'half"
    with Ledger(tmp_path / "mine").opened({}) as ledger:

        def changed():
            return sources.changed(ledger, sources.files_of(command, tmp_path))

        assert changed() == []
        (tmp_path / "train.py").write_text("mended before any run has ended")
        assert changed() == []
        ledger.end(ASK, Answer(1.0), "finished")
        kept = ledger.file.read_bytes()
        assert changed() == [] and ledger.file.read_bytes() == kept
        (tmp_path / "train.py").write_text("new")
        assert changed() == ["train.py"] == changed()
        assert "two programs" in sources.remarks(changed())[0]
        ledger.forget([ASK])
        assert changed() == [] and sources.remarks([]) == []
    (tmp_path / "cfg.yaml").write_text("a: 1")
    assert set(sources.files_of(command[:-5], tmp_path)) == {"train.py", "cfg.yaml"}
    assert json.dumps(sources.files_of("x" * 5000, Path())) == "{}"


@pytest.mark.parametrize(
    ("lines", "names", "said"),
    [
        (["d = Lion(D) if lion else torch.optim.Adam(D)", "g = optim.Adam(G)"], ("adam", "lion"),
         "builds adam in lines 1, 2 but lion in 1 alone"),  # one of the two of a GAN
        (["d = Lion(D) if lion else Adam(D)", "g = Lion(G) if lion else Adam(G)"],
         ("adam", "lion"), ""),
        (["if o == 'sgd':", "    return SGD(p)", "elif a:", "    return AdamW(p)", "Lion(p)"],
         ("adamw", "lion"), ""),  # a trainer's choice
        (["kind = Lion if lion else AdamW", "o = kind(p)", "o = AdamW(p)"], ("adamw", "lion"), ""),
        (["# AdamW(p)", "class AdamW(Optimizer):", "o = AdamW(p)", "o = lion(p)"],
         ("torch.optim.AdamW", "lion_32bit"), ""),
        (["o = million(p)", "o = AdamW(p)", "o = Lion(p)", "o = AdamW(p)"], ("adamw", "lion"),
         "builds adamw in lines 2, 4 but lion in 3 alone"),  # built anew in the middle
    ],
)  # fmt: skip
def test_a_second_optimizer_that_stays_the_baseline_is_said(lines, names, said, tmp_path):
    (tmp_path / "train.py").write_text("\n".join(lines))
    (tmp_path / "cfg.yaml").write_text("\n".join(lines))
    found = list(sources.left_behind(["train.py", "cfg.yaml"], tmp_path, names))
    assert [said in one for one in found] == ([True] if said else [])


def test_modules_beside_a_script_are_part_of_the_program(tmp_path, monkeypatch):
    for name, text in {
        "train.py": "import torch, model\nfrom lib import nets as n, x\nimport broken, train",
        "model.py": "from utils.deep import f",
        "utils/deep.py": "",
        "lib/__init__.py": "",
        "lib/nets.py": "from . import heads\nfrom ..lib.tails import t\nimport model",
        "lib/heads.py": "",
        "lib/tails.py": "",
        "lib/unused.py": "",
        "broken.py": "def",
        "pkg/__main__.py": "from .own import x\nimport model",
        "pkg/own.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    lib = {"lib/__init__.py", "lib/nets.py", "lib/heads.py", "lib/tails.py"}
    whole = {"train.py", "model.py", "utils/deep.py", "broken.py", *lib}
    assert set(sources.files_of("python train.py {lr}", tmp_path)) == whole
    elsewhere = sources.files_of("cd {run_dir} && python $OLDPWD/train.py {lr}", tmp_path)
    assert set(elsewhere) == whole
    assert set(sources.files_of("cd pkg; python own.py", tmp_path)) == {"pkg/own.py"}
    module = sources.files_of("python -m pkg --data=model.py", tmp_path)
    assert set(module) == {"pkg/__main__.py", "pkg/own.py", "model.py", "utils/deep.py"}
    assert set(sources.files_of("python ../pkg/own.py", tmp_path / "lib")) == {"../pkg/own.py"}
    assert sources.files_of("python -m torch.distributed.run -m", tmp_path) == {}
    (tmp_path / "above.py").write_text("from ....far.above import x")  # Python will say it
    monkeypatch.chdir(tmp_path)
    assert set(sources.files_of("python above.py", Path())) == {"above.py"}
    (tmp_path / "many.py").write_text("from lib import " + ", ".join(f"m{i}" for i in range(150)))
    for number in range(150):
        (tmp_path / f"lib/m{number}.py").write_text("")
    assert len(sources.files_of("python many.py", tmp_path)) == 101  # the rest: a library
