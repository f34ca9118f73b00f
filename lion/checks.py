"""Hyper-parameters checked at construction: errors carry the value and the remedy."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from torch import Tensor

_REMEDY = {
    "lr": "the paper's Lion runs use 3e-6 to 3e-3, 3-10x less than AdamW's",
    "weight_decay": "it is the strength of decoupled decay; Lion wants 3-10x more than AdamW",
    "betas": "the paper uses (0.9, 0.99), and (0.95, 0.98) for language",
}

_NOT_A_TENSOR = "only differentiable=True takes a tensor here; give a number"


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
    if isinstance(lr, Tensor):
        _check_tensor("lr", lr, remedy="use one param group per learning rate")
    else:
        check_number("lr", lr)


def check_weight_decay(value: object, *, tensors: bool) -> None:
    """Raise ValueError unless `value` is a number >= 0; with `tensors`, one in a tensor will do."""
    if isinstance(value, Tensor) and tensors:
        _check_tensor("weight_decay", value)
    else:
        check_number("weight_decay", value, remedy=_NOT_A_TENSOR * isinstance(value, Tensor))


def check_betas(betas: object, *, tensors: bool = False) -> tuple[Any, Any]:
    """Return `betas` as two floats in [0, 1); any pair will do (a list from YAML, say).

    Args:
        betas: The pair.
        tensors: Whether either may be a tensor of one element, which is then left as it is.
    """
    if not isinstance(betas, Sequence) or isinstance(betas, str) or len(betas) != 2:
        raise ValueError(f"betas must be a pair of numbers, got {betas!r}: {_REMEDY['betas']}")
    first, second = (_check_beta(f"betas[{i}]", beta, tensors) for i, beta in enumerate(betas))
    return first, second


def _check_beta(name: str, beta: object, tensors: bool) -> object:
    if isinstance(beta, Tensor) and tensors:
        return _check_tensor(name, beta, below=1.0)
    remedy = _NOT_A_TENSOR if isinstance(beta, Tensor) else _REMEDY["betas"]
    return check_number(name, beta, remedy=remedy, below=1.0)


def _check_tensor(name: str, value: Tensor, *, remedy: str = "", below: float = math.inf) -> Tensor:
    if value.numel() != 1:
        raise ValueError(
            f"a tensor {name} must have 1 element, got shape {tuple(value.shape)}"
            + f": {remedy or 'use one param group per value'}"
        )
    if not value.is_meta:
        check_number(name, value.item(), remedy=_REMEDY.get(name.split("[")[0], ""), below=below)
    return value
