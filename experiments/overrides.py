"""Overrides of a command line, made readable for Hydra's parser: paths simply work.

Hydra takes neither a tilde nor a letter outside of ASCII without quotes, and few other signs. What
it cannot read is quoted before it sees it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from experiments.config import RunConfig
from experiments.identity import OPERATIONAL_DATA_KEYS

_OVERRIDE = re.compile(r"(?s)([+~]{0,2}[\w./@:$-]+)=(.*)")
_WORD = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,\[\]{}'"\s:]+(?::[^,\[\]{}'"\s]+)*""")
_PLAIN = re.compile(r"[\w/.:+$%*@?|\\-]*", re.ASCII)


def quoted(overrides: Sequence[str]) -> list[str]:
    """The overrides, with quotes around what Hydra could not read otherwise.

    Keys of `data` beside `run=ID` are those of the recorded run, which its default page may lack.
    """
    found = [_quote_value(text) if _OVERRIDE.fullmatch(text) else text for text in overrides]
    if any(re.match(r"run=.", text) for text in overrides):
        found = [f"++{text}" if text.startswith("data.") else text for text in found]
    return found


def quoted_arguments(arguments: Sequence[str]) -> list[str]:
    """A whole command line: flags and their values as they are and first, then quoted overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    for text in arguments:
        is_value = bool(flags) and flags[-1] in _WITH_VALUE
        (flags if text.startswith("-") or is_value else overrides).append(text)
    return [*flags, *quoted(overrides)]


_WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package")
_WITH_VALUE += ("-p", "--cfg", "-c", "--experimental-rerun", "--trust")
_WITH_VALUE += (
    "--budget",
    "--effect",
    "--margin",
    "--timeout",
    "--name",
    "--dir",
    "--optimizers",
)  # job=compare
_WITH_VALUE += ("--baseline", "--lr", "--weight-decay")


def _quote_value(text: str) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    key, value = _OVERRIDE.fullmatch(text).groups()  # type: ignore[union-attr]
    if key == "start_from" and value.startswith("["):  # Hydra puts no list in place of a section
        key, text = "start_from.source", f"start_from.source={value}"
    if _PLAIN.fullmatch(value):
        return text
    attempts = [text, f"{key}={_in_quotes(value)}"]
    if "(" not in value:  # a list, or several values
        attempts.insert(1, f"{key}={_WORD.sub(_quote_word, value)}")
    for attempt in attempts:
        try:
            parser.parse_override(attempt)
        except HydraException:
            continue
        return attempt
    return text


def _quote_word(found: re.Match[str]) -> str:
    word = found[0]
    return word if word[0] in "'\"" or _PLAIN.fullmatch(word) else _in_quotes(word)


def _in_quotes(value: str) -> str:
    escaped = re.sub(r"(\\*)'", lambda m: m[1] * 2 + r"\'", value)
    escaped = re.sub(r"(\\+)$", lambda m: m[1] * 2, escaped)
    return f"'{escaped}'"


def expand_home(config: RunConfig) -> None:
    """Turns a leading tilde of every path of a configuration into the home folder."""
    config.results_dir = _expanded(config.results_dir)
    config.start_from = _expanded(config.start_from)
    for key in OPERATIONAL_DATA_KEYS:
        if key in config.data:
            config.data[key] = _expanded(config.data[key])


def _expanded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_expanded(one) for one in value]
    if not isinstance(value, str) or not value.startswith("~"):
        return value
    found = os.path.expanduser(value)
    return f"./{found}" if found.startswith("~") else found  # a name that is nobody's home
