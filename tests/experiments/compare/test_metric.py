"""The number of a run is found where it stands, and nothing else is taken for it."""

import ast
import json
import math
import os

import pytest
import yaml

from experiments.compare.metric import Metric, MetricError, last_lines
from experiments.compare.placeholders import check_command, filled, in_full
from experiments.config import UserError

ACC = "acc=([0-9.]+)"


@pytest.mark.parametrize(
    ("pattern", "output", "value"),
    [
        (ACC, "acc=1\nacc=90.5 loss=2\nbye", 90.5),
        (ACC, "acc=1 acc=2", 2.0),
        ("loss=([0-9.]+)", "loss=1.2e-05", 1.2e-5),
        (r"acc\s+(-?\d+)", "acc  -3", -3.0),
        ("json:val.acc", '{"val": {"acc": 1}}\n{"val": {"acc": 2.5}}\n{"other": 1}\nend', 2.5),
        (ACC, "acc=50\nacc=nan", math.nan),  # not the 50 of an epoch before
        (ACC, "acc=50\nacc=-inf", math.nan),
        (ACC, "acc=50\nacc=NaN", math.nan),
        ("acc=(?P<value>[0-9.]+)", "acc=50\nacc=nan", math.nan),
        ("acc=([0-9.]+)|done", "acc=3\ndone", 3.0),
        ("acc=([0-9.]+)|done", "acc=3\nacc=nan\ndone", math.nan),
        (r"acc=((?:\d+\.)?\d+)%", "acc=0.5%\nacc=nan%", math.nan),
        (r"\(acc\) [(]([0-9.)]+)[)]", "(acc) (50)\n(acc) (nan)", math.nan),
        (r"(?:val|dev) acc=([0-9.]+)", "val acc=50\ndev acc=nan", math.nan),
        (ACC, "acc=50\nacc=infinity", math.nan),
        ("loss ([0-9.]+)", "loss 2\nloss information: none", 2.0),
        (ACC, "The end: acc=90.5.", 90.5),
        ("json:loss", '{"loss": 1}\n{"loss": NaN}', math.nan),
        ("reward=([0-9.]+)", "reward=3\nreward=-1.5e-3", -1.5e-3),  # not the 3 before
        ("ppl=([0-9.]+)", "ppl=11,160.2", 11160.2),
        (ACC, "step,acc\nacc=12,345", 12.0),  # a column after it
        (ACC, "acc=1234,567.8", 1234.0),  # two numbers
        (ACC, "\x1b[1mval\x1b[0m acc=\x1b[1;32m90.5\x1b[0m%", 90.5),
        (ACC, "\r10% acc=1\r100% acc=90.5\x1b[K", 90.5),
        ("json:acc", '\x1b]0;title\x07\x1b[36m{"acc": 4}\x1b[0m', 4.0),
        ("json:val.acc", '{"val.acc": 3}', 3.0),
        ("json:eval.acc", '{"epoch": 1, "eval/acc": 4}', 4.0),
        ("json:eval_acc", "{'eval_acc': '0.25'}\r{'eval_acc': '0.5', 'epoch': 1}", 0.5),
        ("json:val.acc", "{'val': {'acc': np.float64(0.5)}}", 0.5),
        ("json:acc", "{'acc': 1}\n{'acc': tensor(-2., device='cuda:0')}", -2.0),
        ("json:loss", "{'loss': 1.0}\n{'loss': nan}", math.nan),
        ("json:acc", "{'acc': 1}\n 20%|##  | 1/5 [00:01]{'acc': 0.5}\n", 0.5),
        ("json:val.acc", 'INFO:root: {"val": {"acc": 2}}\nINFO:root: {"n": 1}', 2.0),
        ("json:loss", "{'loss': 1.0}\n{'loss': -inf}", -math.inf),
        ("json:acc", "{'acc': 1}\n{'acc': open('x', 'w').close()}\n{half", 1.0),  # nothing is run
        ("csv:acc", 'say "\nstep,acc,loss\n1,5,\n2,6,\n,,3\nbye, all\n', 6.0),
        ("json:acc", "{'acc': tensor(np.float64(0.5))}", 0.5),
        ("json:acc", "{'acc': tensor(nan)}", math.nan),
        ("json:acc", "{'acc': round(0.5, 2)}", 0.5),
        ("csv:acc", "acc;step\n5;1\nacc;step\n7;1", 7.0),
        ("csv:acc", "acc;step\n5;1\nstep;acc\n1;7", 7.0),
        ("csv:acc", "step, acc\n1, 5", 5.0),
        ("csv:acc", "x" * 200_000 + "\nacc\n3", 3.0),  # more than a cell of CSV may hold
        ("csv:val acc", 'step\t"val acc"\n1\t5e-1\n', 0.5),
        ("csv:acc", "acc\n1\nnan\n", math.nan),
        ("csv:acc", "|  run  |  acc  |\n-----\n|  1    |  0.25 |\n|  1    |  0.5  |\nbye | 3", 0.5),
        ("csv:acc", "│ step │ acc │\n├──────┼─────┤\n│ 1    │ 0.5 │", 0.5),
    ],
)
def test_the_last_one_counts(pattern, output, value):
    assert Metric(pattern).read(output, {}) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(
    ("pattern", "output", "said"),
    [
        (ACC, "nothing here", "no line of the output matches"),
        ("acc=(.*)", "acc=good", "no number"),
        ("json:acc", "acc=3", "no JSON line with acc"),
        ("json:acc", '{"acc": true}', "no number"),
        ("csv:acc", "step,acc\n", "no column of CSV acc"),
        ("csv:acc", "acc=1", "no column of CSV acc"),
        ("csv:acc", "acc,step\n5,1\nacc,step\n", "no column of CSV acc"),
        ("csv:acc", "step,acc\n1,good", "no number"),
        ("file:{run_dir}/x.txt:acc=(.*)", "acc=3", "is not there"),
    ],
)
def test_no_number_is_one_clear_line(pattern, output, said, tmp_path):
    with pytest.raises(MetricError, match=said):
        Metric(pattern).read(output, {"run_dir": tmp_path})


def test_a_file_must_be_of_this_run(tmp_path):
    path = tmp_path / "out.json"
    path.write_text(json.dumps({"a": {"b": 3}}, indent=2))
    metric = Metric("file:{run_dir}/out.json:json:a.b")
    values = {"run_dir": tmp_path}
    assert metric.read("", values) == 3
    before = metric.stamp(values)
    with pytest.raises(MetricError, match="not written by this run"):
        metric.read("", values, before)  # though it was written just now
    path.write_text(path.read_text().replace("3", "4"))
    os.utime(path, (1, 1))  # by a server whose clock is another, or was set back
    assert metric.read("", values, before) == 4


def test_a_file_that_is_one_object_is_read_as_a_whole(tmp_path):
    """Though its last line that is an object has the key, too; bytes of no text stop nothing."""
    path = tmp_path / "out"
    path.write_bytes(b'{"acc": 3, "best":\n{"acc": 1}\n}')
    assert Metric(f"file:{path}:json:acc").read("", {}) == 3
    path.write_bytes(b"\xff acc=5\n")
    assert Metric(f"file:{path}:{ACC}").read("", {}) == 5


def test_a_file_that_is_missing_is_named_in_full(monkeypatch, tmp_path):
    """The command may have gone to another folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MetricError, match=f"{tmp_path}/out/x.csv is not there"):
        Metric("file:out/x.csv:csv:acc").read("", {})


@pytest.mark.parametrize(
    "text", ["", " ", "acc=[0-9.]+", "(a)(b)", "acc=(", "file:x.txt", "json:", "csv: "]
)
def test_patterns_that_cannot_work_are_refused(text):
    with pytest.raises(UserError, match="--metric" if text.strip() else "--metric is empty"):
        Metric(text)


@pytest.mark.parametrize(
    ("text", "name", "lower"),
    [
        (ACC, "acc", False),
        (r"val_loss:\s*(\S+)", "val_loss", True),
        ("json:a.nll", "nll", True),
        ("json:valloss", "valloss", True),
        ("json:eval_ppl", "eval_ppl", True),
        ("answer_f1=(.*)", "answer_f1", False),  # holds "wer"
        ("confidence: (.*)", "confidence", False),  # holds "fid"
        ("json:merge_rate", "merge_rate", False),
        (r"Test accuracy: (\S+)%", "Test accuracy", False),
        (r"final loss (\S+)", "loss", True),
        ("(?i)val_loss: ([0-9.]+)", "val_loss", True),
        ("(?:val|valid)_loss=([0-9.]+)", "valid loss", True),
        ("([0-9.]+) val_loss", "val_loss", True),
        ("loss: train (?:[0-9.]+) val ([0-9.]+)", "val loss", True),
        ("([0-9.]+) val loss at epoch", "val loss", True),
        ("val_acc=([0-9.]+) loss", "val_acc", False),
        ("json:loss.val", "val loss", True),
        ("json:train.metrics.loss", "loss", True),
        ("json:val.mean", "mean", False),
        ("csv:val.acc", "val.acc", False),
        ("json:test.acc", "test acc", False),
        ("json:val.loss.mean", "val loss", True),
        ("file:{run_dir}/log.csv:csv:val_loss", "val_loss", True),
        ("json:metrics.val_loss.mean", "val_loss", True),
        ("train_loss=[0-9.]+ val_acc=([0-9.]+)", "val_acc", False),
        (r"Loss: [0-9.]+ Acc@1: [0-9.]+ \(\s*([0-9.]+)\)", "Acc@1", False),
        (r"^\d+,[^,]*,([0-9.]+)", "the metric", False),
    ],
)
def test_names(text, name, lower):
    assert (Metric(text).name, Metric(text).looks_lower) == (name, lower)


@pytest.mark.parametrize("text", ["Best metric: (.*)", "(.*)", "json:eval_x", "(?P<x>.*)"])
def test_a_name_that_tells_no_direction_has_none(text):
    assert not Metric(text).looks_lower and not Metric(text).looks_higher


def test_a_name_of_both_is_to_be_made_small():
    """An "accuracy loss" is a loss."""
    both = Metric("json:accuracy_loss")
    assert both.looks_lower and not both.looks_higher


def test_what_a_program_said_last_is_one_line():
    assert last_lines("a\n b \n\n\x1b[1mc\x1b[0m\nd\n") == "b | c | d"
    assert last_lines("x" * 999 + "end") == "x" * 297 + "end"
    assert last_lines("\n \n") == "it printed nothing"


def test_only_placeholders_are_filled():
    text = "python t.py --cfg '{a: 1}' ${HOME} {lr} {wd}"
    assert filled(text, {"lr": "0.1", "weight_decay": "2"}) == (
        "python t.py --cfg '{a: 1}' ${HOME} 0.1 2"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(5e-05, "0.00005"), (1e-3, "0.001"), (3e-4 * 0.2, "0.00006"), (0.0, "0.0"), (2.0, "2.0"),
     (1.234e-9, "0.000000001234"), (100.0, "100.0"), (1e6, "1000000.0"),
     (0.00123456789, "0.00123456789")],
)  # fmt: skip
def test_a_number_is_one_to_every_reader(value, text):
    """PyYAML takes 5e-05 for text, and such a run would count as one that fails at a small lr.
    A reader that evaluates what it gets, and refuses an int for a float (nanoGPT's), would fail at
    a weight decay of 1 alone."""
    assert in_full(value) == text
    for read in (yaml.safe_load, ast.literal_eval):
        assert type(read(text)) is float and read(text) == pytest.approx(value)


def test_a_command_without_a_placeholder_is_refused():
    check_command("t {opt} {lr} {wd} {seed}")
    with pytest.raises(UserError, match=r"lacks \{lr\}, \{seed\}"):
        check_command("t {optimizer} {weight_decay}")


@pytest.mark.parametrize(
    ("pattern", "output", "said"),
    [
        (ACC, "acc=50\nacc=90.5 loss=2\nbye", ""),
        (ACC, "val_acc=50", "has read val_acc"),
        (ACC, "val_acc=50\ntrain_acc=99", "has read train_acc"),
        (ACC, "train_acc=99\nacc=50", ""),
        (ACC, "eval/acc=50 ", "has read eval/acc"),
        (ACC, "val_acc=50 train_acc=99", "2 times in one line, of which the last (train_acc) was"),
        (
            ACC,
            "val acc=50 train acc=99",
            "of which the last (acc=99) was read",
        ),
        ("val_acc=([0-9.]+)", "epoch 2 val_acc=50 train_acc=99", ""),
        (r"\bacc=([0-9.]+)", "train_acc=99 acc=50", ""),
        (r"=([0-9.]+)", "train_acc=99", ""),  # no name of its own
        (ACC, "\x1b[1mtrain_\x1b[0macc=9", "has read train_acc"),
        ("json:acc", '{"train_acc": 1, "acc": 2}', ""),
        (ACC, "acc=nan", ""),
        (ACC, "acc=15,994", "has read 15 of 15,994"),  # thousands, or a comma as in 79,68
        (ACC, "acc=79,68 %", "has read 79 of 79,68"),
        (ACC, "acc=11,160.2, 3", ""),  # read as a whole
        (ACC, "acc=79, 3", ""),
        (ACC, "acc=1.5e-05,", ""),
        (ACC, "acc=90.5.", ""),
        ("acc=([0-9]+)", "acc=93.25", "has read 93 of 93.25"),
        (r"acc=(0\.\d\d)", "acc=0.93456", "has read 0.93 of 0.93456"),
    ],
)
def test_a_pattern_that_may_have_read_another_number_is_doubted(pattern, output, said):
    doubt = Metric(pattern).doubt(output, {})
    assert said in doubt and bool(doubt) == bool(said)


def test_a_file_is_doubted_as_the_output_is(tmp_path):
    (tmp_path / "log.txt").write_text("train_acc=99")
    metric = Metric(f"file:{tmp_path}/log.txt:{ACC}")
    assert metric.doubt("acc=50", {}) == "has read train_acc"
