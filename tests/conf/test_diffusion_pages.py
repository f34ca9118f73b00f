"""The diffusion pages hold the paper's numbers: results/paper/*.csv; models by their counts."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable

import pytest
import torch

import run
from experiments.build import build
from experiments.config import RunConfig
from experiments.diffusion import sampler

Compose = Callable[..., RunConfig]
Row = dict[str, str]

PARAMS = {64: "295.90", 128: "421.53", 256: "553.84"}  # arXiv:2105.05233: 296, 422, 554
OPTIMIZERS = {"AdamW": "adamw", "Lion": "lion"}


def read(name: str) -> list[Row]:
    with open(run.CONF.parent / "results/paper" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def page(name: str) -> str:
    return (run.CONF / "experiment" / f"{name}.yaml").read_text()


HYPERPARAMETERS = [
    r
    for r in read("hyperparameters")
    if r["version"] == "neurips" and r["model"] == "ImageNet generation (improved U-Net)"
]
SETUP = {(r["experiment"], r["quantity"]): r["value"] for r in read("training_setup")}


@pytest.mark.parametrize(
    "row", HYPERPARAMETERS, ids=lambda r: f"{r['resolution']}-{r['optimizer']}"
)
def test_recipes_and_dropout_are_those_of_the_table(row: Row, composed: Compose) -> None:
    px = row["resolution"].split("x")[0]
    optimizer = OPTIMIZERS[row["optimizer"]]
    config = composed(f"experiment=diffusion_imagenet{px}", f"optimizer={optimizer}")
    assert config.optimizer["lr"] == float(row["lr"])
    assert config.optimizer["weight_decay"] == float(row["weight_decay"])
    assert config.optimizer["betas"] == [float(row["beta1"]), float(row["beta2"])]
    product = config.optimizer["lr"] * config.optimizer["weight_decay"]
    assert product == pytest.approx(float(row["effective_wd"]))
    assert config.model["dropout"] == float(row["dropout"])
    text = (run.CONF / f"recipe/diffusion_imagenet{px}/{optimizer}.yaml").read_text()
    assert f"lr x weight_decay = {float(row['effective_wd']):.0e}".replace("e-06", "e-6") in text


@pytest.mark.parametrize("px", PARAMS)
def test_page_has_the_setup_and_the_targets_of_the_paper(px: int, composed: Compose) -> None:
    config, text = (
        composed(f"experiment=diffusion_imagenet{px}", "optimizer=lion"),
        page(f"diffusion_imagenet{px}"),
    )
    assert len(HYPERPARAMETERS) == 6
    assert config.train.batch_size == int(SETUP["ImageNet diffusion", "batch size"])
    assert config.schedule.name == SETUP["ImageNet diffusion", "lr schedule"]
    assert SETUP["ImageNet diffusion", "sampler"] == "DDPM, 1000 steps, no guidance"
    paper = sampler.read("paper", config.task["judge"]["sampling"]["paper"], 1000)
    assert (paper.sampler, paper.num_steps, paper.guidance, paper.when) == (
        "ddpm",
        1000,
        1.0,
        "asked",
    )
    assert sampler.name_of(paper) == "50k_ddpm1000"
    curves = [r for r in read("diffusion_fid_curves") if r["resolution"] == f"{px}x{px}"]
    assert config.train.steps == max(int(r["step"]) for r in curves)
    for name in OPTIMIZERS:
        mine = sorted((int(r["step"]), float(r["fid"])) for r in curves if r["optimizer"] == name)
        best = min(value for _, value in mine)
        line = re.search(rf"#   {name} +([\d.]+) at (\d+)K, best ([\d.]+)", text)
        assert line is not None
        assert (int(line[2]) * 1000, float(line[1])) == (
            mine[-1][0],
            pytest.approx(mine[-1][1], abs=0.005),
        )
        assert float(line[3]) == pytest.approx(best, abs=0.006)


@pytest.mark.parametrize("px", PARAMS)
def test_model_has_the_published_count(px: int, composed: Compose) -> None:
    config = composed(f"experiment=diffusion_imagenet{px}", "optimizer=lion")
    with torch.device("meta"):
        model = build(config.model, "model")
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}" == PARAMS[px]
    assert f"({PARAMS[px]} M parameters)" in page(f"diffusion_imagenet{px}")
    assert config.data["input_size"] == config.model["sample_size"] == px
    assert config.model["out_channels"] == 6 and config.task["learned_variance"]


@pytest.mark.parametrize("px", PARAMS)
def test_cost_of_the_header_is_its_own_formula(px: int, composed: Compose) -> None:
    text, steps = (
        page(f"diffusion_imagenet{px}"),
        composed(f"experiment=diffusion_imagenet{px}", "optimizer=lion").train.steps,
    )
    found = re.search(r"([\d,]+) A100-hours a run = 3 x ([\d,]+) GFLOP.*?; (\d+) more", text, re.S)
    assert found is not None and steps is not None
    hours, gflop, fid = (float(x.replace(",", "")) for x in found.groups())
    rate = 0.4 * 312e12 * 3600
    assert hours == pytest.approx(3 * gflop * 1e9 * 2048 * steps / rate, rel=0.02)
    assert fid == pytest.approx(gflop * 1e9 * 50_000 * 1000 / rate, rel=0.03)


def test_256_page_states_the_claim_of_the_paper() -> None:
    (claim,) = [r for r in read("claims") if r[next(iter(r))] == "C021"]
    assert "440K of 1M" in " ".join(claim.values()) and "440K of 1M steps" in page(
        "diffusion_imagenet256"
    )


IMAGEN = {  # page: (model in the curves, millions of parameters, side)
    "imagen_base64": ("base_64", "371.6", 64),
    "imagen_sr256": ("superres_64to256", "556.5", 256),
}


@pytest.mark.parametrize("name", IMAGEN)
def test_imagen_has_the_numbers_of_the_paper(name: str, composed: Compose) -> None:
    curve, count, px = IMAGEN[name]
    text = page(name)
    rows = [r for r in read("hyperparameters") if r["model"] == "Imagen base & super-resolution"]
    assert len(rows) == 2
    for row in rows:
        config = composed(f"experiment={name}", f"optimizer={OPTIMIZERS[row['optimizer']]}")
        assert config.optimizer["lr"] == float(row["lr"])
        assert config.optimizer["weight_decay"] == float(row["weight_decay"] or 0)
        assert config.optimizer["betas"] == [float(row["beta1"]), float(row["beta2"])]
    setup = {quantity: value for (group, quantity), value in SETUP.items() if group == "Imagen"}
    assert config.train.batch_size == int(setup["batch size"])
    assert config.schedule.name == setup["lr schedule"]
    quick = sampler.read("quick", config.task["judge"]["sampling"]["quick"], 1000)
    assert quick.guidance == float(setup["classifier-free guidance weight"])
    assert f"{quick.num_samples // 1000}K MSCOCO" in setup["evaluation samples during training"]
    curves = [r for r in read("imagen_curves") if r["model"] == curve]
    assert config.train.steps == max(int(r["step"]) for r in curves)
    for optimizer in OPTIMIZERS:
        line = re.search(rf"#   {optimizer} +([.\d]+) +([.\d]+)\n", text)
        assert line is not None
        for metric, said, close in (("clip_score", line[1], 6e-5), ("fid30k", line[2], 0.06)):
            mine = [r for r in curves if (r["metric"], r["optimizer"]) == (metric, optimizer)]
            last = max(mine, key=lambda r: int(r["step"]))
            assert float(said) == pytest.approx(float(last["value"]), abs=close)


@pytest.mark.parametrize("name", IMAGEN)
def test_imagen_models_have_the_count_that_their_pages_say(name: str, composed: Compose) -> None:
    _, count, px = IMAGEN[name]
    config = composed(f"experiment={name}", "optimizer=lion")
    with torch.device("meta"):
        model = build(config.model, "model")
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}" == count
    assert f"({count} M parameters)" in page(name)
    assert config.model["sample_size"] == config.data["input_size"] == px
    assert bool(config.model.get("super_resolution")) == (config.task["low_resolution"] is not None)
