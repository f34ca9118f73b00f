"""What a command line says of a run that its log does not: every key is known, every value read."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.config import UserError

NUMBERS = (
    "lr", "weight_decay", "batch_size", "warmup_steps", "total_steps", "final_lr",
    "final_fraction", "grad_clip_norm", "resumed_at",
)  # fmt: skip
OF_RUN = ("optimizer", "experiment", "param_dtype", *NUMBERS)
OF_BASELINE = ("optimizer", "lr", "weight_decay", "final_lr", "final_fraction")
OF_SWEEP = ("better",)
ALIASES = {"learning_rate": "lr", "wd": "weight_decay", "optimizer_name": "optimizer"}
"""As others call them: what we do."""
_CHOICES = {
    "better": {"higher": "higher", "lower": "lower"},
    "param_dtype": {
        **{name: name for name in ("float32", "float64", "bfloat16", "float16")},
        **{"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"},
    },
}


def given(texts: Sequence[str], known: Sequence[str], option: str, what: str) -> dict[str, Any]:
    """Settings out of KEY=VALUE.

    Args:
        texts: As typed.
        known: Keys that mean something here.
        option: Where they were typed: --set.
        what: Of what they are: a run, a sweep.

    Raises:
        UserError: for a key that is not known, or a value that cannot be read.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, is_there, value = text.partition("=")
        if not is_there:
            raise UserError(f"{option} {text}: say KEY=VALUE, e.g. lr=1e-4")
        name = ALIASES.get(key, key)
        if name not in known:
            raise UserError(f"{option} {text}: {_unknown(name, known, what)}")
        found[name] = _value(name, value, f"{option} {text}")
    return found


def _unknown(name: str, known: Sequence[str], what: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    said = f"did you mean {near[0]}? " if near else ""
    return f"no such setting of {what}; {said}there are: {', '.join(known)}"


def _value(name: str, text: str, where: str) -> float | str:
    if name in NUMBERS:
        return _number(text, where)
    if name not in _CHOICES:
        return text
    choices: Mapping[str, str] = _CHOICES[name]
    chosen = choices.get(text.removeprefix("torch."))
    if chosen is None:
        raise UserError(f"{where}: must be one of {', '.join(dict.fromkeys(choices.values()))}")
    return chosen


def _number(text: str, where: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or found < 0:
        raise UserError(f"{where}: must be a number of at least 0 (and a space before the next)")
    return found
