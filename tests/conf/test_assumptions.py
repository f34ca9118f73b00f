"""Pages of the paper's size name each choice that the paper leaves open, as they have it."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import yaml

import run
from experiments.config import RunConfig

IMAGES = ("area", "flip", "pixels", "clipping", "no decay|weight decay|decay on", "bf16|momentum")
SAID: dict[str, tuple[str, ...]] = {  # what a page's name ends in: what it must speak of
    ".*_from_.*": (
        *(*IMAGES, "evaluation on", "warm-up", "final lr", "softmax", "label smoothing"),
        *("new head", "stochastic depth"),
    ),
    "_imagenet(_aug)?": (
        *(*IMAGES, "evaluation on", "training images", "softmax", "label smoothing", "final lr"),
        "averaging",
    ),
    "_(imagenet21k|jft300m|jft300m_14ep|jft3b|jft5b)": (
        *(*IMAGES, "sigmoid|softmax", "held out and evaluated", "RandAug", "head|hidden layer"),
        "final lr|cool-down|to 0",
    ),
    "(lit_.*|basic_l)": (
        *("CC12M", "steps", "to 0", "tower", "mean over the tokens", "logits begin", "clipping"),
        *("square", "dropout", "decay", "sentences", "bf16"),
    ),
    "diffusion_imagenet.*": (
        *("class-conditional", "size", "noise", "averaged", "warm-up", "centre crop", "clipping"),
        *("no decay", "reference", "bf16"),
    ),
    "imagen_.*": (
        *("blocks", "captions", "noise", "threshold", "averaged", "weight decay", "clipping"),
        *("crop", "CLIP", "FID", "bf16"),
    ),
    "m?lm_.*_(wiki40b|pg19|c4)": (
        *("positions", "initialisation", "no dropout", "clipping", "decay to 0", "no decay"),
        *("documents", "validation part", "vocabulary", "bf16"),
    ),
    "llm_.*": (
        *("C4", "embeddings", "positions", "ReLU", "tokens a step", "final lr", "initialisation"),
        *("dropout", "clipping", "no decay", "documents", "vocabulary", "bf16"),
    ),
    "t5_.*_glue": ("mixture", "inputs", "greedy", "clipping", "weight decay", "bf16"),
}
FAMILY_OF = {
    page: next((family for family in SAID if re.fullmatch(f".*?{family}", page)), None)
    for page in sorted(path.stem for path in (run.CONF / "experiment").glob("*.yaml"))
    if not page.endswith("_proxy") and page != "fashion"
}


@cache
def load(page: str) -> dict[str, Any]:
    return yaml.safe_load((run.CONF / "experiment" / f"{page}.yaml").read_text())


def assumed(page: str) -> str:
    return "\n".join(load(page)["provenance"]["experiment_assumed"])


def test_every_page_of_the_papers_size_has_a_family() -> None:
    assert len(FAMILY_OF) == 52 and None not in FAMILY_OF.values()


@pytest.mark.parametrize("page", FAMILY_OF)
def test_what_the_paper_leaves_open_is_said(page: str) -> None:
    family = FAMILY_OF[page]
    assert family is not None
    silent = [topic for topic in SAID[family] if not re.search(topic, assumed(page))]
    assert not silent


@pytest.mark.parametrize("page", [p for p in FAMILY_OF if "of the area" in assumed(p)])
def test_the_crop_is_the_one_that_is_said(page: str) -> None:
    """TensorFlow's from 5 % of the area in Google's code of ViTs, Mixers and ResNets."""
    said = re.search(r"(\w+) crop \((\d+)-100 % of the area", assumed(page))
    task = load(page).get("task", {})
    crop = (task.get("train_crop", "random"), task.get("crop_scale_min", 0.08))
    assert said and (said[1].lower(), int(said[2])) == (crop[0], round(100 * crop[1]))
    assert crop == (("random", 0.08) if page.startswith("coatnet") else ("inception", 0.05))


def rows(name: str) -> list[dict[str, str]]:
    with open(run.CONF.parent / "results" / "paper" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


SETUP = {(r["experiment"], r["quantity"]): r["value"] for r in rows("training_setup")}
IN_THE_TABLE = [p for p in FAMILY_OF if "_from_" not in p and not p.startswith("coatnet7_")]


@pytest.mark.parametrize("page", FAMILY_OF)
def test_a_momentum_that_is_not_the_papers_is_said(
    page: str, composed: Callable[..., RunConfig]
) -> None:
    optimizer = "sgd" if "_from_" in page else "lion"
    config = composed(f"experiment={page}", f"optimizer={optimizer}")
    stored = SETUP["all tasks (default)", "momentum storage"]
    if config.optimizer.get("momentum_dtype") != stored:
        assert f"the paper: {stored} momentum" in assumed(page)


@pytest.mark.parametrize("page", FAMILY_OF)
def test_clipping_is_not_called_unmentioned(page: str) -> None:
    """The paper leaves it as a task has it, and does not tell how."""
    assert "clipping" in SETUP["all tasks", "schedule and clipping with Lion"]
    entries = [e for e in load(page)["provenance"]["experiment_assumed"] if "clipping at" not in e]
    for entry in (e for e in entries if "clipping" in e):
        assert "section 5" in entry and "clipping: not" not in entry


@pytest.mark.parametrize("page", IN_THE_TABLE)
def test_what_the_table_says_by_a_dash_is_not_called_unmentioned(page: str) -> None:
    """The table of hyper-parameters has columns of dropout, stochastic depth and augmentations."""
    for entry in load(page)["provenance"]["experiment_assumed"]:
        for part in entry.split("; "):
            if re.search("no (dropout|stochastic|RandAug|Mixup|augmentation)", part):
                assert "dash" in part and not re.search("not (mentioned|stated)", part)


@pytest.mark.parametrize("page", [p for p in FAMILY_OF if "jft300m" in p or "jft3b" in p])
def test_pages_of_jft_name_the_papers_that_are_followed(page: str) -> None:
    followed = re.findall(
        r"arXiv:([\d.]+)", SETUP["JFT pre-training and fine-tuning", "settings followed"]
    )
    named = [f for f in followed if re.search(rf"{f}\b", assumed(page))]
    assert named == followed if "_from_" in page else named[-1] == followed["jft3b" in page]
    assert re.search("the settings of|whose settings", assumed(page))
    assert not re.search("not for JFT|names no schedule", assumed(page))


@pytest.mark.parametrize(
    ("page", "table", "where"),
    [
        ("diffusion_imagenet64", "diffusion_fid_curves", {"resolution": "64x64"}),
        ("diffusion_imagenet128", "diffusion_fid_curves", {"resolution": "128x128"}),
        ("imagen_base64", "imagen_curves", {"model": "base_64"}),
        ("imagen_sr256", "imagen_curves", {"model": "superres_64to256"}),
    ],
)
def test_a_length_that_is_read_off_a_figure_is_said(
    page: str, table: str, where: dict[str, str]
) -> None:
    curve = [r for r in rows(table) if all(r[k] == v for k, v in where.items())]
    steps = max(int(r["step"]) for r in curve)
    assert load(page)["train"]["steps"] == steps
    assert f"{steps:,} steps: where the curve of the figure ends; not stated" in assumed(page)


def test_steps_of_an_epoch_are_said() -> None:
    """Ours has whole steps; the paper's on JFT cannot have: they are no multiple of its epochs."""
    jft = {(int(r["steps"]), int(r["epochs"])) for r in rows("jft") if r["epochs"]}
    assert len(jft) == 2 and all(steps % epochs for steps, epochs in jft)
    pages = [page for page in FAMILY_OF if load(page)["train"].get("epochs")]
    assert len(pages) == 9
    for page in pages:
        epochs, size = (load(page)["train"][key] for key in ("epochs", "batch_size"))
        ours, other = epochs * (1_281_167 // size), epochs * 1_281_167 // size
        text = " ".join(assumed(page).split())
        assert f"{ours:,} steps in all" in text and f"it may count {other:,}" in text


@pytest.mark.parametrize("page", [p for p in FAMILY_OF if load(p)["train"].get("ema_decay")])
def test_averaged_weights_decide(page: str) -> None:
    decided_by_task = page.startswith(("diffusion_", "imagen_"))  # whose headline is of these
    assert load(page)["eval"].get("weights") == (None if decided_by_task else "ema")


def test_images_of_an_epoch_follow_from_the_papers_steps() -> None:
    """No source at hand counts them."""
    said = {k: SETUP["ImageNet-21K pre-training", k] for k in ("steps", "epochs", "batch size")}
    steps = int(said["steps"].strip("~").replace("K", "000"))
    images = steps * int(said["batch size"]) / int(said["epochs"])
    for page in ("vit_b16_imagenet21k", "vit_l16_imagenet21k"):
        assert load(page)["train"]["steps"] == steps
        text = (run.CONF / "experiment" / f"{page}.yaml").read_text()
        found = re.search(r"of some ([\d.]+) million images", text)
        assert found and float(found[1]) == round(images / 1e6, 2)
