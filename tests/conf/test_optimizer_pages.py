"""Each page of conf/optimizer builds, steps, and lists every knob of its class."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import run
from experiments import schedule_free
from experiments.build import build, locate
from experiments.doctor.evidence import knowledge

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


def steps(page: dict[str, Any], gradients: list[np.ndarray]) -> np.ndarray:
    """Weights that begin at 0, after a step for each gradient."""
    weight = torch.nn.Parameter(torch.zeros(gradients[0].shape, dtype=torch.float64))
    optimizer = build(page, "optimizer", [weight])
    for gradient in gradients:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    return weight.detach().numpy()


@pytest.mark.parametrize("optimizer", sorted(set(OPTIMIZERS) - {"program"}))
def test_the_doctor_knows_which_pages_move_every_weight_by_lr(optimizer: str) -> None:
    page = load(optimizer)
    if page["_target_"].startswith("schedulefree"):
        pytest.importorskip("schedulefree")
    weight = torch.nn.Parameter(torch.zeros(40, 50))
    rule, sizes = build(page, "optimizer", [weight]), []
    schedule_free.train(rule)
    for gradient in draws(40, 50):
        before = weight.detach().clone()
        weight.grad = torch.tensor(gradient, dtype=torch.float32)
        rule.step()
        sizes.append((weight.detach() - before).abs())
    is_sign = torch.allclose(torch.stack(sizes), torch.tensor(page["lr"]), rtol=1e-3)
    assert (optimizer in knowledge()["sign_based"]) == is_sign


def draws(*shape: int, number: int = 6) -> list[np.ndarray]:
    random_state = np.random.RandomState(0)
    return [random_state.randn(*shape) * random_state.rand(*shape) for _ in range(number)]


@pytest.mark.parametrize(
    "shape", [(40, 50), (50, 40), (64, 64), (31, 200), (48, 33, 3, 3), (64, 3, 16, 16), (1, 40, 64)]
)
def test_adafactor_page_factors_as_big_vision(shape: tuple[int, ...]) -> None:
    """Along the two longest axes, where both have 32 places; rows over their mean."""
    gradients = draws(*shape)
    rows, columns = sorted(np.argsort(shape)[-2:], key=lambda axis: shape[axis])
    weight, m, v, row, column = (np.zeros(shape), *[np.zeros(1)] * 4)
    for t, g in enumerate(gradients, start=1):
        beta2 = min(0.999, 1 - t**-0.8)
        square = g**2 + 1e-30
        v = beta2 * v + (1 - beta2) * square
        row = beta2 * row + (1 - beta2) * square.mean(columns, keepdims=True)
        column = beta2 * column + (1 - beta2) * square.mean(rows, keepdims=True)
        is_factored = shape[rows] >= 32
        variance = row * column / row.mean(rows, keepdims=True) if is_factored else v
        m = 0.9 * m + 0.1 * g / np.sqrt(variance)
        weight = weight - m
    page = {**load("adafactor"), "momentum_dtype": "float32", "lr": 1.0}
    np.testing.assert_allclose(steps(page, gradients), weight, rtol=1e-5, atol=1e-6)


def test_adabelief_page_is_optax() -> None:
    """With eps inside the average and behind the root, without rectification."""
    gradients, weight, m, v = draws(5), np.zeros(5), np.zeros(5), np.zeros(5)
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * (g - m) ** 2 + 1e-16
        weight -= 1e-3 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-16)
    np.testing.assert_allclose(steps(load("adabelief"), gradients), weight, rtol=1e-9)


def test_radam_page_is_optax() -> None:
    """Momentum alone until the length of the average is 5; a sixth step is rectified."""
    gradients, weight, m, v = draws(5, number=9), np.zeros(5), np.zeros(5), np.zeros(5)
    longest = 2 / (1 - 0.999) - 1
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        length = longest - 2 * t * 0.999**t / (1 - 0.999**t)
        assert (length >= 5) == (t >= 6)
        step = m / (1 - 0.9**t)
        if length >= 5:
            share = (length - 4) * (length - 2) * longest
            share /= (longest - 4) * (longest - 2) * length
            step = math.sqrt(share) * step / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        weight -= 1e-3 * step
    np.testing.assert_allclose(steps(load("radam"), gradients), weight, rtol=1e-6)
