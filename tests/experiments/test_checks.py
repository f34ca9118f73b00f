"""Configurations that cannot work are refused by a line that names the key and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny

from experiments.checks import lookup, micro_batches
from experiments.config import ConfigError, from_dict, to_dict

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "job": ({"job": "tran"}, r"job=tran: must be one of train, evaluate"),
    "schedule": ({"schedule__name": "cos"}, r"schedule.name=cos: must be one of cosine, linear"),
    "dtype": ({"train__param_dtype": "fp16"}, r"train.param_dtype=fp16: must be one of float32"),
    "dtype and precision": ({"train__param_dtype": "bfloat16"}, "set train.precision=bf16"),
    "dtype and average": (
        {"train__param_dtype": "bfloat16", "train__precision": "bf16", "train__ema_decay": 0.9},
        "set train.ema_decay=null",
    ),
    "precision": ({"train__precision": "fp16"}, r"train.precision=fp16: must be one of auto"),
    "device": ({"launch__device": "gpu"}, r"launch.device=gpu: must be one of auto, cpu, cuda"),
    "wandb": ({"tracking__wandb": "on"}, r"tracking.wandb=on: must be one of disabled"),
    "batch 0": (
        {"train__batch_size": 0},
        r"train.batch_size=0: must be a whole number from 1 to 16,777,216$",
    ),
    "epochs nan": (
        {"train__epochs": float("nan")},
        r"train.epochs=nan: must be a finite number, more than 0 and",
    ),
    "keep 0": ({"checkpoint__keep": 0}, r"checkpoint.keep=0"),
    "negative": ({"checkpoint__every_steps": -5}, r"checkpoint.every_steps=-5"),
    "log 0": ({"launch__log_every_steps": 0}, r"launch.log_every_steps=0"),
    "fraction": (
        {"schedule__warmup_fraction": 1.5},
        r"warmup_fraction=1.5: must be a finite number, 0 or more and below 1$",
    ),
    "ema": (
        {"train__ema_decay": -0.1},
        r"train.ema_decay=-0.1: must be a finite number, 0 or more and below 1, or null",
    ),
    "ema 1": ({"train__ema_decay": 1.0}, r"train.ema_decay=1.0: must be"),
    "ema nan": ({"train__ema_decay": float("nan")}, r"train.ema_decay=nan"),
    "both lengths": (
        {"train__steps": 5},
        r"train.epochs=4.0, train.steps=5: give exactly one .say train.epochs=null",
    ),
    "no length": ({"train__epochs": None}, r"give exactly one"),
    "both cadences": ({"eval__every_steps": 5}, r"every_epochs and eval.every_steps are both"),
    "lr text": ({"optimizer__lr": "1e-3x"}, r"optimizer.lr=1e-3x: must be a finite number"),
    "lr bool": ({"optimizer__lr": True}, r"optimizer.lr=True: must be a finite number"),
    "lr inf": ({"optimizer__lr": float("inf")}, r"optimizer.lr=inf: must be a finite number"),
    "decay": ({"optimizer__weight_decay": -1}, r"optimizer.weight_decay=-1: must be a finite"),
    "beta 1": (
        {"optimizer__betas": [0.9, 1.0]},
        r"optimizer.betas=\[0.9, 1.0\]: must be a list of numbers from 0",
    ),
    "one beta": ({"optimizer__betas": 0.9}, r"optimizer.betas=0.9: must be a list"),
    "epochs beyond all time": ({"train__epochs": 1e300}, r"train.epochs=1e\+300: must be"),
    "strategy": ({"launch__strategy": "zero"}, r"launch.strategy=zero: must be .*ddp.*fsdp"),
    "threads": ({"launch__num_threads": 100_000}, r"num_threads=100000: .* from 1 to 1,024"),
    "seed": ({"seed": 10**400}, r"seed=\(a whole number of about 40. digits\): must be"),
    "seed that cannot be written": ({"seed": 10**5000}, r"seed=\(a whole number of about 50"),
    "two epsilons": ({"optimizer__eps": [None, -1]}, r"optimizer.eps=\[None, -1\]: must be"),
    "kahan": ({"optimizer__kahan_sum": "maybe"}, r"kahan_sum=maybe: must be true or false"),
    "no task": ({"task": None}, r"no task chosen: pick an experiment page"),
    "no model": ({"model": {}}, r"no model chosen"),
    "no target": ({"data": {"root": "x"}}, r"no data chosen"),
    "timescale": (
        {"schedule__timescale": 5},
        r"timescale=5 does nothing with .*name=cosine.* rsqrt",
    ),
    "cool-down": (
        {"schedule__name": "linear", "schedule__cooldown_steps": 5},
        r"cooldown_steps=5 does nothing with schedule.name=linear: leave it at 0, or choose rsqrt",
    ),
    "multiplied decay": (
        {"param_groups__decay_multipliers": {"head.*": -1}},
        r"decay_multipliers=\S+ .*must be a mapping of names",
    ),
    "processes": ({"launch__num_processes": 3}, r"batch_size=16 does not divide over 3 .*=15"),
    "micro": (
        {"train__micro_batch_size": 5},
        r"micro_batch_size=5 .* set train.micro_batch_size=4",
    ),
    "micro > share": (
        {"train__micro_batch_size": 16, "launch__num_processes": 2},
        r"does not divide the 8 examples .* 2 process\(es\) .* set train.micro_batch_size=8",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_work_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        tiny.config(tmp_path, **changes)
    assert "\n" not in str(caught.value)


ALLOWED: dict[str, dict[str, Any]] = {
    "lr 0": {"optimizer__lr": 0.0},
    "ema of everything": {"train__ema_decay": 0.0},
    "a constant rate": {"schedule__final_fraction": 1.0},
    "a part of an epoch": {"train__epochs": 0.01},
    "no betas": {"optimizer__betas": None},
    "equal betas": {"optimizer__betas": (0.9, 0.9)},
    "the two epsilons of torch's Adafactor": {"optimizer__eps": [None, 1e-3]},
    "no clock": {"checkpoint__every_seconds": None},
}


@pytest.mark.parametrize("changes", ALLOWED.values(), ids=list(ALLOWED))
def test_what_works_is_let_through(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = tiny.config(tmp_path, **changes)
    assert from_dict(to_dict(config)) == config


def test_a_remedy_for_the_batch_works(tmp_path: Path) -> None:
    """Whatever size the message names, it is taken."""
    config = tiny.config(tmp_path)
    for batch in range(1, 40):
        for micro in (None, *range(1, 12)):
            for processes in range(1, 5):
                config.train.batch_size, config.train.micro_batch_size = batch, micro
                for _ in range(2):  # both keys may be at fault
                    try:
                        size, count = micro_batches(config, processes)
                    except ConfigError as error:
                        key, _, value = str(error).rpartition("set train.")[2].partition("=")
                        setattr(config.train, key, int(value))
                size, count = micro_batches(config, processes)
                assert size * count * processes == config.train.batch_size
                assert micro is None or size <= micro


def test_a_saved_configuration_of_another_version_is_refused(tmp_path: Path) -> None:
    plain = to_dict(tiny.config(tmp_path))
    plain["train"]["gradient_clip"] = 1.0
    with pytest.raises(ConfigError, match="of another version: .*gradient_clip"):
        from_dict(plain)


def test_lookup_goes_through_sections_and_plain_dicts(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    assert lookup(config, "train.batch_size") == 16
    assert lookup(config, "optimizer.lr") == 3e-3
    with pytest.raises((AttributeError, KeyError)):
        lookup(config, "train.batch")
