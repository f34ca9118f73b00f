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

All this takes s not to be 0. Where it is 0 the update is left open, but not what the buffers
become, on which later updates depend: a second execution, at s = 0, must move them alike.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from fractions import Fraction
from math import isqrt
from typing import Any

Terms = dict[tuple[int, ...], Fraction]  # exponents of (lr, s, sign(s), w, m, v) -> coefficient
LR, S, SIGN, W, M, V = range(6)


MOST_TERMS, MOST_BITS, HIGHEST_POWER = 500, 20_000, 1_000


class Refused(Exception):
    """The certificate does not hold, or says more than this checker can follow."""


class Beyond(Refused):
    """More than this checker can follow."""


def verify(certificate: dict[str, Any]) -> None:
    """Returns if the certificate holds.

    Raises:
        Refused: says what does not.
    """
    try:
        _verify(certificate)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Refused(f"unreadable: {error!r}") from error
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise Refused(f"the text is no program: {error!r}") from error


def _verify(certificate: dict[str, Any]) -> None:
    names = ("beta1", "beta2", "lr_scale", "weight_decay")
    beta1, beta2, scale, decay = (_number(certificate[name]) for name in names)
    signed = {name: _number(c) for name, c in certificate["signed"].items()}
    momentum = {name: _number(c) for name, c in certificate["momentum"].items()}
    zeros = set(certificate["zero"])
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and scale > 0):
        raise Refused("the betas must be in [0, 1), the scale positive")
    if zeros & set(signed) or not {*signed, *zeros} <= {"g", "m", "v"}:
        raise Refused("s is of g and of buffers that are not zero")
    values = _execute(certificate["program"], signed, zeros)
    if any(values[name] for name in zeros):
        raise Refused("a buffer that is said to stay zero does not")
    at_zero = _execute(certificate["program"], signed, zeros, s=Fraction(0))
    for name in {*signed, *zeros} - {"g"}:
        left = {e: c for e, c in values[name].items() if not e[S] and not e[SIGN]}
        if at_zero.get(name) != left:
            raise Beyond(f"what {name} becomes in a step in which s is 0")
    if values["update"] != _sum({_term(LR, SIGN): scale}, {_term(LR, W): scale * decay}):
        raise Refused("the update is not scale lr (sign(s) + decay w)")
    buffers = {name: signed[name] for name in signed if name != "g"}
    size = signed["g"] / (1 - beta1)
    if size <= 0 or set(momentum) != set(buffers):
        raise Refused("s is not a positive multiple of anything that Lion signs")
    if beta1 and any(buffers[name] != size * beta1 * momentum[name] for name in buffers):
        raise Refused("s is not k (beta1 m + (1 - beta1) g)")

    def step(g: int, x: dict[str, Fraction]) -> dict[str, Fraction]:
        """The buffers after a step; those of nothing but s and buffers have no other terms."""
        known = {_term(M if name == "m" else V): value for name, value in x.items()}
        known[_term(S)] = signed["g"] * g + sum(buffers[name] * x[name] for name in x)
        return {n: sum((c * known[t] for t, c in values[n].items()), Fraction(0)) for n in x}

    reached = step(1, dict.fromkeys(buffers, Fraction(0)))  # B, then A B, then A A B
    along = momentum if beta1 else buffers  # without beta1 the buffers must not reach s
    for wanted in ((1 - beta2) * beta2**power if beta1 else 0 for power in range(3)):
        if sum(along[name] * reached[name] for name in along) != wanted:
            raise Refused("p x does not move as Lion's momentum")
        reached = step(0, reached)


def _number(text: Any) -> Fraction:
    power = str(text).lower().partition("e")[2]
    if abs(int(power or 0)) > HIGHEST_POWER:
        raise Refused(f"{text} is no weight of an average")
    return Fraction(str(text))


def _term(*variables: int) -> tuple[int, ...]:
    """Exponents of a product: _term(LR, W, W) is lr w^2."""
    return tuple(variables.count(place) for place in range(6))


def _execute(
    text: str, signed: dict[str, Fraction], zeros: set[str], s: Fraction | None = None
) -> dict[str, Terms]:
    """The values of all variables after one step, in terms of s instead of g.

    With s = 0 those that cannot be followed, a division by zero above all, are left out.
    """
    (function,) = ast.parse(text).body
    if not isinstance(function, ast.FunctionDef) or ast.unparse(function.args) != "w, g, m, v, lr":
        raise Refused("the text is not one function of w, g, m, v, lr")
    places = {"g": S, "w": W, "m": M, "v": V, "lr": LR}
    values: dict[str, Terms] = {name: {_term(i): Fraction(1)} for name, i in places.items()}
    values.update({name: {} for name in zeros})
    shares = {n: (1 if n == "g" else -c) / signed["g"] for n, c in signed.items()}
    if s is not None:
        shares["g"] *= s
    values["g"] = _sum(*({_term(places[n]): share} for n, share in shares.items()))
    *body, last = function.body
    for node in body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                try:
                    values[name] = _value(value, values)
                except (Beyond, LookupError):
                    if s is None:
                        raise
                    values.pop(name, None)
            case _:
                raise Refused(f"line {node.lineno}: no assignment")
    if ast.unparse(last) != "return (update, m, v)":
        raise Refused("does not return update, m, v")
    return values


def _value(node: ast.expr, values: dict[str, Terms]) -> Terms:
    match node:
        case ast.Name(id=name):
            return values[name]
        case ast.Constant() | ast.UnaryOp():
            return _sum({_term(): Fraction(ast.unparse(node))})
        case ast.BinOp(left=left, op=op, right=right) if type(op).__name__ in RULES:
            return RULES[type(op).__name__](_value(left, values), _value(right, values))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in RULES:
            return RULES[name](*[_value(argument, values) for argument in arguments])
    raise Beyond(f"line {node.lineno}: cannot follow `{ast.unparse(node)}`")


def _sum(*parts: Terms) -> Terms:
    total: Terms = {}
    for exponents, c in (term for part in parts for term in part.items()):
        total[exponents] = total.get(exponents, Fraction(0)) + c
    total = {exponents: c for exponents, c in total.items() if c}
    for exponents, c in total.items():
        bits = max(c.numerator.bit_length(), c.denominator.bit_length())
        if len(total) > MOST_TERMS or bits > MOST_BITS or max(exponents) > HIGHEST_POWER:
            raise Beyond("a value of too many terms, digits or powers")
    return total


def _times(x: Terms, y: Terms) -> Terms:
    products = []
    for a, c in x.items():
        for b, d in y.items():
            exponents = [i + j for i, j in zip(a, b, strict=True)]
            exponents[SIGN] %= 2  # sign(s)^2 = 1
            products.append({tuple(exponents): c * d})
    return _sum(*products)


def _scaled(x: Terms, factor: Fraction) -> Terms:
    return {exponents: factor * c for exponents, c in x.items()}


def _negative(x: Terms) -> Terms:
    return _scaled(x, Fraction(-1))


def _only(x: Terms) -> tuple[tuple[int, ...], Fraction]:
    """The one term of a value, of lr and s only."""
    if len(x) != 1 or any(any(exponents[W:]) for exponents in x):
        raise Beyond("a function of something that is not a multiple of s or lr")
    return next(iter(x.items()))


def _sign(x: Terms) -> Terms:
    if not x:
        return {}
    if len(x) == 2 and len({(lr, s, *rest) for lr, s, _, *rest in x}) == 1:
        first = next(iter(x))  # lr^a s^b (p + q sign(s)): one sign where s > 0, another where s < 0
        _only({first: Fraction(1)})
        up = sum(x.values())
        down = sum(-c if (e[S] + e[SIGN]) % 2 else c for e, c in x.items())
        up, down = ((value > 0) - (value < 0) for value in (up, down))
        return _sum({_term(): Fraction(up + down, 2)}, {_term(SIGN): Fraction(up - down, 2)})
    exponents, c = _only(x)
    is_odd = (exponents[S] + exponents[SIGN]) % 2
    return {_term(*[SIGN] * is_odd): Fraction(1 if c > 0 else -1)}


def _absolute(x: Terms) -> Terms:
    return _times(x, _sign(x))


def _inverse(x: Terms) -> Terms:
    (lr, s, sign, *rest), c = _only(x)
    return {(-lr, -s, sign, *rest): 1 / c}


def _root(x: Terms) -> Terms:
    if not x:
        return {}
    (lr, s, _, *rest), c = _only(_absolute(x))
    root = Fraction(isqrt(c.numerator), isqrt(c.denominator))
    if s % 2 or root**2 != c:
        raise Beyond("the root of what is no square")
    return _absolute({(Fraction(lr, 2), s // 2, 0, *rest): root})  # type: ignore[dict-item]


def _to_the(x: Terms, y: Terms) -> Terms:
    exponent = y.get(_term(), Fraction(0))
    if set(y) != {_term()} or exponent not in range(1, 9):
        raise Beyond("a power that is no small whole number")
    return x if exponent == 1 else _times(x, _to_the(x, {_term(): exponent - 1}))


def _larger(x: Terms, y: Terms) -> Terms:
    return _scaled(_sum(x, y, _absolute(_sum(x, _negative(y)))), Fraction(1, 2))


def _at(place: int, value: int) -> Callable[[Terms], Terms]:
    """A function of which only the value at one whole number is known, 0 or 1."""

    def rule(x: Terms) -> Terms:
        if x != _sum({_term(): Fraction(place)}):
            raise Beyond("a function that is no algebra")
        return _sum({_term(): Fraction(value)})

    return rule


_ODD = ("sin", "tan", "arcsin", "arctan", "sinh", "tanh", "arcsinh", "arctanh", "cbrt")
RULES: dict[str, Callable[..., Terms]] = {
    **{"Add": lambda x, y: _sum(x, y), "Sub": lambda x, y: _sum(x, _negative(y)), "Mult": _times},
    **{"Div": lambda x, y: _times(x, _inverse(y)), "reciprocal": _inverse, "negative": _negative},
    **{"sign": _sign, "abs": _absolute, "sqrt": _root, "power": _to_the, "maximum": _larger},
    "interp": lambda x, y, a: _sum(x, _times(a, _sum(y, _negative(x)))),
    "square": lambda x: _times(x, x),
    "cube": lambda x: _times(x, _times(x, x)),
    "minimum": lambda x, y: _negative(_larger(_negative(x), _negative(y))),
    **{name: _at(0, 0) for name in (*_ODD, "expm1", "log1p")},
    **{name: _at(0, 1) for name in ("exp", "exp2", "exp10", "cos", "cosh")},
    **{name: _at(1, 0) for name in ("log", "log2", "log10", "arccos", "arccosh")},
}
