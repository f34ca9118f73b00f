"""How flat a loss is around given weights: mean loss under noise, and its sharpest direction.

Everything is a function of a module's trainable parameters and a loss; nothing here knows of runs.
The parameters are as they were when a function returns or fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

MeanLoss = Callable[[], float]
"""Mean loss over fixed examples, at the parameters' present values."""
Losses = Callable[[], Iterator[tuple[Tensor, float]]]
"""Per batch: its mean loss, to differentiate, and its share of all examples."""


@dataclass
class Mean:
    """A mean over antithetic pairs of draws, to which pairs can be added at any time."""

    num_pairs: int = 0
    value: float = 0.0
    squares: float = 0.0  # sum of squared deviations of the pairs from their mean

    def add(self, pair: float) -> None:
        """Takes in the mean of one more pair (Welford's update)."""
        self.num_pairs += 1
        before = pair - self.value
        self.value += before / self.num_pairs
        self.squares += before * (pair - self.value)

    @property
    def error(self) -> float:
        """Standard error of the mean; infinite for fewer than two pairs."""
        if self.num_pairs < 2:
            return math.inf
        return math.sqrt(self.squares / (self.num_pairs - 1) / self.num_pairs)

    @classmethod
    def resumed(cls, num_pairs: int, value: float, error: float) -> Mean:
        """From what was written down; fewer than two pairs cannot be taken up again."""
        if num_pairs < 2 or not math.isfinite(value) or not math.isfinite(error):
            return cls()
        return cls(num_pairs, value, error**2 * num_pairs * (num_pairs - 1))


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that noise is added to and that the Hessian is taken by."""
    return [p for p in module.parameters() if p.requires_grad]


@torch.no_grad()
def pair_loss(
    parameters: Sequence[nn.Parameter],
    loss: MeanLoss,
    scale: float,
    seed: int,
    relative: bool = False,
) -> float:
    """Mean of the losses at w + e and at w - e, for one draw e of Gaussian noise.

    The pair is antithetic: what is linear in e cancels. A seed gives the same directions at every
    scale, and for every model of the same shape.

    Args:
        parameters: Changed meanwhile, restored at the end.
        loss: Evaluated twice.
        scale: Absolute: the standard deviation of every entry of e. Relative: the norm of each
            filter's noise over the norm of the filter; 1-d parameters (biases, scales) stay.
        seed: Of the draw.
        relative: Which of the two.

    Source: absolute, arXiv:2302.06675, appendix (scale not stated there); relative ("filter
    normalised"), Li et al., arXiv:1712.09913.
    """
    generator = torch.Generator().manual_seed(seed)
    original = [p.detach().clone() for p in parameters]
    noise = []
    for p in parameters:
        draw = torch.randn(p.shape, generator=generator).to(p.device, p.dtype)
        noise.append(_filter_normalised(draw, p, scale) if relative else scale * draw)
    try:
        losses = []
        for sign in (1.0, -1.0):
            for p, centre, e in zip(parameters, original, noise, strict=True):
                p.copy_(centre + sign * e)
            losses.append(loss())
        return sum(losses) / 2
    finally:
        for p, centre in zip(parameters, original, strict=True):
            p.copy_(centre)


def _filter_normalised(draw: Tensor, parameter: Tensor, scale: float) -> Tensor:
    """Noise whose norm per filter (first index) is `scale` times the filter's; 0 for 1-d."""
    if draw.dim() < 2:
        return torch.zeros_like(draw)
    rows, weights = draw.flatten(1), parameter.flatten(1)
    unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return (scale * weights.norm(dim=1, keepdim=True) * unit).view_as(draw)


@dataclass(frozen=True)
class Eigenvalue:
    """An eigenvalue of the Hessian; a true one lies within `residual` of it."""

    value: float
    residual: float  # |Hv - value v| for the unit vector v that was found
    num_products: int  # Hessian-vector products


def top_eigenvalue(
    parameters: Sequence[nn.Parameter],
    losses: Losses,
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    seed: int = 0,
    on_product: Callable[[int], None] = lambda done: None,
) -> Eigenvalue:
    """Largest eigenvalue of the Hessian of the mean loss, by ARPACK's restarted Lanczos.

    Args:
        parameters: Of one device and type.
        losses: The batches of the mean loss; gone through once per product.
        tolerance: Relative.
        max_iterations: Restarts before giving up.
        seed: Of the first vector.
        on_product: Told the number of products so far.

    Raises:
        ArithmeticError: where it does not converge, or the loss is not finite.
    """
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    size = sum(p.numel() for p in parameters)
    done = 0

    def product(vector):  # numpy (size,) -> numpy (size,)
        nonlocal done
        done += 1
        on_product(done)
        v = torch.from_numpy(vector.reshape(-1).copy()).to(parameters[0])
        found = hessian_product(parameters, losses, v).cpu().numpy()
        if not math.isfinite(found.sum()):
            raise ArithmeticError("the Hessian at these weights is not finite")
        return found

    start = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    start = start.to(parameters[0].dtype).numpy()
    if size < 3:  # too small for ARPACK
        return _of_columns(product, start)
    operator = LinearOperator((size, size), matvec=product, dtype=start.dtype)  # type: ignore[call-arg]
    try:
        options: dict[str, Any] = {"tol": tolerance, "maxiter": max_iterations}
        values, vectors = eigsh(operator, 1, which="LA", v0=start, **options)
    except ArpackError as error:
        raise ArithmeticError(f"the top eigenvalue was not found: {error}") from error
    vector = vectors[:, 0]
    rest = product(vector) - values[0] * vector
    return Eigenvalue(float(values[0]), float((rest**2).sum() ** 0.5), done)


def _of_columns(product, start) -> Eigenvalue:
    """Of a Hessian with one or two rows, whole."""
    import numpy as np

    columns = np.stack([product(row) for row in np.eye(len(start), dtype=start.dtype)])
    return Eigenvalue(float(np.linalg.eigvalsh(columns)[-1]), 0.0, len(start))


def hessian_product(parameters: Sequence[nn.Parameter], losses: Losses, vector: Tensor) -> Tensor:
    """Hessian of the mean loss times a vector, by differentiating twice.

    Args:
        parameters: By which to differentiate.
        losses: The batches of the mean loss.
        vector: (number of parameters,), in the parameters' order.
    """
    parts = torch.split(vector, [p.numel() for p in parameters])
    direction = [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
    total = torch.zeros_like(vector)
    # The fused attention kernels cannot be differentiated twice.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        for loss, share in losses():
            first = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
            dot = torch.stack([(g * d).sum() for g, d in zip(first, direction, strict=True)]).sum()
            if not dot.requires_grad:  # a linear loss has no second derivative
                continue
            second = torch.autograd.grad(dot, parameters, materialize_grads=True)
            total += share * torch.cat([s.reshape(-1) for s in second])
    return total
