"""The ImageNet pages and their recipes hold the paper's numbers: results/paper/*.csv."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

import run
from experiments.config import RunConfig

ROOT = Path(__file__).resolve().parents[2]
Compose = Callable[..., RunConfig]
Row = dict[str, str]

PAGE_OF = {
    "ResNet-50": "resnet50_imagenet",
    "Mixer-S/16": "mixer_s16_imagenet",
    "Mixer-B/16": "mixer_b16_imagenet",
    "ViT-S/16": "vit_s16_imagenet",
    "ViT-B/16": "vit_b16_imagenet",
    "CoAtNet-1": "coatnet1_imagenet",
    "CoAtNet-3": "coatnet3_imagenet",
}
RECIPE_OF = {  # (version, optimizer) in the tables -> pages that may hold the row, first one first
    ("neurips", "AdamW"): ["adamw"],
    ("neurips", "Lion"): ["lion"],
    ("hero-lion", "AdamW"): ["adamw_early", "adamw"],  # where the early paper says the same
    ("hero-lion", "Lion"): ["hero_lion"],
}
METRICS = ("imagenet_top1", "real_top1", "v2_top1")


def read(name: str) -> list[Row]:
    with open(run.CONF.parent / "results" / "paper" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


HYPERPARAMETERS = [r for r in read("hyperparameters") if r["group"] == "scratch ImageNet"]
ACCURACIES = [r for r in read("imagenet_from_scratch") if r["setting"] == "scratch_imagenet1k"]
SETUP = {(r["experiment"], r["quantity"]): r["value"] for r in read("training_setup")}


def page_of(model: str, augmented: bool) -> str:
    return PAGE_OF[model] + ("_aug" if augmented and model.startswith("ViT") else "")


def recipe_of(row: Row) -> str:
    experiment = page_of(row["model"], bool(row["randaug_layers"]))
    pages = [f"{experiment}/{p}" for p in RECIPE_OF[row["version"], row["optimizer"]]]
    there = [p for p in pages if (run.CONF / "recipe" / f"{p}.yaml").exists()]
    assert there, f"no recipe for {row['version']} {row['model']} {row['optimizer']}: {pages}"
    return there[0]


def number(text: str) -> float:
    return float(text or 0)


@pytest.mark.parametrize(
    "row",
    HYPERPARAMETERS,
    ids=lambda r: f"{r['version']}-{r['model']}-{r['randaug_layers'] or 0}-{r['optimizer']}",
)
def test_row_of_the_hyperparameter_table_is_what_its_recipe_trains_with(
    row: Row, composed: Compose
) -> None:
    recipe = recipe_of(row)
    experiment, _, page = recipe.partition("/")
    optimizer = "adamw" if row["optimizer"] == "AdamW" else page
    default = [f"experiment={experiment}", f"optimizer={optimizer}"]
    config = composed(*default, *([] if page == optimizer else [f"recipe={recipe}"]))

    assert config.optimizer["lr"] == float(row["lr"])
    assert config.optimizer["weight_decay"] == float(row["weight_decay"])
    assert config.optimizer["betas"] == [float(row["beta1"]), float(row["beta2"])]
    product = config.optimizer["lr"] * config.optimizer["weight_decay"]
    assert product == pytest.approx(float(row["effective_wd"]))

    model, task = config.model, config.task
    assert model.get("pos_drop_rate", 0.0) == number(row["dropout"])
    assert model.get("proj_drop_rate", 0.0) == number(row["dropout"])
    assert model.get("drop_path_rate", 0.0) == number(row["stoch_depth"])
    assert task["randaug_layers"] == number(row["randaug_layers"])
    assert task["randaug_magnitude"] == number(row["randaug_magnitude"])
    assert task["mixup_alpha"] == number(row["mixup"])
    assert task["cutmix_alpha"] == 0

    early = row["version"] == "hero-lion" and page in ("hero_lion", "adamw_early")
    assert ("hero-lion" if early else "neurips") in config.provenance.source


def test_every_recipe_stands_in_the_table_except_the_sgd_that_the_paper_leaves_out() -> None:
    folders = {page_of(r["model"], bool(r["randaug_layers"])) for r in HYPERPARAMETERS}
    files = {
        f"{folder}/{path.stem}"
        for folder in folders
        for path in (run.CONF / "recipe" / folder).glob("*.yaml")
    }
    assert files - {recipe_of(row) for row in HYPERPARAMETERS} == {"resnet50_imagenet/sgd"}


def test_settings_that_no_source_gives_are_marked_as_assumed(composed: Compose) -> None:
    sgd = composed("experiment=resnet50_imagenet", "optimizer=sgd")
    assert sgd.provenance.assumed
    early = composed("experiment=vit_b16_imagenet_aug", "optimizer=hero_lion")
    assert any("span" in entry for entry in early.provenance.assumed)


@pytest.mark.parametrize("model", PAGE_OF)
def test_length_batch_and_warmup_are_those_of_the_text(model: str, composed: Compose) -> None:
    which = "ResNet-50" if model == "ResNet-50" else "all but ResNet"
    warmup = re.search(r"cosine decay, (\d+)K warmup", SETUP["all tasks (default)", "lr schedule"])
    assert warmup
    for augmented in {bool(r["randaug_layers"]) for r in HYPERPARAMETERS if r["model"] == model}:
        config = composed(f"experiment={page_of(model, augmented)}", "optimizer=lion")
        assert config.scale == "paper" and config.stands_for == ""
        assert config.train.epochs == float(SETUP[f"scratch ImageNet, {which}", "epochs"])
        assert config.train.batch_size == int(SETUP[f"scratch ImageNet, {which}", "batch size"])
        assert config.schedule.name == "cosine"
        assert config.schedule.warmup_steps == 1000 * int(warmup[1])
        assert config.provenance.experiment_source and config.provenance.experiment_assumed
        assert config.train.micro_batch_size is not None
        assert config.train.batch_size % (8 * config.train.micro_batch_size) == 0  # on 8 GPUs


def header_rows(experiment: str) -> dict[str, list[float | None]]:
    """Label to ImageNet, ReaL and V2 accuracy, from lines as `#   AdamW  80.12  85.46  68.14`."""
    text = (run.CONF / "experiment" / f"{experiment}.yaml").read_text()
    value = r" +([\d.]+|-)"
    lines = re.findall(rf"^#   (\w\S*(?: \S+)*?) {value * 3}$", text, re.M)
    return {line[0]: [None if v == "-" else float(v) for v in line[1:]] for line in lines}


@pytest.mark.parametrize(
    "experiment", sorted({page_of(r["model"], r["randaug_mixup"] == "yes") for r in ACCURACIES})
)
def test_targets_in_the_header_are_the_accuracies_of_the_paper(experiment: str) -> None:
    paper: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in ACCURACIES:
        if page_of(row["model"], row["randaug_mixup"] == "yes") == experiment:
            paper[row["version"], row["optimizer"]][row["metric"]] = float(row["value"])
    label = {"SGD (momentum)": "SGD", "AdamW": "AdamW", "Lion": "Lion"}
    early = {"AdamW": "AdamW, early paper", "Lion": "Hero-Lion, early paper"}
    shown = header_rows(experiment)
    text = (run.CONF / "experiment" / f"{experiment}.yaml").read_text()
    for (version, optimizer), values in paper.items():
        expected = [values.get(metric) for metric in METRICS]
        if version == "neurips":
            assert shown[label[optimizer]] == expected
        elif early.get(optimizer) in shown:
            assert shown[early[optimizer]] == expected
        elif expected != [paper["neurips", optimizer].get(metric) for metric in METRICS]:
            assert all(f"{v:.2f}" in text for v in expected if v is not None)
        else:
            assert "gives the same numbers" in text


LARGE = sorted(
    path.parent.name
    for path in (ROOT / "conf/recipe").glob("*/adafactor.yaml")
    if not path.parent.name.endswith("_proxy")
)


@pytest.mark.parametrize("page", LARGE)
def test_beside_adafactor_lions_momentum_is_as_lean(composed: Compose, page: str) -> None:
    """The paper keeps both in bfloat16 (section 4)."""
    kept = [
        composed(f"experiment={page}", f"optimizer={name}").optimizer["momentum_dtype"]
        for name in ("adafactor", "lion")
    ]
    assert kept == ["bfloat16", "bfloat16"]
