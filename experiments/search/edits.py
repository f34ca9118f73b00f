"""How a program came from its parent: one edit, small enough to be logged with every child."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments.search.language import Program, Statement
from experiments.search.operations import OPERATIONS

INSERT, DELETE, REPLACE, WHOLE = "insert", "delete", "replace", "whole"


@dataclass(frozen=True)
class Edit:
    """A change of one statement, or (`whole`) a program that was drawn anew."""

    kind: str
    place: int = 0  # of the statement, from 0
    statements: tuple[Statement, ...] = ()  # the new one; none to delete; all of them: whole

    def apply(self, program: Program) -> Program:
        """The edited program."""
        before, place = program.statements, self.place
        if self.kind == WHOLE:
            return Program(self.statements)
        after = before[place:] if self.kind == INSERT else before[place + 1 :]
        return Program(before[:place] + self.statements + after)

    def text(self, parent: Program | None = None) -> str:
        """One line for a person.

        Args:
            parent: To name what is replaced or deleted.
        """
        if self.kind == WHOLE:
            return f"a new program of {len(self.statements)} statements"
        old = parent.statements[self.place].text() if parent and self.kind != INSERT else ""
        new = self.statements[0].text() if self.statements else ""
        return {
            INSERT: f"+ {self.place + 1}: {new}",
            DELETE: f"- {self.place + 1}: {old}",
            REPLACE: f"~ {self.place + 1}: {old} -> {new}",
        }[self.kind]

    def to_json(self) -> list[Any]:
        """For the log."""
        return [
            self.kind,
            self.place,
            [[s.target, s.function, *s.arguments] for s in self.statements],
        ]

    @classmethod
    def from_json(cls, row: list[Any]) -> Edit:
        """Reads back what `to_json` gave.

        Raises:
            ValueError: it is no such row.
        """
        kind, place, written = row
        for _, name, *rest in written:
            if name not in OPERATIONS or len(rest) != OPERATIONS[name].arity:
                raise ValueError(f"no function {name} of {len(rest)} arguments")
        statements = (Statement(target, name, tuple(rest)) for target, name, *rest in written)
        return cls(kind, int(place), tuple(statements))
