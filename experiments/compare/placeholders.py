"""What stands in braces in a user's command or path, and how it is filled in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from experiments.config import UserError

NEEDED = ("optimizer", "lr", "weight_decay", "seed")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SHORT = {"wd": "weight_decay", "opt": "optimizer", "learning_rate": "lr"}


def named(text: str) -> set[str]:
    """The placeholders of a text, by their long names."""
    return {_SHORT.get(str(name), str(name)) for name in _PLACEHOLDER.findall(text)}


def filled(text: str, values: Mapping[str, Any]) -> str:
    """A text with its placeholders filled in; other braces stay as they are."""

    def one(match: re.Match[str]) -> str:
        name = _SHORT.get(match[1], match[1])
        return str(values[name]) if name in values else match[0]

    return _PLACEHOLDER.sub(one, text)


def filled_for_shell(command: str, values: Mapping[str, Any]) -> str:
    """The same in a command; a value is quoted as its place asks, which may lie within quotes."""
    done, quote, place = [], "", 0
    while place < len(command):
        char, match = command[place], _PLACEHOLDER.match(command, place)
        name = _SHORT.get(match[1], match[1]) if match else ""
        if match and name in values:
            done.append(_quoted(str(values[name]), quote))
            place = match.end()
            continue
        if char == "\\" and quote != "'":
            char = command[place : place + 2]
        elif char in "'\"" and quote in ("", char):
            quote = "" if quote else char
        done.append(char)
        place += len(char)
    return "".join(done)


def _quoted(value: str, quote: str) -> str:
    if quote == "'":
        return value.replace("'", "'\"'\"'")
    return re.sub(r'([\\"$`])', r"\\\1", value) if quote else shlex.quote(value)


def in_full(value: float) -> str:
    """A number that every reader takes for one that may have a fraction: to YAML 1.1 the word 5e-05
    is text, and whoever evaluates 1 (`literal_eval`) has an int."""
    text = f"{Decimal(f'{value:.12g}'):f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"


def check_command(text: str) -> None:
    """Raises: UserError where a placeholder is missing."""
    missing = [name for name in NEEDED if name not in named(text)]
    if missing:
        said = ", ".join(f"{{{name}}}" for name in missing)
        raise UserError(
            f"--command lacks {said}: the comparison must be able to set it, e.g. "
            "'python train.py --opt {optimizer} --lr {lr} --wd {weight_decay} --seed {seed}'"
        )
