"""What a Lion that disagrees may be doing instead: float64 rules to be tried one after another.

Each is a rule of one tensor and one step, (theta, g, m, at) -> (theta, m), with g the gradient that
was handed over (zeros where it was missing). Where a gradient is missing nothing must happen, so
only rules that are marked `for_missing` are asked; the others leave the weight alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np


def _load(path: Path) -> ModuleType:
    # By its path: an installed package may ship a `tests` of its own (torch-fidelity does).
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _load(Path(__file__).resolve().parents[2] / "tests" / "reference.py")

Array = np.ndarray
Outcome = tuple[Array, Array]


@dataclass(frozen=True)
class At:
    """Where on the trajectory a step is taken."""

    step: int  # counted from 0
    lr: float
    first_lr: float
    weight_decay: float
    beta1: float
    beta2: float
    missing: bool  # no gradient
    resumed: bool  # the first step after a state dict was loaded


Rule = Callable[[Array, Array, Array, At], Outcome]


@dataclass(frozen=True)
class Hypothesis:
    """A rule, and what to say if it fits."""

    reason: str
    rule: Rule
    for_missing: bool = False


def c_of(g: Array, m: Array, at: At) -> Array:
    """The argument of the sign in Algorithm 2."""
    return at.beta1 * m + (1 - at.beta1) * g


def new_m(g: Array, m: Array, at: At) -> Array:
    """The momentum of Algorithm 2."""
    return at.beta2 * m + (1 - at.beta2) * g


def _move(p: Array, sign: Array, at: At, lr: float | None = None) -> Array:
    lr = at.lr if lr is None else lr
    return p - lr * (sign + at.weight_decay * p)


def lion(p: Array, g: Array, m: Array, at: At) -> Outcome:
    """Algorithm 2, from the independent reference of the tests."""
    betas = {"beta1": at.beta1, "beta2": at.beta2}
    return reference.lion(p, g, m, lr=at.lr, weight_decay=at.weight_decay, **betas)


def _signum(p: Array, g: Array, m: Array, at: At) -> Outcome:
    new_p, m = reference.signed_momentum(
        p, g, m, lr=at.lr, beta=at.beta2, weight_decay=at.weight_decay
    )
    return new_p, m


def _betas_swapped(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return _move(p, np.sign(new_m(g, m, at)), at), c_of(g, m, at)


def _momentum_first(p: Array, g: Array, m: Array, at: At) -> Outcome:
    m = new_m(g, m, at)
    return _move(p, np.sign(c_of(g, m, at)), at), m


def _no_decay(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return p - at.lr * np.sign(c_of(g, m, at)), new_m(g, m, at)


def _l2(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return _no_decay(p, g + at.weight_decay * p, m, at)


def _sign_sgd(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return _move(p, np.sign(g), at), new_m(g, m, at)


def _beta2_ignored(p: Array, g: Array, m: Array, at: At) -> Outcome:
    c = c_of(g, m, at)
    return _move(p, np.sign(c), at), c


def _decay_after(p: Array, g: Array, m: Array, at: At) -> Outcome:
    p = p - at.lr * np.sign(c_of(g, m, at))
    return p * (1 - at.lr * at.weight_decay), new_m(g, m, at)


def _decay_without_lr(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return p * (1 - at.weight_decay) - at.lr * np.sign(c_of(g, m, at)), new_m(g, m, at)


def _decay_twice(p: Array, g: Array, m: Array, at: At) -> Outcome:
    p = p * (1 - at.lr * at.weight_decay) ** 2
    return p - at.lr * np.sign(c_of(g, m, at)), new_m(g, m, at)


def _twice(p: Array, g: Array, m: Array, at: At) -> Outcome:
    p, m = lion(p, g, m, at)
    return lion(p, g, m, at)


def _first_lr(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return _move(p, np.sign(c_of(g, m, at)), at, at.first_lr), new_m(g, m, at)


def _momentum_lost(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return lion(p, g, np.zeros_like(m) if at.resumed else m, at)


def _decays_missing(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return (_move(p, np.zeros_like(p), at), m) if at.missing else lion(p, g, m, at)


def _zeros_skipped(p: Array, g: Array, m: Array, at: At) -> Outcome:
    new_p, moved = lion(p, g, m, at)
    return np.where(g == 0, p, new_p), np.where(g == 0, m, moved)


def _sign_of_zero(p: Array, g: Array, m: Array, at: At) -> Outcome:
    c = c_of(g, m, at)
    return _move(p, np.where(c == 0, 1.0, np.sign(c)), at), new_m(g, m, at)


def _descends(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return lion(p, -g, m, at)


def _climbs_in_sign_only(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return _move(p, np.sign(c_of(g, m, at)), at), new_m(-g, m, at)


def _nan_hidden(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return _move(p, np.nan_to_num(np.sign(c_of(g, m, at))), at), new_m(g, m, at)


def _nan_skipped(p: Array, g: Array, m: Array, at: At) -> Outcome:
    new_p, moved = lion(p, g, m, at)
    return np.where(np.isnan(g), p, new_p), np.where(np.isnan(g), m, moved)


def _momentum_frozen(p: Array, g: Array, m: Array, at: At) -> Outcome:
    return lion(p, g, m, at)[0], m


LION = Hypothesis("the paper's rule", lion)
HYPOTHESES = (
    Hypothesis(
        "hides NaN: sign(NaN) = 0, the weight goes on as if nothing were wrong", _nan_hidden
    ),
    Hypothesis("skips elements whose gradient is NaN", _nan_skipped),
    Hypothesis("forgets the momentum when a state dict is loaded", _momentum_lost),
    Hypothesis("takes a missing gradient for 0: the weight moves on its momentum", lion, True),
    Hypothesis("decays weights that have no gradient", _decays_missing, True),
    Hypothesis("skips elements whose gradient is 0", _zeros_skipped),
    Hypothesis("sign(0) is 1", _sign_of_zero),
    Hypothesis("steps the wrong way round, as if `maximize` were ignored", _descends),
    Hypothesis(
        "`maximize` turns the gradient inside the sign, not in the momentum", _climbs_in_sign_only
    ),
    Hypothesis("keeps its first learning rate", _first_lr),
    Hypothesis("no weight decay", _no_decay),
    Hypothesis("coupled (L2) decay: it goes through the sign and the momentum", _l2),
    Hypothesis("decays after the step, so the update shrinks too", _decay_after),
    Hypothesis("decay is not scaled by the learning rate", _decay_without_lr),
    Hypothesis("decays twice a step", _decay_twice),
    Hypothesis("applies the step twice", _twice),
    Hypothesis("signs the refreshed momentum (Signum)", _signum),
    Hypothesis("beta1 and beta2 are swapped", _betas_swapped),
    Hypothesis("refreshes the momentum before the sign", _momentum_first),
    Hypothesis("signs the gradient alone (sign-SGD)", _sign_sgd),
    Hypothesis("beta1 is used for the momentum too; beta2 is ignored", _beta2_ignored),
    Hypothesis("never updates the momentum", _momentum_frozen),
)
