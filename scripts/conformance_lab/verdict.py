"""Is a recorded trajectory Lion's? Each step is checked from the state that it started from.

So one difference does not hide the next, and no error adds up: if every step is equal, so is the
trajectory. First the float64 reference, then the ways to round, then the hypotheses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from scripts.conformance_lab import roundings
from scripts.conformance_lab.hypotheses import HYPOTHESES, LION, At, Hypothesis, c_of
from scripts.conformance_lab.scenarios import BETAS, Scenario

EQUAL, ROUNDING, CANCELLATION = "bit-equal", "rounding", "cancellation"
DIFFERENT, ERROR, NOT_OFFERED = "different", "error", "not offered"
AGREEMENTS = (EQUAL, ROUNDING, CANCELLATION)
ULPS = 3  # roundings that a weight, a momentum or c may be off by
STORED_8_BIT = 1 / 127  # of the largest in its block, at most


@dataclass
class State:
    """The weights and momenta (decoded, if they are stored in 8 bits) between two steps."""

    weights: list[Tensor]
    momenta: list[Tensor]
    is_8_bit: list[bool]


@dataclass
class Recording:
    """States before the first step and after every step, or what went wrong."""

    scenario: Scenario
    states: list[State] = field(default_factory=list)
    first_step: int = 0
    error: str = ""
    not_offered: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    """A cell of the matrix.

    Attributes:
        kind: One of the constants above.
        reason: Why it is not bit-equal, found by measurement.
        sign_rate: The share of single weights and steps, of all, that go another way than with
            google's operations, where c cancels but for rounding.
    """

    kind: str
    reason: str = ""
    sign_rate: float = 0.0


@dataclass
class Step:
    """One step of one tensor."""

    at: At
    grad: Tensor  # zeros where it was missing; turned round if the scenario climbs
    before: tuple[Tensor, Tensor]
    after: tuple[Tensor, Tensor]
    is_8_bit: bool


def judge(recording: Recording) -> Verdict:
    """Classify a recording, and say why it is not bit-equal if it is not."""
    notes = "; ".join(recording.notes)
    if recording.not_offered:
        return Verdict(NOT_OFFERED, recording.not_offered)
    if recording.error:
        return Verdict(ERROR, recording.error)
    steps = list(_steps(recording))
    wrong, cancelled, total = _misfits(LION, steps)
    if wrong:
        return Verdict(DIFFERENT, _joined(_first_that_fits(steps, wrong, total), notes))
    reason = _rounding_reason(steps)
    if not reason:
        return Verdict(EQUAL, notes)
    turned = sum(_turned_signs(step) for step in steps) if cancelled else 0
    return Verdict(CANCELLATION if turned else ROUNDING, _joined(reason, notes), turned / total)


def _turned_signs(step: Step) -> int:
    """Count the weights that moved another way than with google's operations."""
    if step.at.missing:
        return 0
    (p, m), new = step.before, step.after[0]
    work = torch.promote_types(p.dtype, m.dtype)
    google = next(iter(roundings.weight_ways(_numbers(step), new.dtype)))[1]
    difference = (google(p.to(work), m.to(work), step.grad.to(work)) - new.to(work)).abs()
    room = ULPS * torch.finfo(new.dtype).eps * (p.abs() + step.at.lr)
    return int((difference > room).sum())


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _steps(recording: Recording) -> Iterator[Step]:
    scenario, states = recording.scenario, recording.states
    for number, (old, new) in enumerate(zip(states, states[1:], strict=False)):
        step = recording.first_step + number
        for i, grad in enumerate(scenario.grads[step]):
            resumed = step == scenario.resume_at
            settings = (scenario.lrs[step], scenario.lrs[0], scenario.weight_decay, *BETAS)
            at = At(step, *settings, missing=grad is None, resumed=resumed)
            given = torch.zeros_like(scenario.weights[i]) if grad is None else grad
            yield Step(
                at,
                -given if scenario.maximize else given,
                (old.weights[i], old.momenta[i]),
                (new.weights[i], new.momenta[i]),
                new.is_8_bit[i],
            )


def _misfits(hypothesis: Hypothesis, steps: Iterable[Step]) -> tuple[int, int, int]:
    """Count elements that do not fit, those excused by a cancellation, and all."""
    wrong = cancelled = total = 0
    for step in steps:
        off, near_zero = _compare(hypothesis, step)
        wrong += int((off & ~near_zero).sum())
        cancelled += int((off & near_zero).sum())
        total += off.size
    return wrong, cancelled, total


def _compare(hypothesis: Hypothesis, step: Step) -> tuple[np.ndarray, np.ndarray]:
    (p, m), at = (_array(x) for x in step.before), step.at
    g = _array(step.grad)
    with np.errstate(invalid="ignore"):
        if at.missing and not hypothesis.for_missing:
            expected_p, expected_m = p, m
        else:
            expected_p, expected_m = hypothesis.rule(p, g, m, at)
        new_p, kept_m = _array(step.after[0]), _array(step.after[1])
        eps = ULPS * torch.finfo(step.after[0].dtype).eps
        m_eps = ULPS * torch.finfo(step.after[1].dtype).eps
        size = at.beta1 * np.abs(m) + (1 - at.beta1) * np.abs(g)
        near_zero = (np.abs(c_of(g, m, at)) <= eps * size) & (size > 0)
        off_p = ~_close(new_p, expected_p, eps * (np.abs(p) + at.lr))
        room = m_eps * (np.abs(m) + np.abs(g))
        if step.is_8_bit:
            room = room + STORED_8_BIT * block_maximum(np.maximum(abs(expected_m), abs(kept_m)))
        off_m = ~_close(kept_m, expected_m, room)
        # A NaN weight is beyond repair, and shows it: nothing is asked of its momentum.
        off_m &= ~(np.isnan(new_p) & np.isnan(expected_p))
        off_m &= ~(step.is_8_bit & np.isnan(expected_m))  # no code stands for NaN
    return off_p | off_m, near_zero & ~off_m


def _close(x: np.ndarray, y: np.ndarray, room: np.ndarray) -> np.ndarray:
    return (np.abs(x - y) <= room) | (np.isnan(x) & np.isnan(y))


def block_maximum(x: np.ndarray, block: int = 256) -> np.ndarray:
    """Return, for every element, the largest of its block; NaN counts as 0."""
    flat = np.nan_to_num(x.reshape(-1))
    largest = [flat[i : i + block].max() for i in range(0, flat.size, block)]
    return np.repeat(largest, block)[: flat.size].reshape(x.shape)


def _array(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def _first_that_fits(steps: list[Step], wrong: int, total: int) -> str:
    for hypothesis in HYPOTHESES:
        if _misfits(hypothesis, steps)[0] == 0:
            return hypothesis.reason
    bad = next(s for s in steps if _misfits(LION, [s])[0])
    return f"unexplained: {wrong} of {total} values are off, first at step {bad.at.step + 1}"


def _rounding_reason(steps: list[Step]) -> str:
    """Say which operations give the recorded bits; empty if google's do."""
    moved = [s for s in steps if not s.at.missing]
    weight = _first_way(moved, roundings.weight_ways, 0)
    weight = weight and f"weight: {weight}"
    if any(s.is_8_bit for s in moved):
        share = _largest_8_bit_error(moved)
        return _joined(
            weight, f"momentum kept in 8 bits (off by {share:.1%} of its block's largest)"
        )
    kept = _first_way(moved, roundings.momentum_ways, 1)
    dtypes = {s.after[1].dtype for s in moved} - {s.after[0].dtype for s in moved}
    stored = "".join(f"kept in {str(d).removeprefix('torch.')}" for d in dtypes)
    momentum = ", ".join(x for x in (stored, kept) if x)
    return _joined(weight, momentum and f"momentum: {momentum}")


def _first_way(steps: list[Step], ways: Callable, part: int) -> str:
    dtype = steps[0].after[part].dtype
    names = [name for name, _ in ways(_numbers(steps[0]), dtype)]
    for index, name in enumerate(names):
        if all(
            _same_bits(step, list(ways(_numbers(step), dtype))[index][1], part) for step in steps
        ):
            return name
    return "within rounding, no way of computing that was tried gives the same bits"


def _numbers(step: Step) -> roundings.Numbers:
    at = step.at
    return roundings.Numbers(at.lr, at.weight_decay, at.beta1, at.beta2)


def _same_bits(step: Step, way: Callable[..., Tensor], part: int) -> bool:
    p, m = step.before
    work = torch.promote_types(torch.promote_types(p.dtype, m.dtype), step.after[1].dtype)
    m, g, result = m.to(work), step.grad.to(work), step.after[part]
    made = way(m, g) if part == 1 else way(p, m, g)
    beyond = step.after[0].isnan() & made.isnan() if part == 0 else step.after[0].isnan()
    return bool(((made.to(result.dtype) == result) | beyond).all())


def _largest_8_bit_error(steps: list[Step]) -> float:
    largest = 0.0
    for step in (s for s in steps if s.is_8_bit):
        g, m = _array(step.grad), _array(step.before[1])
        exact = LION.rule(_array(step.before[0]), g, m, step.at)[1]
        block = block_maximum(abs(exact))
        share = np.abs(_array(step.after[1]) - exact) / np.where(block > 0, block, 1)
        usable = share[~np.isnan(_array(step.after[0])) & np.isfinite(share)]
        largest = max(largest, float(usable.max(initial=0.0)))
    return largest
