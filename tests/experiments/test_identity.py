"""The same settings are the same run; any setting that can move a number makes another."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from experiments import precision
from experiments.config import RunConfig, from_dict, to_dict
from experiments.identity import identity, run_id

PLAIN: dict[str, Any] = {
    "experiment": "vit_x",
    "optimizer_name": "lion",
    "seed": 3,
    "task": {"_target_": "a.Task", "mixup_alpha": 0.5, "mean": [0.5, 0.5]},
    "data": {"_target_": "b.data", "name": "set", "root": "/here", "num_workers": 4},
    "model": {"_target_": "c.Model", "depth": 12, "sizes": [1, 2]},
    "optimizer": {"_target_": "lion.Lion", "lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 1.0},
    "train": {"epochs": 4.0, "batch_size": 16},
    "schedule": {"warmup_steps": 5},
    "results_dir": "results/runs",
}


def config(**changes: Any) -> RunConfig:
    plain = copy.deepcopy(PLAIN)
    for key, value in changes.items():
        *path, last = key.split("__")
        section = plain
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return from_dict(plain)


def test_the_name_of_a_run_is_the_same_for_ever() -> None:
    """Golden: a change here renames every run that anyone has, and trains it again."""
    assert run_id(config()) == "vit_x-lion-s3-1c875d6f7e"
    full = from_dict(to_dict(config()))
    assert run_id(full) == "vit_x-lion-s3-1c875d6f7e"


def test_the_name_is_fit_for_a_folder_and_reads_well() -> None:
    assert re.fullmatch(r"vit_x-lion-s3-[0-9a-f]{10}", run_id(config()))


def test_a_page_in_a_subfolder_has_its_run_beside_the_others() -> None:
    name = run_id(config(experiment="lab/nested", optimizer_name="mine/lion"))
    assert re.fullmatch(r"lab\.nested-mine\.lion-s3-[0-9a-f]{10}", name)


SAME = {
    "int and float": {"train__epochs": 4, "optimizer__weight_decay": 1, "model__depth": 12.0},
    "tuple and list": {"optimizer__betas": (0.9, 0.99), "model__sizes": (1, 2.0)},
    "schema defaults said aloud": {"train__precision": "auto", "schedule__name": "cosine"},
    "a knob left at null": {"optimizer__momentum_dtype": None},
    "shards": {"launch__strategy": "fsdp"},
    "launch": {"launch__num_processes": 2, "launch__device": "cpu", "launch__log_every_steps": 3},
    "results_dir": {"results_dir": "/elsewhere"},
    "tracking": {"tracking__wandb": "offline", "tracking__tensorboard": True},
    "checkpoint": {"checkpoint__every_steps": 7, "checkpoint__keep": 9},
    "where the data lies": {
        "data__root": "/there",
        "data__num_workers": 0,
        "data__cache_dir": "/c",
        "data__tokenizer_file": "/t.model",
        "data__annotations": "/a.json",
        "data__more_labels": "/l.tsv",
        "data__val_root": "/v",
        "data__eval_roots": {"v2": "/v2"},
        "data__encoder": "/e",
    },
    "how it is measured": {"task__judge": {"num_draws": 3}, "task__one_shot": {"data": "/o"}},
    "eval batch": {"eval__batch_size": 1},
    "weights that decide": {"eval__weights": "ema"},
    "defaults said aloud": {"param_groups__no_decay_1d": True, "eval__every_epochs": None},
    "kinds of numbers in lists": {"optimizer__betas": [0.9, 0.99], "task__mean": (0.5, 0.5)},
    "provenance": {"provenance__source": "table 12"},
    "job": {"job": "evaluate"},
}


@pytest.mark.parametrize("changes", SAME.values(), ids=list(SAME))
def test_what_cannot_move_a_number_is_the_same_run(changes: dict[str, Any]) -> None:
    assert run_id(config(**changes)) == run_id(config())


OTHER = {
    "seed": {"seed": 4},
    "lr": {"optimizer__lr": 1.0000001e-3},
    "betas": {"optimizer__betas": [0.99, 0.9]},
    "another optimizer": {"optimizer___target_": "lion.HeroLion"},
    "its page": {"optimizer_name": "lion_b"},
    "the experiment": {"experiment": "vit_y"},
    "model": {"model__depth": 13},
    "new model argument": {"model__drop_rate": 0.0},
    "order of sizes": {"model__sizes": [2, 1]},
    "task": {"task__mixup_alpha": 0.2},
    "data": {"data__name": "other"},
    "epochs": {"train__epochs": 5.0},
    "batch": {"train__batch_size": 8},
    "micro batch": {"train__micro_batch_size": 8},
    "clip": {"train__grad_clip_norm": 1.0},
    "ema": {"train__ema_decay": 0.9},
    "precision": {"train__precision": "bf16"},
    "dtype of weights": {"train__param_dtype": "bfloat16"},
    "storage of the momentum": {"optimizer__momentum_dtype": "int8"},
    "warmup": {"schedule__warmup_steps": 6},
    "decay shape": {"schedule__name": "linear"},
    "no decay": {"param_groups__no_decay": ["head.*"]},
    "frozen": {"param_groups__frozen": ["head.*"]},
    "evaluation": {"eval__every_steps": 3},
    "evaluation by epochs": {"eval__every_epochs": 3.0},
    "a null that no schema has": {"task__new": None},
    "a null of the model": {"model__new": None},
    "biases that decay": {"param_groups__no_decay_1d": False},
    "weights to begin with": {"start_from": "another-run"},
    "text for a number": {"model__depth": "12"},
    "truth for a number": {"model__depth": True},
    "and the number": {"model__depth": 1},
}


def test_what_can_move_a_number_is_a_run_of_its_own() -> None:
    names = {run_id(config())} | {run_id(config(**changes)) for changes in OTHER.values()}
    assert len(names) == len(OTHER) + 1


def test_the_order_of_keys_does_not_matter() -> None:
    turned = {**PLAIN, "optimizer": dict(reversed(PLAIN["optimizer"].items()))}
    assert run_id(from_dict(turned)) == run_id(config())


def test_asking_leaves_the_configuration_alone() -> None:
    settings = config()
    before = to_dict(settings)
    identity(settings)["data"].clear()
    assert to_dict(settings) == before


def test_a_field_added_to_the_task_schema_later_does_not_rename_the_runs_of_today() -> None:
    """Hydra fills in every field of ImageTaskConfig, so each new one renames every image run."""
    target = "experiments.tasks.image.ImageClassification"
    today = config(task={"_target_": target})
    later = config(task={"_target_": target, "max_zoom": 0.0, "mixup_alpha": 0.0})
    assert run_id(today) == run_id(later)
    bandit = config(task={"_target_": "experiments.tasks.bandit.ContextualBandit"})
    assert run_id(bandit) != run_id(today)


def test_the_decoder_of_old_runs_is_no_part_of_their_name_and_another_is() -> None:
    files = {"_target_": "experiments.data.image_files.ImageFiles", "name": "set"}
    before = run_id(config(data=files))
    assert run_id(config(data={**files, "decoder": "pil"})) == before
    assert run_id(config(data={**files, "decoder": "tensor"})) != before
    own = {"_target_": "their.Images", "name": "set"}  # a source whose default nobody knows
    assert run_id(config(data={**own, "decoder": "pil"})) != run_id(config(data=own))


def test_keys_that_are_numbers_are_the_same_as_text() -> None:
    """YAML reads `1: 0.5` as a number, the configuration that was recorded as JSON as text."""
    one, other = (config(model__scales={key: 0.5, "b": 1}) for key in (1, "1"))
    assert run_id(one) == run_id(other) != run_id(config(model__scales={2: 0.5, "b": 1}))


def test_a_run_that_starts_from_fresh_weights_says_nothing_of_it() -> None:
    assert "start_from" not in identity(config())
    assert identity(config(start_from="another-run"))["start_from"] == [{"run": "another-run"}]


def test_what_a_schema_of_another_task_has_at_its_default_counts() -> None:
    """A bandit's `mixup_alpha=0` is no default of the bandit."""
    bandit = {"_target_": "experiments.tasks.bandit.ContextualBandit"}
    assert run_id(config(task=bandit)) != run_id(config(task={**bandit, "mixup_alpha": 0.0}))


HERE = [(False, "fp32", "bf16"), (True, "bf16", "fp32")]


@pytest.mark.parametrize(("has_gpu", "meant", "other"), HERE)
def test_auto_is_the_precision_that_it_means_here(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, meant: str, other: str
) -> None:
    monkeypatch.setattr(precision, "uses_gpu", lambda device: has_gpu)
    auto = run_id(config(train__precision="auto"))
    assert auto == run_id(config(train__precision=meant)) != run_id(config(train__precision=other))
