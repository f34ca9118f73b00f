"""Ordinary slips, for every key of the schema: one line each, never a traceback."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import run
from experiments import checks, explain, limits, pages, runner
from experiments.config import ConfigError, RunConfig, UserError, from_dict, to_dict
from experiments.data.order import BatchPlan
from experiments.tasks.image import _even

BASE = run.compose(["train.epochs=null", "train.steps=2"])
SLIPS: dict[str, Any] = {
    "wrong type": "two",
    "zero": 0,
    "negative": -1,
    "huge": 1e300,
    "digits": 10**401,
    "nan": float("nan"),
    "empty": "",
    "null": None,
    "list": [[None]],
    "mapping": {"a": 1},
}


def keys(tree: Any, prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{key}.")


KEYS = list(keys(to_dict(BASE)))


def changed(key: str, value: Any) -> dict[str, Any]:
    """The plain configuration with one value in place of another."""
    plain = to_dict(BASE)
    section = plain
    *path, last = key.split(".")
    for part in path:
        section = section[part]
    section[last] = copy.deepcopy(value)
    return plain


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_any_key_passes_or_is_one_line(slip: str) -> None:
    """As a recorded configuration may have it, which Hydra's types do not protect."""
    for key in KEYS:
        try:
            checks.check(from_dict(changed(key, SLIPS[slip])))
        except ConfigError as error:
            assert "\n" not in str(error) and len(str(error)) < 400, key


TEXTS = ("two", "-1", "1e300", "1" * 401, "nan", "", "null", "[[a]]", "{a: 1}", "${x}", "a=~é'")


@pytest.mark.parametrize("key", KEYS[::3])
def test_a_slip_on_the_command_line_passes_or_is_one_line(key: str) -> None:
    """Through Hydra's parser and types: each key with another slip."""
    text = TEXTS[KEYS.index(key) // 3 % len(TEXTS)]
    try:
        run.compose([f"{key}={text}"])
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 500


IN_WORDS = {
    "train.compile=foo": "train.compile=foo: must be true or false",
    "job=null": "job=null: must be one of train",
    "landscape.sigmas=[a]": "landscape.sigmas=[a]: must be a list, each a finite number",
    "task.max_shift=null": "task.max_shift=null: must be a finite number",
    "train=3": "train=3: must be a mapping",
    "start_from=[1,2]": "start_from=1: must be a path",
    "data=3": "data=3: choose a page",
    "model={widht: 3}": "model.widht: no such key on this page; ++model={...} adds it",
    "+foo=1": "foo: no such key",
    "+train.foo=1": "foo: no such key",
    "search.num_workers=1": "search.num_workers: no such key before a page is chosen: search=PAGE",
    "foo": "'foo' cannot be read: say key=value",
    "a b=c": "'a b=c' cannot be read: say key=value",
    "${foo}": "'${foo}' cannot be read: say key=value",
}


@pytest.mark.parametrize("slip", IN_WORDS)
def test_what_hydra_refuses_is_said_with_the_remedy(slip: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(IN_WORDS[slip])}") as caught:
        run.compose([slip])
    assert "full_key" not in str(caught.value)


def test_a_key_of_another_optimizer_is_told_with_whose_it_is() -> None:
    """In a sweep over both a key of one alone has a place of its own."""
    remedy = "'sweep.by_optimizer={program: {set: {optimizer.path: VALUE}}, lion: {}}'"
    said = f"optimizer.path: no such key of optimizer=lion, but of program; in a sweep .*{remedy}"
    with pytest.raises(ConfigError, match=re.escape(said).replace(r"\.\*", ".*")):
        run.compose(["optimizer=lion", "optimizer.path=found.txt"])
    with pytest.raises(ConfigError, match="optimizer.betsa: no such key; did you mean"):
        run.compose(["optimizer=lion", "optimizer.betsa=[0.9,0.9]"])


TOO_FAR = {  # accepted by no range
    "task.mixup_alpha": -1,
    "task.label_smoothing": -0.5,
    "task.horizontal_flip": 7,
    "task.max_shift": float("nan"),
    "task.randaug_layers": -1,
    "task.crop_scale_min": 5,
    "optimizer.kahan_sum": "maybe",
    "model.depth": 0,
    "train.epochs": 1e300,
    "train.ema_decay": 1,
    "results_dir": "",
    "launch.num_threads": 100_000,
    "seed": 10**401,
}


@pytest.mark.parametrize(("key", "value"), TOO_FAR.items(), ids=list(TOO_FAR))
def test_what_would_do_harm_is_refused(key: str, value: Any) -> None:
    plain = changed(key, value)
    if key == "train.epochs":
        plain["train"]["steps"] = None
    with pytest.raises(ConfigError, match=rf"^{key}=.*: must be "):
        checks.check(from_dict(plain))


FIRST_BUILD = {  # slips that only the model or the data can know
    "model.img_size": (16, "the first step fails: .*match"),
    "model.in_chans": (3, "the first step fails: .*channels"),
    "model.num_classes": (5, "scores of shape .* of 10 classes: set model.num_classes=10"),
    "model.num_heads": (5, "model: cannot build timm.models.VisionTransformer: "),
    "model.patch_size": (100, "model|the first step fails"),
    "model.global_pool": ("abc", "model: cannot build timm"),
    "model.weight_init": ("abc", "model: cannot build timm"),
    "model.mlp_ratio": ([1.0, 2.0], "model: cannot build timm"),
    "model.embed_dim": (True, "model.embed_dim=True: must be"),
    "model.depht": (2, "model.depht: no such argument; did you mean model.depth"),
    "optimizer.momentum_dtype": ("abc", "optimizer: cannot build lion.Lion"),
    "optimizer.betas": ([0.9], "optimizer: cannot build lion.Lion"),
    "data": (
        {"_target_": "experiments.data.bundled.mnist1d", "name": "m"},
        "on data m, .*: the first",
    ),
    "data.nmae": ("x", "data.nmae: no such argument"),
    "task.mean": ([], "task.mean=.*: must be"),
    "param_groups.frozen": (["*"], "param_groups|optimizer"),
}


@pytest.mark.parametrize(("key", "slip"), FIRST_BUILD.items(), ids=list(FIRST_BUILD))
def test_what_only_building_shows_is_one_line_too(
    key: str, slip: tuple[Any, str], tmp_path: Path
) -> None:
    value, message = slip
    config = from_dict({**changed(key, value), "results_dir": str(tmp_path)})
    config.launch.progress = False
    with pytest.raises(UserError, match=message) as caught:
        checks.check(config)
        runner.run(config)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_the_remedy_for_an_odd_batch_of_mixup_works(tmp_path: Path) -> None:
    """Whatever it names, the next call gets past Mixup."""
    for batch in range(1, 40):
        for size in (1, 2, 3):
            for micro in range(1, batch // size + 1, 2):
                if batch % size or (batch // size) % micro:
                    continue
                said = _even(BatchPlan(0, 100, batch, micro, 0, size))
                config: RunConfig = from_dict(to_dict(BASE))
                config.train.batch_size, config.train.micro_batch_size = batch, micro
                for name, text in re.findall(r"train\.(\w+)=(\w+)", said):
                    setattr(config.train, name, None if text == "null" else int(text))
                assert checks.micro_batches(config, size)[0] % 2 == 0, (batch, size, micro, said)


def test_sampled_keys_are_keys() -> None:
    assert set(limits.RUN) <= {*KEYS}


@pytest.mark.parametrize("group", ["sweep", "launcher"])
def test_a_page_name_that_no_file_can_have_is_no_page(group: str) -> None:
    with pytest.raises(ConfigError, match=f"^{group}=11"):
        pages.load_page(group, "1" * 401, [], [pages.CONF])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--lr", "1e-3"], "--lr: no such flag, settings are written key=value; did you mean opt"),
        (["--weight-decay=1"], "no such flag, .*; did you mean optimizer.weight_decay[?]"),
        (["-m", "--launcher=slurm"], "no such flag, .*; did you mean launcher[?]"),
    ],
)
def test_a_setting_written_as_a_flag_is_one_line(
    arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "optimizer=adamw", *arguments])
    assert run.main() == 2
    said = capsys.readouterr().err
    assert re.search(expected, said) and said.count("\n") == 1
    explain.check_flags(["--cfg", "job", "--multi", "--config-dir=x", "-m", "a=--b"])


def test_several_values_without_multirun_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "seed=0,1"])
    assert run.main() == 2
    said = capsys.readouterr().err
    assert said == "error: seed=0,1: several values need -m (a sweep); one list is seed=[0,1]\n"
    monkeypatch.setattr("sys.argv", ["run.py", "results_dir=/a,b"])
    assert run.main() == 2
    assert "a path's comma is quoted: 'results_dir=\"/a,b\"'" in capsys.readouterr().err
    assert run.compose(['results_dir="/a,b"']).results_dir == "/a,b"


def test_help_may_be_cut_by_a_pager() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "run.py", "--help"]
    done = subprocess.run(
        command, cwd=pages.CONF.parent, stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("said", ["start_from=", "start_from.source=''", "run="])
def test_a_run_named_by_an_unset_variable_is_not_taken_for_none(said: str) -> None:
    with pytest.raises(ConfigError, match=r"= is empty .a variable.*leave (start_from|run)"):
        run.compose([said])
    assert run.compose(["start_from=null"]).start_from is None
