"""Pages of pre-training and fine-tuning hold the paper's numbers, and its models' sizes."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

import run
from experiments.build import build
from experiments.config import RunConfig, UserError
from experiments.start_from import check as check_source
from lion import param_groups

Compose = Callable[..., RunConfig]
Row = dict[str, str]

# page: (model and data of the hyperparameter table, millions of parameters)
PRETRAINING = {
    "vit_b16_imagenet21k": ("ViT-B/16", "ImageNet-21K", "102.60"),
    "vit_l16_imagenet21k": ("ViT-L/16", "ImageNet-21K", "325.69"),
    "vit_b16_jft300m": ("ViT-B/16", "JFT-300M", "102.60"),
    "vit_l16_jft300m": ("ViT-L/16", "JFT-300M", "325.69"),
    "vit_l16_jft300m_14ep": ("ViT-L/16", "JFT-300M", "325.69"),
    "vit_h14_jft300m": ("ViT-H/14", "JFT-300M", "658.75"),
    "vit_giant14_jft3b": ("ViT-g/14", "JFT-3B", "1067.23"),
    "vit_gigantic14_jft3b": ("ViT-G/14", "JFT-3B", "1917.50"),
}
OWN_CLASSES = {"JFT-300M": 18_291, "JFT-3B": 29_593}
"""Of the private sets; the first is recalled, the second big_vision's."""
# page: (model, pre-trained on, pixels, millions of parameters, epochs in the table)
FINE_TUNING = {
    "vit_b16_384_from_imagenet21k": ("ViT-B/16", "vit_b16_imagenet21k", 384, "86.86", ""),
    "vit_l16_384_from_imagenet21k": ("ViT-L/16", "vit_l16_imagenet21k", 384, "304.72", ""),
    "vit_b16_384_from_jft300m": ("ViT-B/16", "vit_b16_jft300m", 384, "86.86", "7"),
    "vit_l16_384_from_jft300m": ("ViT-L/16", "vit_l16_jft300m", 384, "304.72", "7"),
    "vit_l16_384_from_jft300m_14ep": ("ViT-L/16", "vit_l16_jft300m_14ep", 384, "304.72", "14"),
    "vit_h14_392_from_jft300m": ("ViT-H/14", "vit_h14_jft300m", 392, "632.72", "14"),
    "vit_l16_512_from_jft300m": ("ViT-L/16", "vit_l16_jft300m_14ep", 512, "305.17", ""),
    "vit_h14_518_from_jft300m": ("ViT-H/14", "vit_h14_jft300m", 518, "633.47", ""),
    "vit_giant14_518_from_jft3b": ("ViT-g/14", "vit_giant14_jft3b", 518, "1039.42", ""),
    "vit_gigantic14_518_from_jft3b": ("ViT-G/14", "vit_gigantic14_jft3b", 518, "1884.65", ""),
}
RATE = 0.4 * 312e12
METRICS = ("imagenet_top1", "real_top1", "v2_top1", "imagenet_a_top1", "imagenet_r_top1")
VARIANTS = {
    "": "",
    "last checkpoint": ", last",
    "oracle checkpoint (fine-tuning overfits)": ", best",
    "from prior work (Zhai et al.)": ", by Zhai et al.",
}


def read(name: str) -> list[Row]:
    with open(run.CONF.parent / "results" / "paper" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


SETUP = {(r["experiment"], r["quantity"]): r["value"] for r in read("training_setup")}


@cache
def header(page: str) -> str:
    found = re.match(r"(#.*\n)*", (run.CONF / "experiment" / f"{page}.yaml").read_text())
    assert found
    return re.sub(r"\n# (?=\S)", " ", found[0])


@cache
def size_and_flops(model: str, **changes: Any) -> tuple[str, float]:
    """Millions of parameters, GFLOP of a forward pass of one image."""
    from torch.utils.flop_counter import FlopCounterMode

    section: dict[str, Any] = {**json.loads(model), **changes}
    px = section.get("img_size", 224)
    section["activation_checkpointing"] = False
    with torch.device("meta"):
        made = build(section, "model").eval()
    with FlopCounterMode(display=False) as counter:
        made(torch.empty(1, 3, px, px, device="meta"))
    number = sum(p.numel() for p in made.parameters())
    return f"{number / 1e6:.2f}", counter.get_total_flops() / 1e9


def measured(config: RunConfig, **changes: Any) -> tuple[str, float]:
    return size_and_flops(json.dumps(config.model, sort_keys=True), **changes)


def table_rows(page: str) -> dict[str, Row]:
    model, data, _ = PRETRAINING[page]
    name = "ViT-g/14 & ViT-G/14" if data == "JFT-3B" else model
    rows = [r for r in read("hyperparameters") if r["group"] == f"pre-train {data}"]
    found = [r for r in rows if (r["model"], r["version"]) == (name, "neurips")]
    return {row["optimizer"].lower(): row for row in found}


@pytest.mark.parametrize("page", PRETRAINING)
def test_recipes_of_pretraining_are_those_of_the_table(page: str, composed: Compose) -> None:
    rows = table_rows(page)
    assert {p.stem for p in (run.CONF / "recipe" / page).glob("*.yaml")} == set(rows)
    assert len(rows) == 2
    for optimizer, row in rows.items():
        config = composed(f"experiment={page}", f"optimizer={optimizer}")
        settings = config.optimizer
        assert settings["lr"] == float(row["lr"])
        assert settings["weight_decay"] == float(row["weight_decay"])
        product = settings["lr"] * settings["weight_decay"]
        assert product == pytest.approx(float(row["effective_wd"]))
        betas = settings.get("betas") or [settings["momentum"], settings["beta2_cap"]]
        assert betas == [float(row["beta1"]), float(row["beta2"])]
        said = (run.CONF / f"recipe/{page}/{optimizer}.yaml").read_text()
        shown = re.search(r"lr x weight_decay = (\S+)\.\n", said)
        assert shown and float(shown[1]) == float(row["effective_wd"])
        for key, column in (
            ("pos_drop_rate", "dropout"),
            ("proj_drop_rate", "dropout"),
            ("drop_path_rate", "stoch_depth"),
        ):
            assert config.model.get(key, 0.0) == float(row[column] or 0)
        assert not row["randaug_layers"] and config.task["randaug_layers"] == 0


@pytest.mark.parametrize("page", PRETRAINING)
def test_length_batch_and_data_of_pretraining(page: str, composed: Compose) -> None:
    config = composed(f"experiment={page}", "optimizer=lion")
    _, data, _ = PRETRAINING[page]
    train, schedule = config.train, config.schedule
    assert config.provenance.experiment_source and config.provenance.experiment_assumed
    assert train.micro_batch_size and train.batch_size % (8 * train.micro_batch_size) == 0
    assert schedule.warmup_steps == 10_000
    assert config.task["loss"] == ("softmax" if data == "ImageNet-21K" else "sigmoid")
    assert config.model.get("head_bias", 0.0) == (0.0 if data == "ImageNet-21K" else -10.0)
    if data == "ImageNet-21K":
        assert train.batch_size == int(SETUP["ImageNet-21K pre-training", "batch size"])
        assert SETUP["ImageNet-21K pre-training", "steps"] == f"~{(train.steps or 0) // 1000}K"
        epochs = SETUP["ImageNet-21K pre-training", "epochs"]
        assert f", {epochs} epochs." in header(page)
        assert config.data["name"] == "imagenet21k"
    elif data == "JFT-300M":
        steps = {r["steps"] for r in read("jft") if r["epochs"] == (epochs_of(page))}
        assert steps == {str(train.steps)}
        assert SETUP["JFT-300M pre-training", f"steps ({epochs_of(page)} epochs)"] in steps
        assert f", {epochs_of(page)} epochs." in header(page)
    else:
        assert (train.steps, train.batch_size, train.grad_clip_norm) == (10**6, 4 * 4096, 1.0)
        found = (schedule.name, schedule.timescale, schedule.cooldown_steps)
        assert found == ("rsqrt", 10_000, 50_000)
        assert config.param_groups.decay_multipliers == {"head.*": 100.0}
    if data != "ImageNet-21K":
        name = f"imagenet21k_for_{data.lower().replace('-', '')}"
        assert config.data["name"] == name and f"as {name} in" in header(page)
        assert any(name in entry for entry in config.provenance.experiment_assumed)
        assert schedule.name == ("rsqrt" if data == "JFT-3B" else "cosine")


def epochs_of(page: str) -> str:
    return "14" if page.endswith("14ep") or "_h14_" in page else "7"


@pytest.mark.parametrize("page", PRETRAINING)
def test_size_cost_and_memory_of_pretraining(page: str, composed: Compose) -> None:
    config = composed(f"experiment={page}", "optimizer=lion")
    model, data, count = PRETRAINING[page]
    size, flops = measured(config)
    text = header(page)
    assert size == count and f"{model} ({count} M parameters)" in text
    if data in OWN_CLASSES:
        own, _ = measured(config, num_classes=OWN_CLASSES[data])
        assert f"{OWN_CLASSES[data]:,} classes of {data} the model has {own} M parameters" in text
    assert config.train.steps is not None
    images = config.train.steps * config.train.batch_size
    said = re.search(
        r"Cost \(estimate\): ([\d,.]+) A100-hours a run = 3 x ([\d,.]+) GFLOP forward x "
        r"([\d,]+) images x ([\d,]+) steps",
        text,
    )
    assert said
    hours, gflop, batch, steps = (float(x.replace(",", "")) for x in said.groups())
    assert (batch, steps) == (config.train.batch_size, config.train.steps)
    assert gflop == pytest.approx(flops, abs=0.01)
    assert hours == pytest.approx(3e9 * flops * images / RATE / 3600, rel=0.01)
    memory = re.search(r"Memory \(estimate\): ([\d.]+) GB .* with (\w+), ([\d.]+) with Lion", text)
    assert memory
    per_weight = {"AdamW": 16, "Adafactor": 10}[memory[2]]
    assert float(memory[1]) == pytest.approx(float(count) * per_weight / 1000, abs=0.06)
    assert float(memory[3]) == pytest.approx(float(count) * 12 / 1000, abs=0.06)
    if data == "JFT-300M":  # the paper's figure, digitised
        exaflops = 3 * measured(config, num_classes=OWN_CLASSES[data])[1] * images / 1e9
        label = f"{model}, {epochs_of(page)} epochs"
        theirs = {float(r["pretrain_exaflops"]) for r in read("jft_compute") if label in r.values()}
        assert theirs and all(exaflops == pytest.approx(x, rel=0.02) for x in theirs)


@pytest.mark.parametrize("page", [*PRETRAINING, *FINE_TUNING])
def test_only_kernels_decay_and_the_head_as_much_as_it_should(page: str, composed: Compose) -> None:
    config = composed(f"experiment={page}", "optimizer=lion")
    with torch.device("meta"):
        model = build(config.model, "model")
    chosen = config.param_groups
    if page in FINE_TUNING:
        assert chosen == RunConfig().param_groups  # nothing decays
        return
    groups = param_groups(
        model, 0.1, no_decay=chosen.no_decay, decay_multipliers=chosen.decay_multipliers
    )
    names = {id(p): name for name, p in model.named_parameters()}
    found = {g["name"]: (g["weight_decay"], [names[id(p)] for p in g["params"]]) for g in groups}
    decayed = found["decay"][1] + found.get("decay x 100", (0, []))[1]
    assert all(name.endswith("weight") for name in decayed)
    assert not set(decayed) & set(model.no_weight_decay())  # type: ignore[operator]
    if "jft3b" in page:
        assert found["decay x 100"] == (pytest.approx(10.0), ["head.weight"])
        assert found["no_decay"][1][:1] == ["pos_embed"] and "attn_pool.latent" in names.values()


def accuracies(page: str) -> dict[str, dict[str, float]]:
    """Label in the header to metric to accuracy, of the later version of the paper."""
    model, pretraining, px, _, epochs = FINE_TUNING[page]
    data = PRETRAINING[pretraining][1]
    rows = read("imagenet21k") if data == "ImageNet-21K" else read("jft")
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        where = (row["version"], row["model"], row["resolution"], row.get("epochs", ""))
        if where == ("neurips", model, str(px), epochs):
            label = row["optimizer"] + VARIANTS[row.get("variant", "")]
            found.setdefault(label, {})[row["metric"]] = float(row["value"])
    return found


@pytest.mark.parametrize("page", FINE_TUNING)
def test_targets_and_settings_of_fine_tuning(page: str, composed: Compose) -> None:
    config = composed(f"experiment={page}", "optimizer=sgd")
    model, pretraining, px, count, _ = FINE_TUNING[page]
    raw = (run.CONF / "experiment" / f"{page}.yaml").read_text()
    paper = accuracies(page)
    assert len(paper) >= 2
    for label, values in paper.items():
        line = re.search(rf"^#   {re.escape(label)} {{2,}}([\d. -]+)$", raw, re.M)
        assert line, label
        columns = [m for m in METRICS if any(m in v for v in paper.values())]
        assert [float(x) for x in line[1].split()] == [values[m] for m in columns]
    size, flops = measured(config)
    assert size == count and f"{model} ({count} M parameters)" in header(page)
    assert config.data["input_size"] == config.model["img_size"] == px
    group = "ImageNet-21K fine-tuning"
    assert SETUP[group, "steps"] == f"{(config.train.steps or 0) // 1000}K"
    assert config.train.batch_size == int(SETUP[group, "batch size"])
    assert SETUP[group, "optimizer"] == "momentum SGD" and config.optimizer["momentum"] == 0.9
    warmup, schedule = re.match(r"(\d+), then (\w+)", SETUP[group, "warmup steps"]).groups()  # type: ignore[union-attr]
    assert (config.schedule.warmup_steps, config.schedule.name) == (int(warmup), schedule)
    is_averaged = {r["polyak"] for r in read("jft") if r["resolution"] == str(px)} == {"yes"}
    assert config.train.ema_decay == (0.9999 if is_averaged and px > 500 else None)
    assert config.eval.weights == ("ema" if config.train.ema_decay else None)
    said = re.search(r"\(estimate\): ([\d,.]+) A100-hours a run = 3 x ([\d,.]+) GF", header(page))
    assert said
    hours, gflop = (float(x.replace(",", "")) for x in said.groups())
    assert gflop == pytest.approx(flops, abs=0.01)
    assert hours == pytest.approx(3e9 * flops * 512 * 20_000 / RATE / 3600, rel=0.01)
    assert pretraining in raw and config.start_from["leave_out"] == ["head.*"]


@pytest.mark.parametrize("page", ["vit_b16_384_from_imagenet21k", "vit_giant14_518_from_jft3b"])
def test_fine_tuning_fits_what_the_page_before_it_trains(page: str, composed: Compose) -> None:
    """All that the pre-trained model has, but for its head, has a place; embeddings are resized."""
    before = composed(f"experiment={FINE_TUNING[page][1]}", "optimizer=lion")
    after = composed(f"experiment={page}", "optimizer=sgd")
    with torch.device("meta"):
        old, new = (build(c.model, "model").state_dict() for c in (before, after))
    assert set(old) == set(new)
    other = {n for n in new if old[n].shape != new[n].shape}
    assert other == {"head.weight", "head.bias", "pos_embed"}


def test_a_page_that_starts_from_weights_says_so_before_anything_is_read(composed: Compose) -> None:
    config = composed("experiment=vit_b16_384_from_imagenet21k", "optimizer=sgd")
    with pytest.raises(UserError, match="starts from weights: say start_from.source=, the id of"):
        check_source(config)
