"""Decides whether a program is sign momentum, with which betas, and so whether it is Lion.

Three steps. The step of the program is executed in symbols (`algebra`); its update must be
lr (scale sign(s) + decay w) with s a linear filter of the gradients; the transfer function of that
filter (`filters`) names the betas. Updates in float64 on a probe must agree, too, which has weights
and gradients of zero: there w / w is no 1 (`assumptions`). The certificate says how the buffers
make up Lion's momentum, a bisimulation that `checker` verifies alone; where it cannot follow
(tanh), there is none.

Two programs count as equal if their updates are, for all gradients, weights and learning rates, in
exact arithmetic, wherever what is signed is not zero (there m / |m| is 0 / 0, and sign is 0).
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from experiments.search import assumptions, checker, filters, liveness, refutation, types
from experiments.search.algebra import Algebra, Result, Undecided, execute
from experiments.search.language import INPUTS, STATES, Program, Statement
from experiments.search.polynomials import rational
from experiments.search.verdict import FAMILY, Verdict

_HINDER = ("clip_by_global_norm", "arcsin", "sin", "tan", "arctan", "sinh", "tanh", "arcsinh")
"""Functions of one array that are left out, on trial, to say what a program would be without."""


class _NotSignMomentum(Exception):
    """Why not; `is_final` if that alone decides."""

    def __init__(self, reason: str, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


def prove(program: Program) -> Verdict:
    """Decides about one program.

    Raises:
        LanguageError: the program has no valid types.
    """
    verdict = recognise(program)
    if verdict.is_decided:
        return verdict
    witness = refutation.find_witness(liveness.prune(program))
    if witness is None:
        return replace(verdict, reason=f"undecided: {verdict.reason}")
    return replace(verdict, reason=f"{verdict.reason}; {witness}", is_decided=True)


def recognise(program: Program) -> Verdict:
    """As `prove`, without looking for an example against: quicker, and more often undecided.

    Raises:
        LanguageError: the program has no valid types.
    """
    program = liveness.prune(program)
    types.check(program)
    verdict = _decide(program)
    if verdict.is_decided:
        return verdict
    left_out, without = _without_hindrance(program)
    if without is None:
        return verdict
    reason = (
        f"{' and '.join(left_out)} of the gradient hinder an exact proof of equality; without them "
        f"the program is sign momentum with beta1 = {without.beta1}, beta2 = {without.beta2}, "
        f"weight decay {without.weight_decay}"
    )
    return replace(verdict, reason=reason, left_out=left_out, without=without)


def _decide(program: Program) -> Verdict:
    """A proof, an exact refutation, or a verdict that is not decided."""
    try:
        result = execute(program)
        return _judge(program, result)
    except Undecided as error:
        return Verdict(None, f"the algebra gave up: {error}", is_decided=False)
    except _NotSignMomentum as error:
        return Verdict(None, str(error), is_decided=error.is_final)


def _without_hindrance(program: Program) -> tuple[tuple[str, ...], Verdict | None]:
    """What the program would be with functions such as clip and arcsin of an array left out."""
    present = tuple(n for n in _HINDER if any(s.function == n for s in program.statements))
    if not present:
        return (), None
    plain = Program(
        tuple(
            Statement(s.target, "copy", s.arguments[:1]) if s.function in present else s
            for s in program.statements
        )
    )
    verdict = _decide(liveness.prune(plain))
    return (present, verdict) if verdict.family else ((), None)


def _judge(program: Program, result: Result) -> Verdict:
    if "lr" not in liveness.analyse(program).read:
        raise _NotSignMomentum("the step size does not follow lr", is_final=True)
    scale, decay, signed = _read_update(result)
    states = _needed(result, signed)
    system = _read_filter(result, signed, states)
    found = filters.betas(*filters.transfer(system))
    if isinstance(found, str):
        raise _NotSignMomentum(found, is_final=True)
    beta1, beta2 = found
    certificate = _certify(program, result, system, states, (beta1, beta2, scale, decay))
    partial = " and ".join(result.algebra.partial)
    if partial and not refutation.stays_finite(program):
        return Verdict(None, f"it would be sign momentum if {partial} were always defined")
    if not refutation.agrees(program, beta1, beta2, scale, decay):
        return _disagreement(result, signed)
    said = _in_words(beta1, beta2, scale, decay / scale)
    if partial:
        said = f"{said}, tried but not proved where {partial} is not defined"
    said = f"{said}{assumptions.in_words(program, result, signed)}"
    if not refutation.agrees_in_float32(program, beta1, beta2, scale, decay):
        said = f"{said}; in float32, in which programs are trained, its updates are others"
    try:
        checker.verify(certificate)
    except checker.Beyond as error:
        certificate, said = {}, f"{said}; without a certificate, which cannot follow: {error}"
    except checker.Refused as error:
        return Verdict(None, f"the proof and its checker disagree: {error}", is_decided=False)
    return Verdict(
        FAMILY,
        said,
        beta1=beta1,
        beta2=beta2,
        weight_decay=decay / scale,
        lr_scale=scale,
        certificate=certificate,
    )


def _disagreement(result: Result, signed: Any) -> Verdict:
    """Betas that fit but where something is zero are the only ones that could fit."""
    if what := assumptions.unproved(result.algebra, signed):
        return Verdict(
            None, f"it would be sign momentum if {what} were never 0; where it is, it is not"
        )
    return Verdict(None, "the proof and the updates in float64 disagree", is_decided=False)


def _in_words(beta1: Fraction, beta2: Fraction, scale: Fraction, decay: Fraction) -> str:
    said = (
        f"update = lr ({_times(scale)}sign(s) + {scale * decay} w)"
        if decay
        else (f"update = {_times(scale)}lr sign(s)")
    )
    if beta1 == 0:
        said += "; s is the gradient alone: beta1 = 0 with any beta2, of which 0 is named"
    else:
        said += f"; s is the filter of gradients with beta1 = {beta1}, beta2 = {beta2}"
    if decay < 0:
        said += "; its weight decay is negative, which Lion refuses"
    return f"{said}; equal wherever s is not 0"


def _times(scale: Fraction) -> str:
    return "" if scale == 1 else f"{scale} "


def _read_update(result: Result) -> tuple[Fraction, Fraction, Any]:
    """(scale, decay, s) of an update lr (scale sign(s) + decay w), scale > 0."""
    algebra, update = result.algebra, result.update / result.algebra.inputs["lr"]
    signs: dict[int, Fraction] = {}
    decay, wrong_lr, others = Fraction(0), False, False
    for name, exponents, coefficient in _terms(update):
        if exponents.pop("lr", 0):
            wrong_lr = True
        if exponents == {"w": 1}:
            decay += coefficient
        elif len(exponents) == 1 and exponents.get(name) == 1 and _is_sign(algebra, name):
            signs[int(name[1:])] = coefficient
        else:
            others = True
    if others or len(signs) != 1:
        raise _NotSignMomentum(_what_instead(result, others, len(signs)))
    if wrong_lr:
        raise _NotSignMomentum("the step size does not follow lr", is_final=True)
    ((index, scale),) = signs.items()
    signed = algebra.unknowns[index].argument
    return (scale, decay, signed) if scale > 0 else (-scale, decay, -signed)


def _what_instead(result: Result, others: bool, num_signs: int) -> str:
    if num_signs == 0:
        return "the update is not lr times the sign of something, plus weight decay"
    if num_signs > 1:
        return "the update adds several signs"
    return "the update has terms besides lr times a sign and weight decay"


def _is_sign(algebra: Algebra, name: str) -> bool:
    return name.startswith("u") and algebra.unknowns[int(name[1:])].argument is not None


def _terms(value: Any) -> list[tuple[str, dict[str, int], Fraction]]:
    """Terms of a value whose denominator is a monomial: last name, exponents, coefficient.

    Raises:
        _NotSignMomentum: the denominator is more than that.
    """
    if len(value.denom) != 1:
        raise _NotSignMomentum("the update is no sign: it divides by what varies")
    names = [str(g) for g in value.numer.ring.gens]
    ((below, divisor),) = value.denom.terms()
    found = []
    for monomial, coefficient in value.numer.terms():
        exponents = {n: e - b for n, e, b in zip(names, monomial, below, strict=True) if e != b}
        found.append((max(exponents, default=""), exponents, rational(coefficient / divisor)))
    return found


def _linear(value: Any, what: str) -> dict[str, Fraction]:
    """Coefficients of a value that is linear in the gradient and the buffers.

    Raises:
        _NotSignMomentum: it is not.
    """
    found = {}
    for _, exponents, coefficient in _terms(value):
        if len(exponents) != 1 or set(exponents.values()) != {1}:
            raise _NotSignMomentum(f"{what} is not linear in the gradient and the buffers")
        (name,) = exponents
        if name not in ("g", *STATES):
            raise _NotSignMomentum(f"{what} depends on {_say(name)}")
        found[name] = coefficient
    return found


def _say(name: str) -> str:
    return name if name in INPUTS else "a function that is not linear"


def _needed(result: Result, signed: Any) -> tuple[str, ...]:
    """The buffers that what is signed depends on, now or later."""
    needed: set[str] = set()
    values = [signed]
    while values:
        names = {name for _, exponents, _ in _terms(values.pop()) for name in exponents}
        new = names & set(STATES) - needed
        needed |= new
        values += [result.states[name] for name in sorted(new)]
    return tuple(name for name in STATES if name in needed)


def _read_filter(result: Result, signed: Any, states: tuple[str, ...]) -> filters.Filter:
    zero = Fraction(0)
    out = _linear(signed, "what is signed")
    rows = [_linear(result.states[name], f"buffer {name}") for name in states]
    return filters.Filter(
        [[row.get(name, zero) for name in states] for row in rows],
        [row.get("g", zero) for row in rows],
        [out.get(name, zero) for name in states],
        out.get("g", zero),
    )


def _certify(
    program: Program,
    result: Result,
    system: filters.Filter,
    states: tuple[str, ...],
    claim: tuple[Fraction, Fraction, Fraction, Fraction],
) -> dict[str, Any]:
    """All that an independent checker needs: see `checker`."""
    beta1, beta2, scale, decay = claim
    size = system.D / (1 - beta1)  # s = size (beta1 m + (1 - beta1) g)
    momentum = [c / (size * beta1) if beta1 else Fraction(0) for c in system.C]
    return {
        "format": 1,
        "program": program.text(),
        "beta1": str(beta1),
        "beta2": str(beta2),
        "lr_scale": str(scale),
        "weight_decay": str(decay / scale),
        "signed": {
            "g": str(system.D),
            **{name: str(c) for name, c in zip(states, system.C, strict=True)},
        },
        "zero": list(result.zeros),
        "momentum": {name: str(p) for name, p in zip(states, momentum, strict=True)},
    }
