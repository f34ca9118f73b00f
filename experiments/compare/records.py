"""Numbers that stand under a name: in a JSON object, a dict as Python prints it, a row of CSV.

A training program that logs writes one record after another; the last one with a number counts.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterable, Sequence
from typing import Any

_DELIMITERS = (",", ";", "\t", "|", "│")


def in_objects(texts: Iterable[str], keys: Sequence[str]) -> Any:
    """What stands under the keys in the first text that is, or ends with, an object with them.

    Before it may stand what a logger writes, or a progress bar that has no end of line.

    Raises:
        KeyError: where none is.
    """
    for text in texts:
        text = text[max(text.find("{"), 0) :]
        for read in (json.loads, _dict_of):
            try:
                return _looked_up(read(text), keys)
            except (ValueError, KeyError, TypeError, IndexError, RecursionError, SyntaxError):
                continue
    raise KeyError(".".join(keys))


def _looked_up(value: Any, keys: Sequence[str]) -> Any:
    """`val.acc` is the key "val.acc" (or "val/acc") of a flat object, or "acc" within "val"."""
    for name in (".".join(keys), "/".join(keys)):
        if isinstance(value, dict) and name in value:
            return value[name]
    for key in keys:
        value = value[key]
    return value


class _Plain(ast.NodeTransformer):
    """Names and calls of a printed dict as what they stand for: nan, np.float64(0.5), tensor(1)."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(float(node.id)) if node.id in ("nan", "inf") else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        return self.visit(node.args[0]) if node.args else node


def _dict_of(text: str) -> Any:
    """Raises: ValueError or SyntaxError for what is no printed dict; nothing of it is run."""
    text = text.strip()
    if not (text.startswith("{") and text.endswith("}")):
        raise ValueError(text)
    return ast.literal_eval(_Plain().visit(ast.parse(text, mode="eval")))


def in_column(lines: Sequence[str], name: str) -> str:
    """The last cell of a column that is not empty; columns are as the last heading with it says.

    Raises:
        KeyError: where no line is a heading with that name, or no cell below it is filled.
    """
    for delimiter in _DELIMITERS:
        rows = [_cells(line, delimiter) for line in lines]
        headings = [number for number, row in enumerate(rows) if name in row]
        if not headings:
            continue
        heading = rows[headings[-1]]
        place = heading.index(name)
        below = (row for row in rows[headings[-1] + 1 :] if len(row) == len(heading))
        if filled := [row[place] for row in below if row[place]]:
            return filled[-1]
    raise KeyError(name)


def _cells(line: str, delimiter: str) -> list[str]:
    """Of a line for itself: a quote that a program prints otherwise would swallow all after it."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:  # no row of any table
        return []
