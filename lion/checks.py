"""Hyper-parameters checked at construction: errors carry the value and the remedy."""

import math
from collections.abc import Sequence
from numbers import Real

from torch import Tensor

_REMEDY = {
    "lr": "the paper's Lion runs use 3e-6 to 3e-3, 3-10x less than AdamW's",
    "weight_decay": "it is the strength of decoupled decay; Lion wants 3-10x more than AdamW",
    "betas": "the paper uses (0.9, 0.99), and (0.95, 0.98) for language",
}


def check_number(name: str, value: object, *, remedy: str = "", below: float = math.inf) -> float:
    """Return `value` as a float in [0, below), or raise ValueError naming it."""
    remedy = remedy or _REMEDY.get(name, "")
    if isinstance(value, str) or not isinstance(value, Real):
        hint = "YAML 1.1 reads 1e-4 as text; write 1.0e-4" if isinstance(value, str) else remedy
        raise ValueError(f"{name} must be a number, got {value!r} ({type(value).__name__}): {hint}")
    number = float(value)
    if not 0.0 <= number < below:  # NaN fails too
        bounds = "finite and >= 0" if math.isinf(below) else f"in [0, {below:g})"
        raise ValueError(f"{name} must be {bounds}, got {value!r}: {remedy}")
    return number


def check_lr(lr: object) -> None:
    """Raise ValueError unless `lr` is a number >= 0 or a tensor of one such element."""
    if not isinstance(lr, Tensor):
        check_number("lr", lr)
        return
    if lr.numel() != 1:
        raise ValueError(
            f"a tensor lr must have 1 element, got shape {tuple(lr.shape)}: "
            "use one param group per learning rate"
        )
    if not lr.is_meta:
        check_number("lr", lr.item())


def check_betas(betas: object) -> tuple[float, float]:
    """Return `betas` as two floats in [0, 1); any pair will do (a list from YAML, say)."""
    if not isinstance(betas, Sequence) or isinstance(betas, str) or len(betas) != 2:
        raise ValueError(f"betas must be a pair of numbers, got {betas!r}: {_REMEDY['betas']}")
    first, second = (
        check_number(f"betas[{i}]", beta, remedy=_REMEDY["betas"], below=1.0)
        for i, beta in enumerate(betas)
    )
    return first, second
