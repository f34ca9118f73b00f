"""Verifies a certificate of `proof` on its own: this file imports nothing of this project.

A certificate names a program's text, the betas, the scale of lr, the weight decay, the linear form
s = D g + C x that is signed (x: the buffers), and how they make up Lion's momentum, m = p x.
The text is executed once more, in another way: g is replaced by (s - C x) / D, so that values are
sums of terms  coefficient * lr^a * s^b * sign(s)^c * w^d * (buffers), with |s| = s sign(s), and
everything that is no such sum is refused. Then all is checked that makes the program Lion:

    update = scale lr (sign(s) + decay w)                      the step is Lion's, if the signs are
    D = k (1 - beta1),  C x = k beta1 p x,  k > 0              s is k times what Lion signs
    p B = 1 - beta2,  p A r = beta2 p r  for r in {B, A B}     p x moves as Lion's momentum

with buffers x <- A x + B g, from zero, so that they never leave the span of B and A B. Buffers that
are named zero must be zero after a step that started with them at zero.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from fractions import Fraction
from typing import Any

Terms = dict[tuple[int, ...], Fraction]  # exponents of (lr, s, sign(s), w, m, v) -> coefficient
LR, S, SIGN, W, M, V = range(6)
ONE: tuple[int, ...] = (0, 0, 0, 0, 0, 0)


class Refused(Exception):
    """The certificate does not hold, or says more than this checker can follow."""


def verify(certificate: dict[str, Any]) -> None:
    """Returns if the certificate holds.

    Raises:
        Refused: says what does not.
    """
    try:
        number = {k: Fraction(certificate[k]) for k in ("beta1", "beta2", "lr_scale")}
        decay = Fraction(certificate["weight_decay"])
        signed = {k: Fraction(v) for k, v in certificate["signed"].items()}
        momentum = {k: Fraction(v) for k, v in certificate["momentum"].items()}
        zeros = [name for name in certificate["zero"] if name in ("m", "v")]
        values = _execute(certificate["program"], signed, zeros)
    except (KeyError, ValueError, SyntaxError, ZeroDivisionError, AttributeError) as error:
        raise Refused(f"unreadable: {error!r}") from error
    if any(values[name] for name in zeros) or set(zeros) & set(signed):
        raise Refused("a buffer that is said to stay zero does not")
    beta1, beta2, scale = number["beta1"], number["beta2"], number["lr_scale"]
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and scale > 0):
        raise Refused("the betas must be in [0, 1), the scale positive")
    lion = {_power(LR, 1, SIGN, 1): scale, _power(LR, 1, W, 1): scale * decay}
    if values["update"] != {k: v for k, v in lion.items() if v}:
        raise Refused("the update is not scale lr (sign(s) + decay w)")
    _check_momentum(values, signed, momentum, beta1, beta2)


def _check_momentum(
    values: dict[str, Terms],
    signed: dict[str, Fraction],
    p: dict[str, Fraction],
    beta1: Fraction,
    beta2: Fraction,
) -> None:
    size = signed["g"] / (1 - beta1)
    if size <= 0 or set(p) != set(signed) - {"g"}:
        raise Refused("s is not a positive multiple of anything that Lion signs")
    if beta1 and any(signed[name] != size * beta1 * p[name] for name in p):
        raise Refused("s is not k (beta1 m + (1 - beta1) g)")
    rows = {name: _row(values[name], signed, p) for name in p}
    reached = {name: row["g"] for name, row in rows.items()}
    if beta1 and sum(p[n] * reached[n] for n in p) != 1 - beta2:
        raise Refused("p B is not 1 - beta2")
    for _ in range(2):
        after = {n: sum((row[k] * reached[k] for k in p), Fraction(0)) for n, row in rows.items()}
        if beta1 and sum(p[n] * (after[n] - beta2 * reached[n]) for n in p):
            raise Refused("p x does not move as Lion's momentum")
        if not beta1 and sum(signed[n] * x for n, x in reached.items()):
            raise Refused("with beta1 = 0 the buffers may not reach s")
        reached = after


def _row(value: Terms, signed: dict[str, Fraction], p: dict[str, Fraction]) -> dict[str, Fraction]:
    """A value that is linear in s and the buffers, as coefficients of g and the buffers."""
    along_s = value.get(_power(S, 1), Fraction(0))
    row = {"g": along_s * signed["g"]}
    for name, place in (("m", M), ("v", V)):
        coefficient = value.get(_power(place, 1), Fraction(0)) + along_s * signed.get(name, 0)
        if name in p:
            row[name] = coefficient
        elif coefficient:
            raise Refused(f"the momentum depends on {name}, which the certificate leaves out")
    if set(value) - {_power(S, 1), _power(M, 1), _power(V, 1)}:
        raise Refused("a buffer is not linear in the gradient and the buffers")
    return row


def _power(*places: int) -> tuple[int, ...]:
    """Exponents: _power(LR, 1, W, 2) is lr w^2."""
    exponents = list(ONE)
    for place, exponent in zip(places[::2], places[1::2], strict=True):
        exponents[place] = exponent
    return tuple(exponents)


def _execute(text: str, signed: dict[str, Fraction], zeros: list[str]) -> dict[str, Terms]:
    """The values of all variables after one step, in terms of s instead of g."""
    function, *others = ast.parse(text).body
    if others or not isinstance(function, ast.FunctionDef):
        raise Refused("the text is not one function")
    if [a.arg for a in function.args.args] != ["w", "g", "m", "v", "lr"]:
        raise Refused("the inputs are not w, g, m, v, lr")
    places = {"w": W, "m": M, "v": V, "lr": LR}
    values: dict[str, Terms] = {n: {_power(i, 1): Fraction(1)} for n, i in places.items()}
    values.update({name: {} for name in zeros})
    values["g"] = {_power(S, 1): 1 / signed["g"]}
    for name, c in signed.items():
        if name != "g":
            values["g"] = _add(values["g"], {_power(places[name], 1): -c / signed["g"]})
    *body, last = function.body
    for node in body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            raise Refused(f"line {node.lineno}: no assignment")
        values[node.targets[0].id] = _value(node.value, values)
    if ast.unparse(last) != "return (update, m, v)":
        raise Refused("does not return update, m, v")
    return values


def _value(node: ast.expr, values: dict[str, Terms]) -> Terms:
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Constant | ast.UnaryOp):
        number = Fraction(ast.unparse(node))
        return {ONE: number} if number else {}
    if isinstance(node, ast.BinOp):
        name, arguments = type(node.op).__name__, [node.left, node.right]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name, arguments = node.func.id, node.args
    else:
        raise Refused(f"line {node.lineno}: cannot follow `{ast.unparse(node)}`")
    if name not in RULES:
        raise Refused(f"line {node.lineno}: cannot follow {name}")
    return RULES[name](*[_value(argument, values) for argument in arguments])


def _add(x: Terms, y: Terms) -> Terms:
    total = {k: x.get(k, Fraction(0)) + y.get(k, Fraction(0)) for k in {*x, *y}}
    return {k: v for k, v in total.items() if v}


def _times(x: Terms, y: Terms) -> Terms:
    total: Terms = {}
    for a, c in x.items():
        for b, d in y.items():
            sum_ = [i + j for i, j in zip(a, b, strict=True)]
            sum_[SIGN] %= 2  # sign(s)^2 = 1
            total = _add(total, {tuple(sum_): c * d})
    return total


def _only(x: Terms, *places: int) -> tuple[tuple[int, ...], Fraction]:
    """The one term of a value, made of these variables only."""
    if len(x) != 1 or any(e for i, e in enumerate(next(iter(x))) if e and i not in places):
        raise Refused("a function of something that is not a multiple of s or lr")
    return next(iter(x.items()))


def _sign(x: Terms) -> Terms:
    if not x:
        return {}
    exponents, c = _only(x, LR, S, SIGN)
    odd = (exponents[S] + exponents[SIGN]) % 2
    return {_power(SIGN, odd): Fraction(1 if c > 0 else -1)}


def _absolute(x: Terms) -> Terms:
    return _times(x, _sign(x))


def _inverse(x: Terms) -> Terms:
    exponents, c = _only(x, LR, S, SIGN)
    return {tuple(-e if i != SIGN else e for i, e in enumerate(exponents)): 1 / c}


def _root(x: Terms) -> Terms:
    if not x:
        return {}
    exponents, c = _only(_absolute(x), LR, S, SIGN)
    root = Fraction(_whole_root(c.numerator), _whole_root(c.denominator))
    if exponents[LR] % 2 or exponents[S] % 2:
        raise Refused("the root of what is no square")
    return _absolute({_power(LR, exponents[LR] // 2, S, exponents[S] // 2): root})


def _whole_root(number: int) -> int:
    from math import isqrt

    if isqrt(number) ** 2 != number:
        raise Refused("the root of what is no square")
    return isqrt(number)


def _to_the(x: Terms, y: Terms) -> Terms:
    exponent = y.get(ONE, Fraction(0))
    if set(y) != {ONE} or exponent.denominator != 1 or not 1 <= exponent <= 8:
        raise Refused("a power that is no small whole number")
    return x if exponent == 1 else _times(x, _to_the(x, {ONE: exponent - 1}))


def _interpolate(x: Terms, y: Terms, a: Terms) -> Terms:
    return _add(_times(_add({ONE: Fraction(1)}, _negative(a)), x), _times(a, y))


def _negative(x: Terms) -> Terms:
    return {k: -v for k, v in x.items()}


def _of_zero(x: Terms) -> Terms:
    if x:
        raise Refused("a function that is no algebra")
    return {}


_ODD = ("sin", "tan", "arcsin", "arctan", "sinh", "tanh", "arcsinh", "arctanh", "cbrt")
RULES: dict[str, Callable[..., Terms]] = {
    **{"Add": _add, "Mult": _times, "interp": _interpolate, "sign": _sign, "abs": _absolute},
    **{name: _of_zero for name in _ODD},
    **{"sqrt": _root, "reciprocal": _inverse, "negative": _negative},
    "Sub": lambda x, y: _add(x, _negative(y)),
    "Div": lambda x, y: _times(x, _inverse(y)),
    "square": lambda x: _times(x, x),
    "power": lambda x, y: _to_the(x, y),
    "cube": lambda x: _times(x, _times(x, x)),
    "maximum": lambda x, y: _larger(x, y),
    "minimum": lambda x, y: _negative(_larger(_negative(x), _negative(y))),
}


def _larger(x: Terms, y: Terms) -> Terms:
    half = {ONE: Fraction(1, 2)}
    return _times(half, _add(_add(x, y), _absolute(_add(x, _negative(y)))))
