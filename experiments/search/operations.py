"""The functions of the language: arguments, result, properties, and their three rules.

Text and public code of the paper differ; what is taken, and why:

* The appendix names 43 functions, the main text says 45, and the code has 45 with + - * / max min:
  the 43, `negative`, and `invert`. `invert` (bitwise not) refuses floats, so no program can use it,
  and it is left out.
* `log`, `log2`, `log10` and `sqrt` act on |x| and `log1p` on |1 + x|, as in the code; the text
  says "as NumPy". `cbrt` is the cube root; the code returns a function object by mistake.
* `norm` gives one number per weight tensor. Here its result stands at every entry of that tensor,
  which is what a tree of numbers does in any later operation on a tree of arrays.
* Differs from the paper: divisors and arguments of logarithms keep away from zero by an epsilon,
  1e-30 in the float64 probes and 1e-12 in float32 training.
* `copy` (`a = b`) is not of the paper: it lets foreign texts be read. A search does not draw it.

Source: results/paper/search_functions.csv
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ARRAY, SCALAR = "array", "scalar"
"""Kinds of values: shaped like the weights, or one number for the whole model."""


@dataclass(frozen=True)
class Operation:
    """A function of the language.

    Attributes:
        name: As in the paper's list; + - * / are add, sub, mul, div.
        kinds: Per argument, "any", or "scalar" where the paper requires one.
        result: "widest": an array if any argument is one, otherwise a scalar; or "scalar".
        alike: Whether all arguments must be of the same kind.
        symbol: The infix operator, if it is written so.
        short: The name in the paper's programs, where it is another (`interp`).
        searched: Whether a search may insert it.
        odd: f(-x) = -f(x).
        commutative: f(x, y) = f(y, x).
    """

    name: str
    kinds: tuple[str, ...]
    result: str = "widest"
    alike: bool = False
    symbol: str | None = None
    short: str | None = None
    searched: bool = True
    odd: bool = False
    commutative: bool = False

    @property
    def arity(self) -> int:
        """Number of arguments."""
        return len(self.kinds)

    @property
    def written(self) -> str:
        """The name in a program's text."""
        return self.symbol or self.short or self.name

    @property
    def numpy(self) -> Callable[..., Any]:
        """The float64 rule; see `numpy_rules`."""
        from experiments.search.numpy_rules import RULES

        return RULES[self.name]

    @property
    def torch(self) -> Callable[..., Any]:
        """The rule for tensors; see `torch_rules`."""
        from experiments.search.torch_rules import RULES

        return RULES[self.name]

    @property
    def sympy(self) -> Callable[..., Any]:
        """The symbolic rule; see `sympy_rules`."""
        from experiments.search.sympy_rules import RULES

        return RULES[self.name]


ANY, TWO = ("any",), ("any", "any")
_ODD = ("arcsin", "arctan", "sinh", "tanh", "arcsinh", "arctanh", "cube", "cbrt")
_PLAIN = (
    *("exp", "exp2", "exp10", "expm1"),
    *("square", "sqrt", "abs", "log", "log2", "log10", "log1p"),
    *("cos", "arccos", "cosh", "arccosh"),
)

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("add", TWO, symbol="+", commutative=True),
        Operation("sub", TWO, symbol="-"),
        Operation("mul", TWO, symbol="*", commutative=True),
        Operation("div", TWO, symbol="/"),
        Operation("power", TWO),
        Operation("maximum", TWO, commutative=True),
        Operation("minimum", TWO, commutative=True),
        Operation("sign", ANY, odd=True),
        Operation("negative", ANY, odd=True),
        Operation("reciprocal", ANY, odd=True),
        Operation("sin", ANY, odd=True),
        Operation("tan", ANY, odd=True),
        *(Operation(name, ANY, odd=True) for name in _ODD),
        *(Operation(name, ANY) for name in _PLAIN),
        Operation("norm", ANY),
        Operation("global_norm", ANY, result=SCALAR),
        Operation("dot", TWO, result=SCALAR, alike=True, commutative=True),
        Operation("cosine_sim", TWO, result=SCALAR, alike=True, commutative=True),
        Operation("clip_by_global_norm", ("any", SCALAR), short="clip"),
        Operation("interpolate", ("any", "any", SCALAR), short="interp"),
        Operation("get_pi", (), result=SCALAR),
        Operation("get_e", (), result=SCALAR),
        Operation("get_eps", (), result=SCALAR),
        Operation("copy", ANY, searched=False, odd=True),
    )
}

ALIASES = {
    **{operation.short: operation.name for operation in OPERATIONS.values() if operation.short},
    "max": "maximum",
    "min": "minimum",
}
"""Other names that a program's text may use."""


def fingerprint() -> str:
    """12 hexadecimal digits of what mutations draw from: the functions in order, with kinds."""
    all_of = OPERATIONS.values()
    facts = [(one.name, one.kinds, one.result, one.alike, one.searched) for one in all_of]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
