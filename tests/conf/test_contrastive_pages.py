"""The image-text pages hold the paper's numbers (results/paper/*.csv), and their models' sizes."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn

import run
from experiments.build import build
from experiments.config import RunConfig
from experiments.evaluations.prompts import read_prompts
from experiments.settings.contrastive import judge_of
from lion import param_groups

Compose = Callable[..., RunConfig]
Row = dict[str, str]

LIT = {  # page: model in lit.csv and in the table of hyperparameters
    "lit_b32_b": ("LiT-B/32-B", "LiT-B/*-B"),
    "lit_b16_b": ("LiT-B/16-B", "LiT-B/*-B"),
    "lit_g14_288_l": ("LiT-g/14-L", "LiT-g/14-L"),
}
PARAMS = {  # millions, and those of the towers
    "lit_b32_b": ("197.69", "87.46", "109.65"),
    "lit_b16_b": ("196.04", "85.80", "109.65"),
    "lit_g14_288_l": ("1373.19", "1036.65", "335.10"),
    "basic_l": ("3109.92", "2429.46", "669.97"),
    "coatnet7_jft5b": ("2506.02",),
    "coatnet7_imagenet_from_basic_l": ("2444.19",),
}
TWO_TOWERS = [page for page, sizes in PARAMS.items() if len(sizes) > 1]
A100_FLOPS_AN_HOUR = 0.4 * 312e12 * 3600


def read(name: str) -> list[Row]:
    with open(run.CONF.parent / "results/paper" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


SETUP = {(r["experiment"], r["quantity"]): r["value"] for r in read("training_setup")}


@cache
def header(page: str) -> str:
    found = re.match(r"(#.*\n)*", (run.CONF / "experiment" / f"{page}.yaml").read_text())
    assert found
    return found[0]


@pytest.fixture(scope="module")
def model_of(composed: Compose) -> Callable[[str], nn.Module]:
    @cache
    def make(page: str) -> nn.Module:
        if "TransformersTextTower" in str(composed(f"experiment={page}").model):
            pytest.importorskip("transformers")
        with torch.device("meta"):
            return build(composed(f"experiment={page}").model, "model")

    return make


def count(model: nn.Module) -> str:
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}"


@pytest.mark.parametrize("page", PARAMS)
def test_models_have_the_sizes_that_their_pages_say(
    page: str, model_of: Callable[[str], nn.Module]
) -> None:
    model: Any = model_of(page)
    whole, *towers = PARAMS[page]
    assert count(model) == whole and re.search(rf"\({whole} M\b", header(page))
    for tower, size in zip(("image", "text"), towers, strict=False):
        assert count(getattr(model, tower)) == size and f"{size} {tower}" in header(page)
    if page == "lit_b16_b":  # LiT's model card: 196 M
        assert float(whole) == pytest.approx(196, abs=0.5)
    if "coatnet7" in page or page == "basic_l":
        assert float(towers[0] if towers else whole) == pytest.approx(2440, rel=0.03)


@pytest.mark.parametrize("page", [*LIT, "basic_l"])
def test_recipes_are_the_rows_of_the_table(page: str, composed: Compose) -> None:
    model = LIT[page][1] if page in LIT else "BASIC-L"
    rows = [r for r in read("hyperparameters") if r["model"] == model and r["version"] == "neurips"]
    there = {path.stem for path in (run.CONF / "recipe" / page).glob("*.yaml")}
    assert there == {row["optimizer"].lower() for row in rows} and len(rows) == 2
    for row in rows:
        settings = composed(f"experiment={page}", f"optimizer={row['optimizer'].lower()}").optimizer
        assert settings["lr"] == float(row["lr"])
        assert settings["weight_decay"] == float(row["weight_decay"] or 0)
        keys = ("momentum", "beta2_cap") if row["optimizer"] == "Adafactor" else ("betas",)
        found = [settings[key] for key in keys]
        betas = [float(row["beta1"]), float(row["beta2"])]
        assert (found[0] if len(found) == 1 else found) == betas
        if row["effective_wd"]:
            product = settings["lr"] * settings["weight_decay"]
            assert product == pytest.approx(float(row["effective_wd"]))


@pytest.mark.parametrize("page", LIT)
def test_lit_has_the_length_and_the_targets_of_the_paper(page: str, composed: Compose) -> None:
    config = composed(f"experiment={page}", "optimizer=lion")
    batch = int(SETUP["LiT", "batch size"])
    pairs = float(SETUP["LiT", "image-text pairs seen"])
    assert config.train.batch_size == batch and config.train.steps == int(pairs / batch)
    assert config.param_groups.frozen == ["image.*"] and config.start_from["into"] == "image."
    sets = ("imagenet", "cifar100", "oxford_pet")
    for optimizer in ("AdamW", "Lion"):
        rows = {
            r["metric"].removesuffix("_zeroshot_top1"): float(r["value"])
            for r in read("lit")
            if (r["version"], r["model"], r["optimizer"]) == ("neurips", LIT[page][0], optimizer)
        }
        line = re.search(rf"^#   {optimizer} +([\d.]+) +([\d.]+) +([\d.]+)$", header(page), re.M)
        assert line and [float(x) for x in line.groups()] == [rows[s] for s in sets]
        early = {"AdamW": "AdafactorW", "Lion": "Lion"}[optimizer]
        assert rows == {
            r["metric"].removesuffix("_zeroshot_top1"): float(r["value"])
            for r in read("lit")
            if (r["version"], r["model"], r["optimizer"]) == ("hero-lion", LIT[page][0], early)
        }
    judged = config.task["judge"]
    assert set(judged["zero_shot"]) == {"imagenet", "cifar100", "pet"}
    assert set(judged["retrieval"]) == {"coco", "flickr30k"}


def test_lit_b16_states_the_recall_of_the_figure() -> None:
    rows = [r for r in read("retrieval_curves") if r["metric"] == "R@1" and r["step"] == "55000"]
    found = {(r["dataset"], r["direction"], r["optimizer"]): float(r["value"]) for r in rows}
    assert len(found) == 8
    for optimizer in ("AdamW", "Lion"):
        numbers = " +".join([r"([\d.]+)"] * 4)
        line = re.search(rf"^#   {optimizer} +{numbers}$", header("lit_b16_b"), re.M)
        assert line
        expected = [
            found[name, way, optimizer]
            for name in ("COCO", "Flickr30K")
            for way in ("img2txt", "txt2img")
        ]
        assert [float(x) for x in line.groups()] == pytest.approx(expected, abs=0.006)


def test_basic_l_has_the_batch_and_the_targets_of_the_paper(composed: Compose) -> None:
    config = composed("experiment=basic_l", "optimizer=lion")
    assert config.train.batch_size == int(SETUP["BASIC-L", "batch size"])
    assert "6.6 billion" in header("basic_l") and SETUP["BASIC-L", "image-text pairs"] == "6.6e9"
    sets = ("imagenet", "v2", "a", "r", "sketch", "objectnet")
    for optimizer in ("Adafactor", "Lion"):
        rows = {
            r["metric"]: float(r["value"])
            for r in read("basic")
            if (r["model"], r["optimizer"]) == ("BASIC-L", optimizer)
        }
        numbers = " +".join([r"([\d.]+)"] * 6)
        line = re.search(rf"^#   {optimizer} +{numbers}$", header("basic_l"), re.M)
        assert line and [float(x) for x in line.groups()] == [rows[f"zeroshot_{s}"] for s in sets]
        tuned = header("coatnet7_imagenet_from_basic_l")
        line = re.search(rf"^#   {optimizer} +([\d.]+)$", tuned, re.M)
        assert line and float(line[1]) == rows["finetune_imagenet"]


@pytest.mark.parametrize("page", [*LIT, "basic_l"])
def test_cost_of_the_header_is_its_own_formula(page: str, composed: Compose) -> None:
    """Of the image tower's own count of operations, and of 24 operations a weight of a text."""
    train, model = composed(f"experiment={page}").train, composed(f"experiment={page}").model
    numbers = re.search(
        r"Cost \(estimate\): ([\d,]+) A100-hours a run = (3 x )?\(([\d.]+) image \+ "
        r"(3 x )?([\d.]+) text\)",
        header(page),
    )
    assert numbers and train.steps
    hours, both, image, text_alone, text = numbers.groups()
    flops = 1e9 * ((3 if both else 1) * float(image) + 3 * float(text))
    assert bool(both) == (page == "basic_l") and bool(text_alone) != bool(both)
    expected = flops * train.batch_size * train.steps / A100_FLOPS_AN_HOUR
    assert float(hours.replace(",", "")) == pytest.approx(expected, rel=0.01)
    d, layers = model["text"]["hidden_size"], model["text"]["num_hidden_layers"]
    tokens = composed(f"experiment={page}").data["num_tokens"]
    one = layers * (24 * d**2 * tokens + 4 * tokens**2 * d)
    assert float(text) == pytest.approx(one / 1e9, abs=0.006)


@pytest.mark.parametrize("page", ["lit_b32_b", "coatnet7_jft5b", "coatnet7_imagenet_from_basic_l"])
def test_operations_of_the_image_models(
    page: str, composed: Compose, model_of: Callable[[str], nn.Module]
) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    config, model = composed(f"experiment={page}"), model_of(page)
    model = getattr(model, "image", model).eval()
    side = config.data["input_size"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, side, side, device="meta"))
    gflop = counter.get_total_flops() / 1e9
    if page == "lit_b32_b":
        assert f"({gflop:.2f} image" in header(page)
        return
    said = re.search(r"([\d,]+) A100-hours a run = 3 x ([\d,.]+) GFLOP forward", header(page))
    assert said and config.train.steps
    assert float(said[2].replace(",", "")) == pytest.approx(gflop, rel=1e-4)
    hours = 3e9 * gflop * config.train.batch_size * config.train.steps / A100_FLOPS_AN_HOUR
    assert float(said[1].replace(",", "")) == pytest.approx(hours, rel=0.01)


@pytest.mark.parametrize("page", PARAMS)
def test_a_page_can_be_trained_as_it_says(
    page: str, composed: Compose, model_of: Callable[[str], nn.Module]
) -> None:
    config = composed(f"experiment={page}")
    train, groups = config.train, config.param_groups
    assert config.provenance.experiment_assumed and config.provenance.experiment_source
    assert train.micro_batch_size and train.batch_size % (8 * train.micro_batch_size) == 0
    split = param_groups(model_of(page), 0.1, no_decay=groups.no_decay, frozen=groups.frozen)
    names = {id(p): name for name, p in model_of(page).named_parameters()}
    decayed = {names[id(p)] for p in split[0]["params"]}
    assert all(name.endswith("weight") for name in decayed)
    if page == "lit_g14_288_l":  # big_vision decays kernels only; the smaller ones do not decay
        assert not any("embedding" in name for name in decayed) and len(decayed) == 24 * 6 + 1
    for parameter in model_of(page).parameters():
        parameter.requires_grad_(True)


def test_the_towers_of_one_stage_fit_the_next(
    composed: Compose, model_of: Callable[[str], nn.Module]
) -> None:
    """What is neither taken nor left out would be an error at the first call."""
    chain = ("coatnet7_jft5b", "basic_l", "coatnet7_imagenet_from_basic_l")
    for before, after in zip(chain, chain[1:], strict=False):
        said = composed(f"experiment={after}").start_from
        into, take = said.get("into", ""), said.get("take", "")
        found = {
            into + n.removeprefix(take) for n in model_of(before).state_dict() if n.startswith(take)
        }
        own = {n for n in model_of(after).state_dict() if n.startswith(into)}

        def left(names: set[str], patterns: list[str] = said["leave_out"]) -> set[str]:
            return {n for n in names if not any(fnmatchcase(n, p) for p in patterns)}

        assert left(found) == left(own) and len(left(own)) > 500
        for pattern in said["leave_out"]:
            assert any(fnmatchcase(name, pattern) for name in found | own)


@pytest.mark.parametrize("page", LIT)
def test_the_run_that_a_header_names_gives_the_locked_tower(
    page: str, composed: Compose, model_of: Callable[[str], nn.Module]
) -> None:
    """All but the classes, and position embeddings, which are resized."""
    said = re.search(r"RUN_ID of\n# +(experiment=.*)\),\n", header(page))
    assert said
    with torch.device("meta"):
        before = build(composed(*said[1].split()).model, "model").state_dict()
    own: Any = model_of(page)
    tower = own.image.state_dict()
    assert {n for n in before if not n.startswith("head.")} == set(tower)
    assert {n for n in tower if tower[n].shape != before[n].shape} <= {"pos_embed"}
    data = SETUP["LiT", "image encoder"].split("on ")[1].split(",")[0]
    assert data in " ".join(composed(f"experiment={page}").provenance.experiment_assumed)


@pytest.mark.parametrize("page", TWO_TOWERS)
def test_sets_and_prompts_of_a_page_are_there(page: str, composed: Compose) -> None:
    judge = judge_of(dict(composed(f"experiment={page}").task["judge"]))
    assert judge.metric == "zero_shot_top1" and judge.tune == judge.report == "imagenet_val"
    for asked in judge.zero_shot.values():
        number = 1000 if asked.classes else 2
        prompts = read_prompts(asked.classes, asked.templates, number, ["cat", "dog"])
        assert len(prompts.classes) == number and prompts.templates[0] == "{}"
        source = build(asked.data, "data")
        assert source.input_size == composed(f"experiment={page}").data["input_size"]
        assert asked.data["root"] is None  # left out until it is given
    for asked in judge.retrieval.values():
        assert (
            build(asked.data, "data").input_size
            == composed(f"experiment={page}").data["input_size"]
        )


def test_imagenets_names_are_in_the_order_of_its_numbers() -> None:
    from timm.data.imagenet_info import ImageNetInfo

    info, names = (
        ImageNetInfo("imagenet-1k"),
        read_prompts("imagenet_classes", "photo_templates", 1000),
    )
    for number, name in enumerate(names.classes):
        theirs = info.index_to_description(number).split(",")[0]
        assert name == theirs or number in (134, 264, 517, 638, 639), number


@pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers")
def test_a_small_tower_of_transformers_encodes_and_ignores_padding() -> None:
    from experiments.models.text_towers import TransformersTextTower

    tower = TransformersTextTower(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=6,
    ).eval()  # fmt: skip
    assert not any("pooler" in name for name, _ in tower.named_parameters())
    short, padded = torch.tensor([[5, 6, 1]]), torch.tensor([[5, 6, 1, 0, 0]])
    torch.testing.assert_close(tower(short), tower(padded))
    assert tower(short).shape == (1, tower.num_features) == (1, 8)
