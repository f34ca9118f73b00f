"""Noise and curvature of losses whose answers are known on paper."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.jobs.flatness import Mean, hessian_product, pair_loss, top_eigenvalue, trainable

CURVATURES = [9.0, 4.0, 1.0, 0.5, -3.0]


class Quadratic(nn.Module):
    """w' H w / 2 + g' w with a known H, a rotation of CURVATURES; split over two parameters."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        basis, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))
        self.hessian = basis @ torch.diag(torch.tensor(CURVATURES, dtype=torch.float64)) @ basis.T
        self.gradient = torch.randn(5, generator=generator, dtype=torch.float64)
        self.a = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.b = nn.Parameter(torch.full((1, 3), 2.0, dtype=torch.float64))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self) -> Tensor:
        w = torch.cat([self.a, self.b.flatten()])
        return w @ self.hessian @ w / 2 + self.gradient @ w


def both_halves(module: Quadratic) -> Iterator[tuple[Tensor, float]]:
    """The loss as two batches with a quarter and three quarters of the examples."""
    yield 2 * module(), 0.25
    yield module() * (2 / 3), 0.75


def test_the_expected_loss_under_noise_is_half_the_trace() -> None:
    """E L(w + e) - L(w) = sigma^2 tr(H) / 2; the linear term cancels within each pair."""
    module, sigma = Quadratic(), 0.3
    mean = Mean()
    for seed in range(2000):
        mean.add(pair_loss(trainable(module), lambda: module().item(), sigma, seed))
    expected = module().item() + sigma**2 * sum(CURVATURES) / 2
    assert abs(mean.value - expected) < 4 * mean.error
    # Variance of e' H e / 2 is sigma^4 |H|^2 / 2 (Frobenius).
    spread = sigma**2 * math.sqrt(sum(c**2 for c in CURVATURES) / 2)
    assert mean.error == pytest.approx(spread / math.sqrt(2000), rel=0.1)


def test_a_pair_cancels_what_is_linear() -> None:
    w = nn.Parameter(torch.zeros(4))
    loss = pair_loss([w], lambda: float((w * torch.arange(4.0)).sum()), 10.0, seed=1)
    assert loss == pytest.approx(0.0, abs=1e-5)


def test_the_weights_are_as_before_even_after_an_error() -> None:
    module = Quadratic()
    before = [p.clone() for p in module.parameters()]

    def fails() -> float:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        pair_loss(trainable(module), fails, 1.0, 0)
    pair_loss(trainable(module), lambda: 0.0, 1.0, 0, relative=True)
    assert all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))


def test_a_seed_gives_the_same_direction_at_every_scale() -> None:
    w = nn.Parameter(torch.zeros(6))
    seen = []

    def remember() -> float:
        seen.append(w.detach().clone())
        return 0.0

    for scale in (1.0, 3.0):
        pair_loss([w], remember, scale, seed=5)
    assert torch.allclose(3 * seen[0], seen[2]) and torch.equal(seen[0], -seen[1])
    pair_loss([w], remember, 1.0, seed=6)
    assert not torch.equal(seen[0], seen[4])


def test_relative_noise_is_measured_by_each_filter() -> None:
    weight = nn.Parameter(torch.stack([torch.full((2, 3), 1.0), torch.full((2, 3), 100.0)]))
    bias = nn.Parameter(torch.ones(2))
    seen = []

    def remember() -> float:
        seen.append((weight.detach().clone(), bias.detach().clone()))
        return 0.0

    before = weight.detach().clone()
    pair_loss([weight, bias], remember, 0.25, seed=2, relative=True)
    noise = (seen[0][0] - before).flatten(1).norm(dim=1)
    assert torch.allclose(noise, 0.25 * before.flatten(1).norm(dim=1), rtol=1e-4)
    assert torch.equal(seen[0][1], torch.ones(2))


def test_a_mean_is_taken_up_where_it_was_left() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, 30)
    whole, first = Mean(), Mean()
    for draw in draws:
        whole.add(draw)
    for draw in draws[:11]:
        first.add(draw)
    second = Mean.resumed(first.num_pairs, first.value, first.error)
    for draw in draws[11:]:
        second.add(draw)
    assert (second.value, second.error) == pytest.approx((whole.value, whole.error))
    assert whole.value == pytest.approx(draws.mean())
    assert whole.error == pytest.approx(draws.std(ddof=1) / math.sqrt(30))
    assert Mean.resumed(1, 3.0, math.inf).num_pairs == 0
    assert Mean.resumed(9, math.nan, 1.0).num_pairs == 0


def test_hessian_products_are_those_of_the_matrix() -> None:
    module = Quadratic()
    v = torch.randn(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = hessian_product(trainable(module), lambda: both_halves(module), v)
    assert torch.allclose(found, module.hessian @ v)


def test_the_top_eigenvalue_is_the_largest_and_not_the_largest_in_size() -> None:
    module = Quadratic()
    found = top_eigenvalue(trainable(module), lambda: both_halves(module))
    assert found.value == pytest.approx(9.0, rel=1e-3)
    assert abs(found.value - 9.0) <= found.residual + 1e-9


def test_the_residual_bounds_the_error_of_a_hasty_search() -> None:
    """A wide spectrum: with a loose tolerance the eigenvalue is off by no more than it says."""
    curvatures = torch.linspace(0.0, 1.0, 300, dtype=torch.float64)
    w = nn.Parameter(torch.ones(300, dtype=torch.float64))

    def losses() -> Iterator[tuple[Tensor, float]]:
        yield (curvatures * w**2).sum() / 2, 1.0

    hasty = top_eigenvalue([w], losses, tolerance=0.3)
    exact = top_eigenvalue([w], losses, tolerance=1e-10)
    gap = (curvatures - hasty.value).abs().min().item()
    assert gap <= hasty.residual
    assert exact.value == pytest.approx(1.0, abs=1e-8)
    assert exact.num_products > hasty.num_products


def test_tiny_linear_and_broken_losses() -> None:
    w = nn.Parameter(torch.ones(1))
    assert top_eigenvalue([w], lambda: iter([(3 * (w**2).sum(), 1.0)])).value == pytest.approx(6.0)
    u = nn.Parameter(torch.ones(4))
    flat = hessian_product([u], lambda: iter([(u.sum(), 1.0)]), torch.ones(4))
    assert torch.equal(flat, torch.zeros(4))
    with pytest.raises(ArithmeticError, match="not finite"):
        top_eigenvalue([u], lambda: iter([((u * math.nan).pow(2).sum(), 1.0)]))
    slow = nn.Parameter(torch.ones(400, dtype=torch.float64))
    curvatures = 1 + torch.linspace(0, 1e-6, 400, dtype=torch.float64)
    with pytest.raises(ArithmeticError, match="was not found"):
        top_eigenvalue(
            [slow],
            lambda: iter([((curvatures * slow**2).sum(), 1.0)]),
            tolerance=1e-14,
            max_iterations=1,
        )


def test_attention_can_be_differentiated_twice() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    parameters = trainable(layer)

    def losses() -> Iterator[tuple[Tensor, float]]:
        yield layer(x).pow(2)[:, :, :3].mean(), 1.0

    assert top_eigenvalue(parameters, losses).residual < 1e-3
