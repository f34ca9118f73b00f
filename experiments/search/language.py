"""The language of the search: a program is the paper's text of one step of an optimizer.

    def train(w, g, m, v, lr):
      c = interp(g, m, 0.9)
      update = sign(c)
      m = interp(g, m, 0.99)
      update = update * lr
      return update, m, v

`w` are the weights, `g` the gradient, `m` and `v` two buffers that start at zero, `lr` the learning
rate of this step. The training loop calls it at every step, keeps what is returned as m and v, and
sets w = w - update: the program itself multiplies by lr. There are assignments only, each of one
function of variables and constants.

Source: arXiv:2302.06675, section 2.1, Program 1 (the text) and Program 2 (the loop)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from experiments.config import UserError
from experiments.search.operations import OPERATIONS

INPUTS: tuple[str, ...] = ("w", "g", "m", "v", "lr")
STATES: tuple[str, ...] = ("m", "v")
OUTPUTS: tuple[str, ...] = ("update", "m", "v")

Argument = str | float
"""A variable by its name, or a constant."""


class LanguageError(UserError):
    """A text that is no program; the message says where and what to write instead."""


class Statement(NamedTuple):
    """target = function(arguments); a function is a key of OPERATIONS."""

    target: str
    function: str
    arguments: tuple[Argument, ...]

    def text(self) -> str:
        """As the paper writes it, e.g. `m = interp(g, m, 0.9)`."""
        operation = OPERATIONS[self.function]
        written = [a if isinstance(a, str) else repr(a) for a in self.arguments]
        if operation.symbol:
            return f"{self.target} = {written[0]} {operation.symbol} {written[1]}"
        if operation.name == "copy":
            return f"{self.target} = {written[0]}"
        return f"{self.target} = {operation.written}({', '.join(written)})"


@dataclass(frozen=True)
class Program:
    """A program of the inputs `w, g, m, v, lr` that returns `update, m, v`."""

    statements: tuple[Statement, ...]

    def __len__(self) -> int:
        return len(self.statements)

    def text(self) -> str:
        """The paper's form, which `parse` reads back to an equal program."""
        lines = [f"  {statement.text()}\n" for statement in self.statements]
        return f"def train({', '.join(INPUTS)}):\n{''.join(lines)}  return {', '.join(OUTPUTS)}\n"

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits of the text's SHA-256."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:12]


def parse(text: str) -> Program:
    """Reads a program; see `reader` for what a text may be.

    Raises:
        LanguageError: the text is no program; names the line.
    """
    from experiments.search.reader import read

    return read(text)
