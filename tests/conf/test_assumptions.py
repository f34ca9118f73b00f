"""Pages of the paper's size name each choice that the paper leaves open, as they have it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import yaml

import run

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
