"""Every page of conf/ composes, says what it is, and keeps to its own subject."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import run
from experiments.config import RunConfig, UserError
from experiments.data import locate
from experiments.data.glue_paths import TASKS
from experiments.data.shard_paths import expand_range
from experiments.pages import proxy_of

Compose = Callable[..., RunConfig]


def names(group: str) -> list[str]:
    folder = run.CONF / group
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))


GLUE_SPLITS = ("train", "dev", "dev_matched", "dev_mismatched")
EXPERIMENTS, OPTIMIZERS, RECIPES = names("experiment"), names("optimizer"), names("recipe")
CHOICES = ("experiment=", "optimizer=", "recipe=")
OF_SWEEPS = ("sweep=", "sweep.", "launcher=", "launcher.")
PAGES = sorted(run.CONF.rglob("*.yaml"))


@cache
def load(page: str) -> dict[str, Any]:
    """A page as it stands; OmegaConf reads 1e-3 as a number, plain YAML does not."""
    plain = OmegaConf.to_container(OmegaConf.load(run.CONF / f"{page}.yaml"))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def optimizer_of(recipe: str) -> str:
    """adamw_early is a recipe of adamw: the longest optimizer that begins its name."""
    page = recipe.rpartition("/")[2]
    fits = [o for o in OPTIMIZERS if page == o or page.startswith(f"{o}_")]
    assert fits, f"recipe/{recipe}: its name begins with no page of conf/optimizer"
    return max(fits, key=len)


def choose(recipe: str) -> list[str]:
    """The overrides that lead to a recipe."""
    experiment, _, page = recipe.rpartition("/")
    optimizer = optimizer_of(recipe)
    chosen = [f"experiment={experiment}", f"optimizer={optimizer}"]
    return chosen if page == optimizer else [*chosen, f"recipe={recipe}"]


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(run.CONF).as_posix())
def test_page_loads_and_begins_with_a_comment(page: Path) -> None:
    text = page.read_text()
    load(page.relative_to(run.CONF).with_suffix("").as_posix())
    comments = [line for line in text.splitlines() if re.match(r"# (?!@package)\S", line)]
    if "source: draft" in text:
        pytest.skip("a draft")
    assert text.startswith("# ") and comments, "say in the first lines what the page is"
    assert "\t" not in text and text.endswith("\n") and not text.endswith("\n\n")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_composes_and_says_where_its_numbers_come_from(
    experiment: str, composed: Compose
) -> None:
    config = composed(f"experiment={experiment}", "optimizer=lion")
    assert (config.experiment, config.optimizer_name) == (experiment, "lion")
    is_proxy = experiment.endswith("_proxy") or experiment == "fashion"
    assert config.scale == ("proxy" if is_proxy else "paper")
    assert bool(config.stands_for) == is_proxy


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_composes_and_what_it_says_wins(recipe: str, composed: Compose) -> None:
    config = composed(*choose(recipe))
    assert recipe.rpartition("/")[0] in EXPERIMENTS
    assert config.provenance.source not in ("", "untuned")
    everything = dict(leaves(asdict(config)))
    for key, value in leaves(load(f"recipe/{recipe}")):
        assert everything[key] == value, key


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_page_leaves_the_optimizer_to_recipes(experiment: str) -> None:
    page = load(f"experiment/{experiment}")
    chosen = [str(k) for e in page.get("defaults", []) for k in (e if isinstance(e, dict) else [e])]
    assert "optimizer" not in page
    assert not [key for key in chosen if "optimizer" in key or "recipe" in key]


@pytest.mark.parametrize("optimizer", ["radam", "amsgrad", "lion_single_beta"])
def test_numbers_of_one_optimizer_do_not_reach_another(optimizer: str, composed: Compose) -> None:
    assert f"vit_b16_imagenet_aug/{optimizer}" not in RECIPES
    config = composed("experiment=vit_b16_imagenet_aug", f"optimizer={optimizer}")
    assert config.optimizer == load(f"optimizer/{optimizer}")
    assert config.provenance.source == "untuned" and not config.provenance.assumed


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_sets_only_knobs_that_its_optimizer_page_lists(recipe: str) -> None:
    knobs = load(f"optimizer/{optimizer_of(recipe)}")
    assert set(load(f"recipe/{recipe}")["optimizer"]) <= set(knobs)


def commands(text: str) -> list[list[str]]:
    """Arguments of the `python run.py` commands in the comments that begin a page."""
    header = re.match(r"(#.*\n)*", text)
    assert header
    joined = re.sub(r"\\\n#\s*", " ", header[0])
    found = re.findall(r"\bpython run\.py\b(.*)", joined)
    return [shlex.split(arguments, comments=True) for arguments in found]


def combinations(overrides: list[str]) -> list[list[str]]:
    """A multirun's choices side by side: each page occurs once, of plain values only the last."""
    options = []
    for override in overrides:
        key, equals, value = override.partition("=")
        values = [value] if set("[{") & set(value) else value.split(",")
        chosen = values if override.startswith(CHOICES) else values[-1:]
        options.append([f"{key}{equals}{v}" for v in chosen])
    rows = zip_longest(*options)
    return [[v or o[-1] for v, o in zip(row, options, strict=True)] for row in rows]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_commands_in_the_header_parse(experiment: str, composed: Compose) -> None:
    text = (run.CONF / "experiment" / f"{experiment}.yaml").read_text()
    if re.search(r"^# draft", text, flags=re.M):
        pytest.skip("a draft, without commands yet")
    found = commands(text)
    assert any(f"experiment={experiment}" in arguments for arguments in found)
    seen: set[str] = set()
    for arguments in found:
        overrides = [a for a in arguments if not a.startswith(("-", *OF_SWEEPS)) and a != "job"]
        several = {"-m", "--multirun"} & set(arguments)
        for combination in combinations(overrides) if several else [overrides]:
            pages = [o for o in combination if o.startswith(CHOICES)]
            values = [o for o in combination if not o.startswith(CHOICES)]
            # a plain value that composed once with this page need not do so again: time
            new = [v for v in values if v not in seen or v.startswith("optimizer.")]
            seen.update(values)
            chosen = next(page for page in pages if page.startswith("experiment="))
            assert f"experiment={composed(*pages, *new).experiment}" == chosen


def tree(folder: Path, data: dict[str, Any]) -> dict[str, str]:
    """Empty files where the data of a page should be; the settings that say so."""
    kind = data["_target_"].rpartition(".")[2]
    files = [f"{split}/n01440764/n01440764_1.JPEG" for split in ("train", "val")]
    if kind == "TextFiles":
        files = ["train/1.txt", "validation/1.txt"]
    elif kind == "GlueFiles":
        files = [f"{task.folder}/{split}.tsv" for task in TASKS.values() for split in GLUE_SPLITS]
    elif kind == "ImageTextPairs":
        files = expand_range(data["train_split"])
    for name in [*files, "tokenizer"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    given = {"root": str(folder)}
    if "tokenizer_file" in data:
        digest = hashlib.sha256(b"").hexdigest()
        given |= {"tokenizer_file": str(folder / "tokenizer"), "tokenizer_sha256": digest}
    return given


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_first_command_in_the_header_runs_as_far_as_its_data_allow(
    experiment: str, tmp_path: Path
) -> None:
    """A proxy trains a step; of the paper's pages the data are checked, in a tree of its shape."""
    text = (run.CONF / "experiment" / f"{experiment}.yaml").read_text()
    arguments = next(found for found in commands(text) if "-m" not in found)
    short = ["train.steps=1", "train.epochs=null", "launch.progress=false", "launch.device=cpu"]
    if experiment == "diffusion_proxy":
        short.append("task.judge.sampling.quick.num_steps=2")  # of 20
    config = run.compose([*arguments, *short, f"results_dir={tmp_path}"])
    if root := config.data.get("root"):
        assert root.startswith("/data/")
        with pytest.raises(UserError, match=f"data.root={root}"):
            bare = {k: v for k, v in config.data.items() if k != "tokenizer_sha256"}
            locate.check_section(bare, proxy=proxy_of(experiment))
        if root == "/data/imagenet" or "tokenizer_file" in config.data:
            there = tree(tmp_path, config.data)
            locate.check_section({**config.data, **there}, proxy=proxy_of(experiment))
        return
    try:
        assert run.run_job(config) == 0
    except UserError as error:
        if "data.root" not in str(error):
            raise
        pytest.skip(f"not on this machine: {error}")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_demo_in_a_header_knows_the_experiment(experiment: str) -> None:
    text = (run.CONF / "experiment" / f"{experiment}.yaml").read_text()
    sys.path.insert(0, str(run.CONF.parent / "scripts"))
    try:
        import demo
    finally:
        del sys.path[0]
    for name in re.findall(r"scripts/demo\.py --experiment (\S+)", text):
        assert name == experiment and name in demo.LEARNING_RATES


def test_commands_are_found_across_lines_and_multiruns_are_taken_apart() -> None:
    text = "# python run.py -m a=1,2 \\\n#   b=[3,4]  # why\n# python run.py --cfg job\nx: 1\n"
    assert commands(text) == [["-m", "a=1,2", "b=[3,4]"], ["--cfg", "job"]]
    side_by_side = combinations(["optimizer=x,y", "b=[3,4]", "seed=0,1"])
    assert side_by_side == [[f"optimizer={o}", "b=[3,4]", "seed=1"] for o in "xy"]


def task_of(experiment: str) -> str:
    """Its page of conf/task; text to image is learnt by diffusion."""
    found = [e["/task"] for e in load(f"experiment/{experiment}")["defaults"] if "/task" in e]
    return found[0].replace("text_to_image", "diffusion")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_proxy_that_is_proposed_learns_the_same(experiment: str) -> None:
    proposed = proxy_of(experiment)
    assert load(f"experiment/{proposed}")["scale"] == "proxy"
    if load(f"experiment/{experiment}").get("scale") != "proxy":
        assert task_of(proposed) == task_of(experiment)
