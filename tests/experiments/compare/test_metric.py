"""The number of a run is found where it stands, and nothing else is taken for it."""

import json
import math
import os

import pytest

from experiments.compare.metric import Metric, MetricError
from experiments.compare.placeholders import check_command, filled
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
        (ACC, "acc=50\nacc=infinity", math.nan),
        ("loss ([0-9.]+)", "loss 2\nloss information: none", 2.0),
        (ACC, "The end: acc=90.5.", 90.5),
        ("json:loss", '{"loss": 1}\n{"loss": NaN}', math.nan),
        ("json:val.acc", '{"val.acc": 3}', 3.0),
        ("json:eval.acc", '{"epoch": 1, "eval/acc": 4}', 4.0),
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


@pytest.mark.parametrize("text", ["", "acc=[0-9.]+", "(a)(b)", "acc=(", "file:x.txt"])
def test_patterns_that_cannot_work_are_refused(text):
    with pytest.raises(UserError):
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
    ],
)
def test_names(text, name, lower):
    assert (Metric(text).name, Metric(text).looks_lower) == (name, lower)


def test_only_placeholders_are_filled():
    text = "python t.py --cfg '{a: 1}' ${HOME} {lr} {wd}"
    assert filled(text, {"lr": "0.1", "weight_decay": "2"}) == (
        "python t.py --cfg '{a: 1}' ${HOME} 0.1 2"
    )


def test_a_command_without_a_placeholder_is_refused():
    check_command("t {opt} {lr} {wd} {seed}")
    with pytest.raises(UserError, match=r"lacks \{lr\}, \{seed\}"):
        check_command("t {optimizer} {weight_decay}")
