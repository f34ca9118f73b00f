"""Each page of conf/optimizer builds, steps, and lists every knob of its class."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import run
from experiments import schedule_free
from experiments.build import build, locate

OPTIMIZERS = sorted(path.stem for path in (run.CONF / "optimizer").glob("*.yaml"))
EXECUTION = {"maximize", "foreach", "fused", "capturable", "differentiable"}  # how, not what
OTHER_RULES = {  # knobs that make another rule; where it is wanted it has a page of its own
    "adamw": {"amsgrad"},
    "sgd": {"dampening"},
    "adabelief": {"degenerated_to_sgd"},  # only with rectify
    "adafactor": {"caution", "corrected_weight_decay"},
    "muon": {"adamw_lr", "verbose"},  # the first of old checkpoints
}
IN_THE_PAPER = {  # Tables 2 and 7 and the hyperparameter table
    *("adamw", "sgd", "lion", "hero_lion", "adafactor", "radam", "nadam", "adabelief"),
    *("amsgrad", "powersign", "addsign", "lion_single_beta"),
}


def load(optimizer: str) -> dict[str, Any]:
    plain = OmegaConf.to_container(OmegaConf.load(run.CONF / "optimizer" / f"{optimizer}.yaml"))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def one_step(page: dict[str, Any], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight of a tiny model before and after its first step that moves it."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(5, 3)
    optimizer = build(page, "optimizer", model.parameters())
    schedule_free.train(optimizer)
    before = model.weight.detach().clone()
    model(torch.randn(7, 5)).square().sum().backward()
    optimizer.step()
    if page["_target_"] == "timm.optim.Adopt":  # whose first step only measures the gradient
        assert torch.equal(model.weight, before)
        optimizer.step()
    return before, model.weight.detach()


def test_every_optimizer_of_the_paper_has_a_page() -> None:
    assert set(OPTIMIZERS) >= IN_THE_PAPER


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_page_builds_and_makes_a_step(optimizer: str) -> None:
    page = load(optimizer)
    before, after = one_step(page)
    assert page["_partial_"] is True
    assert torch.isfinite(after).all() and not torch.equal(before, after)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_page_lists_every_knob(optimizer: str) -> None:
    page = load(optimizer)
    parameters = set(inspect.signature(locate(page["_target_"], "optimizer")).parameters)
    knobs = parameters - {"params"} - EXECUTION - OTHER_RULES.get(optimizer, set())
    assert set(page) - {"_target_", "_partial_"} == knobs


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_numbers_are_numbers_and_no_decay_unless_a_recipe_says_so(optimizer: str) -> None:
    page = load(optimizer)
    assert isinstance(page["lr"], float) and page["weight_decay"] == 0.0
    numbers = [page[key] for key in ("eps", "momentum_decay", "alpha") if key in page]
    assert all(isinstance(value, float) for value in [*numbers, *page.get("betas", [])])


@pytest.mark.parametrize("optimizer", sorted(set(OPTIMIZERS) - {"sgd"}))
def test_decay_is_decoupled_and_multiplied_by_lr(optimizer: str) -> None:
    """With decay w, a step takes lr * w * weight off what it would be without: also in step 1."""
    page = load(optimizer)
    if optimizer == "lamb":  # its layers without decay take steps of another length
        page["always_adapt"] = True
    before, plain = one_step(page)
    _, decayed = one_step({**page, "weight_decay": 0.5})
    torch.testing.assert_close(decayed, plain - page["lr"] * 0.5 * before, rtol=1e-4, atol=1e-6)


def trajectory(page: dict[str, Any], gradients: list[float]) -> list[float]:
    weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = build(page, "optimizer", [weight])
    values = []
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        values.append(weight.item())
    return values


def test_nadam_page_has_no_schedule_of_beta1() -> None:
    """Dozat's rule with constant beta1, as in Optax."""
    page = load("nadam")
    lr, (beta1, beta2), eps = page["lr"], page["betas"], page["eps"]
    gradients = [0.3, -1.0, 2.0, 0.5, -0.1, 0.7]
    weight, m, v, expected = 0.0, 0.0, 0.0, []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat = beta1 * m / (1 - beta1 ** (t + 1)) + (1 - beta1) * g / (1 - beta1**t)
        weight -= lr * m_hat / (math.sqrt(v / (1 - beta2**t)) + eps)
        expected.append(weight)
    assert trajectory(page, gradients) == pytest.approx(expected, rel=1e-5)
    other = trajectory({**page, "momentum_decay": 4e-3}, gradients)
    assert other != pytest.approx(expected, rel=1e-2)


def test_adafactor_page_has_the_two_betas_of_the_paper() -> None:
    """On a scalar nothing is factored: g / sqrt(v), then the average with beta1, without bias."""
    page = {**load("adafactor"), "momentum_dtype": "float32", "lr": 1.0}
    gradients = [0.3, -1.0, 2.0, 0.5]
    weight, m, v, expected = 0.0, 0.0, 0.0, []
    for t, g in enumerate(gradients, start=1):
        beta2 = min(0.999, 1 - t**-0.8)
        v = beta2 * v + (1 - beta2) * g * g
        m = 0.9 * m + 0.1 * g / math.sqrt(v)
        weight -= m
        expected.append(weight)
    assert trajectory(page, gradients) == pytest.approx(expected, rel=1e-5)
