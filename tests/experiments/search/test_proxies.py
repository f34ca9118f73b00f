"""The proxies: exact gradients, lanes that do not feel one another, data kept apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from experiments.config import ConfigError
from experiments.search.proxies import families
from experiments.search.proxies import text as texts
from experiments.search.proxies.families import FAMILIES, proxy
from experiments.search.proxies.proxy import (
    FRESH,
    SEARCH,
    Batch,
    Layout,
    Parameter,
    cross_entropy,
    one_thread,
    positions,
)
from experiments.search.proxies.text import PARTS, Text

NUM_CLASSES = {"mlp": 10, "conv": 10, "lm": 32}


def lanes_of(name: str, count: int) -> tuple[torch.Tensor, Batch]:
    """Weights of some lanes, no two alike, and a batch for each."""
    of = proxy(name)
    weights = torch.stack([of.layout.initial(seed) for seed in range(count)])
    return weights, of.training(3, 1)[0].of(torch.zeros(count, dtype=torch.int64))


@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_is_the_slope_of_the_loss(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of = proxy(name)
    weights, batch = lanes_of(name, 3)
    weights, batch = weights.double(), Batch(batch.inputs, batch.targets)
    if batch.inputs.is_floating_point():
        batch = Batch(batch.inputs.double(), batch.targets)
    if hasattr(of, "_mask"):
        monkeypatch.setattr(of, "_mask", of._mask.double())
    losses, gradient = of.loss_and_gradient(weights, batch)
    direction = torch.randn(weights.shape, generator=torch.Generator().manual_seed(0)).double()
    step = 1e-8 * direction
    slope = (of.loss(weights + step, batch) - of.loss(weights - step, batch)) / 2e-8
    torch.testing.assert_close((gradient * direction).sum(1), slope, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(of.loss(weights, batch), losses)
    assert bool((gradient.abs().sum(0) > 0).float().mean() > 0.9)  # every part is reached


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("first, count", [(0, 1), (5, 1), (1, 4), (3, 13), (0, 40)])
def test_a_lane_does_not_feel_the_others(name: str, first: int, count: int) -> None:
    of = proxy(name)
    weights, batch = lanes_of(name, 48)
    chosen = slice(first, first + count)
    part = Batch(batch.inputs[chosen], batch.targets[chosen])
    with torch.no_grad(), one_thread():
        losses, gradient = of.loss_and_gradient(weights, batch)
        some_losses, some = of.loss_and_gradient(weights[chosen].clone(), part)
        assert torch.equal(some_losses, losses[chosen])
        assert torch.equal(some, gradient[chosen])
        assert torch.equal(of.loss(weights[chosen].clone(), part), of.loss(weights, batch)[chosen])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_new_model_knows_nothing(name: str) -> None:
    of = proxy(name)
    weights = torch.stack([of.layout.initial(seed) for seed in range(4)])
    held_out = of.validation(0, SEARCH).of(torch.zeros(4, dtype=torch.int64))
    mean = float(of.loss(weights, held_out).mean())
    assert abs(mean - math.log(NUM_CLASSES[name])) < 0.7
    assert of.layout.size == {"mlp": 1632, "conv": 3120, "lm": 4400}[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_batches_are_a_function_of_the_stream(name: str) -> None:
    of = proxy(name)
    one, same, other = of.training(5, 3), of.training(5, 3), of.training(6, 3)
    assert all(torch.equal(one[i].inputs, same[i].inputs) for i in range(3))
    assert not torch.equal(one[0].inputs, one[1].inputs)
    assert not torch.equal(one[0].inputs, other[0].inputs)
    assert torch.equal(of.layout.initial(1), of.layout.initial(1))
    assert not torch.equal(of.layout.initial(1), of.layout.initial(2))


@pytest.mark.parametrize("name", FAMILIES)
def test_windows_rotate_and_final_data_are_others(name: str) -> None:
    of = proxy(name)
    first = of.validation(0, SEARCH).inputs
    assert torch.equal(first, of.validation(0, SEARCH).inputs)
    if name != "conv":  # the digits have one window
        assert not torch.equal(first, of.validation(1, SEARCH).inputs)
    rows = {tuple(row) for row in first.flatten(0, 1).flatten(1).tolist()}
    fresh = {tuple(row) for row in of.validation(0, FRESH).inputs.flatten(0, 1).flatten(1).tolist()}
    assert not rows & fresh


def test_parts_of_the_text_do_not_overlap() -> None:
    bounds = sorted(PARTS.values())
    assert [low for low, _ in bounds[1:]] == [high for _, high in bounds[:-1]]
    text = Text(length=4, batch_size=2, num_validation=3)
    window, following = text.validation(0, SEARCH), text.validation(1, SEARCH)
    assert window.inputs.shape == (1, 3, 4, 32) and window.targets.shape == (1, 3, 4)
    codes = window.inputs.argmax(-1)
    assert torch.equal(codes[..., 1:], window.targets[..., :-1])  # each next character
    assert int(window.targets[0, -1, -1]) == int(following.inputs[0, 0, 0].argmax())


def test_without_the_bible_pythons_own_help_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.search.proxies.text.find_spec", lambda name: None)
    text = Text()
    assert text.source == "pydoc_data.topics"
    batch = text.training(0, 2)[1]
    assert batch.inputs.shape == (1, 4, 16, 32) and len(set(batch.targets.flatten().tolist())) > 5


def test_a_text_that_stands_in_is_said_and_told_from_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is another with every Python; sessions and workers compare what `code` says."""
    texts._codes.cache_clear()
    families.FAMILIES["lm"].make()
    assert families.code("lm") == "" and capsys.readouterr().err == ""
    monkeypatch.setattr(texts, "find_spec", lambda name: None)
    families.FAMILIES["lm"].make()
    said = capsys.readouterr().err
    assert "own help, not the Bible: its numbers compare with no others; pip install 'p" in said
    mine = families.code("lm")
    assert mine.startswith("pydoc_data.topics ") and families.part("lm") == "data"
    monkeypatch.setattr(texts, "_topics", lambda: "the help of another version")
    texts._codes.cache_clear()
    assert families.code("lm") not in ("", mine)
    texts._codes.cache_clear()
    assert families.code("mlp") == families.code("conv") == ""


def test_cross_entropy_is_torchs() -> None:
    logits = 3 * torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0)).double()
    targets = torch.randint(0, 5, (4, 6), generator=torch.Generator().manual_seed(1))
    leaf = logits.clone().requires_grad_()
    means = [functional.cross_entropy(leaf[lane], targets[lane]) for lane in range(4)]
    (slope,) = torch.autograd.grad(sum(means), leaf)
    losses, ours = cross_entropy(logits, targets)
    torch.testing.assert_close(losses, torch.stack(means))
    torch.testing.assert_close(ours, slope)


def test_a_parameter_that_breaks_the_alignment_is_refused() -> None:
    with pytest.raises(ValueError, match="bias has 10 numbers"):
        Layout((Parameter("bias", (10,), 0.0),))


def test_an_unknown_family_names_the_others() -> None:
    with pytest.raises(ConfigError, match="there are: mlp, lm, conv"):
        families.check("vit")


def test_positions_do_not_repeat_from_stream_to_stream() -> None:
    drawn = [positions(stream, 4, 8, 10**9) for stream in range(20)]
    assert len(np.unique(np.concatenate(drawn))) == 20 * 4 * 8
