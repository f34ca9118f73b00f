"""The full-size models of the ImageNet pages, built on the meta device: no weights, no data."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn

import run
from experiments.build import build
from experiments.config import RunConfig
from lion import param_groups

Compose = Callable[..., RunConfig]

PARAMS = {  # millions, arXiv:2302.06675 Table 2
    "resnet50_imagenet": "25.56",
    "mixer_s16_imagenet": "18.53",
    "mixer_b16_imagenet": "59.88",
    "vit_s16_imagenet": "22.05",
    "vit_s16_imagenet_aug": "22.05",
    "vit_b16_imagenet": "86.57",
    "vit_b16_imagenet_aug": "86.57",
    "coatnet1_imagenet": "42.23",
    "coatnet3_imagenet": "166.97",
}
TRAIN_IMAGES = 1_281_167
A100_FLOPS = 0.4 * 312e12  # bf16, at the utilisation that the headers assume


@pytest.fixture(scope="module")
def model_of(composed: Compose) -> Callable[[str], nn.Module]:
    @cache
    def make(experiment: str) -> nn.Module:
        with torch.device("meta"):
            return build(composed(f"experiment={experiment}", "optimizer=lion").model, "model")

    return make


@pytest.mark.parametrize("experiment", PARAMS)
def test_model_has_the_parameter_count_of_the_paper(
    experiment: str, model_of: Callable[[str], nn.Module]
) -> None:
    count = sum(p.numel() for p in model_of(experiment).parameters())
    text = (run.CONF / "experiment" / f"{experiment}.yaml").read_text()
    assert f"{count / 1e6:.2f}" == PARAMS[experiment]
    assert f"({PARAMS[experiment]} M parameters)" in text


@pytest.mark.parametrize("experiment", PARAMS)
def test_no_decay_patterns_of_the_page_take_what_timm_exempts(
    experiment: str, composed: Compose, model_of: Callable[[str], nn.Module]
) -> None:
    config, model = composed(f"experiment={experiment}", "optimizer=lion"), model_of(experiment)
    groups = param_groups(
        model,
        0.1,
        no_decay=config.param_groups.no_decay,
        no_decay_1d=config.param_groups.no_decay_1d,
    )
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = {names[id(p)] for p in groups[0]["params"]}
    exempt = getattr(model, "no_weight_decay", set)()
    assert groups[0]["name"] == "decay"
    assert not decayed & set(exempt)
    assert all(name.endswith("weight") for name in decayed)  # big_vision: kernels only


def test_imagenet_page_describes_the_data_before_it_is_there(composed: Compose) -> None:
    config = composed("experiment=vit_b16_imagenet", "optimizer=lion")
    source = build(config.data, "data")
    assert (source.num_train, source.num_classes) == (TRAIN_IMAGES, config.model["num_classes"])
    assert source.eval_groups == [["imagenet_val", "imagenet_real"]]


def test_vit_dropout_sits_where_google_has_it(model_of: Callable[[str], nn.Module]) -> None:
    modules = dict(model_of("vit_b16_imagenet").named_modules())
    active = {n for n, m in modules.items() if isinstance(m, nn.Dropout) and m.p == 0.1}
    places = ("attn.proj_drop", "mlp.drop1", "mlp.drop2")
    assert active == {"pos_drop"} | {f"blocks.{i}.{place}" for i in range(12) for place in places}
    augmented = model_of("vit_b16_imagenet_aug").modules()
    assert not any(m.p for m in augmented if isinstance(m, nn.Dropout))


@pytest.mark.parametrize(
    ("experiment", "first", "last"),
    [
        ("vit_b16_imagenet", 0.0, 0.1),
        ("mixer_b16_imagenet", 0.1, 0.1),  # timm's Mixer: the same in every block
        ("coatnet3_imagenet", 0.0, 0.7),
    ],
)
def test_stochastic_depth_rises_over_the_blocks_as_the_page_says(
    experiment: str, first: float, last: float, model_of: Callable[[str], nn.Module]
) -> None:
    drops = [m for m in model_of(experiment).modules() if type(m).__name__ == "DropPath"]
    rates = [float(m.drop_prob) for m in drops]  # pyright: ignore
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(last)
    assert rates[0] == pytest.approx(first, abs=0.04)  # a block at exactly 0 has no DropPath


@pytest.mark.parametrize("experiment", PARAMS)
def test_cost_in_the_header_follows_from_the_flops(
    experiment: str, composed: Compose, model_of: Callable[[str], nn.Module]
) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    text = (run.CONF / "experiment" / f"{experiment}.yaml").read_text()
    said = re.search(r"([\d.]+) A100-hours a run = 3 x ([\d.]+) GFLOP", text)
    assert said
    model = model_of(experiment).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    flops = counter.get_total_flops()
    epochs = composed(f"experiment={experiment}", "optimizer=lion").train.epochs
    assert epochs is not None
    hours = 3 * flops * TRAIN_IMAGES * epochs / A100_FLOPS / 3600
    assert float(said[2]) == pytest.approx(flops / 1e9, rel=5e-3)
    assert float(said[1]) == pytest.approx(hours, rel=2e-2)
