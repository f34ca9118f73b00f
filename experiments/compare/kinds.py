"""Contestants by their names: what `conf/compare.yaml` knows of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from experiments.compare.asking import digits
from experiments.compare.plan import Contestant
from experiments.config import UserError
from experiments.pages import CONF


def page() -> dict[str, Any]:
    """`conf/compare.yaml`: the settings of `job=compare`, and what is known of contestants."""
    import yaml

    return yaml.safe_load((CONF / "compare.yaml").read_text())


def contestants(baseline: str, others: Sequence[str]) -> tuple[Contestant, tuple[Contestant, ...]]:
    """Contestants by their names, with what `conf/compare.yaml` knows of them.

    Raises:
        UserError: for a name that is there twice, or none to compare with.
    """
    settings = page()
    known, first = settings["contestants"], settings["without_weight_decay"]
    names = [baseline, *others]
    if len(set(names)) < len(names) or not others:
        raise UserError(f"compare at least two optimizers, each once; not {', '.join(names)}")

    def facts(name: str) -> dict[str, Any]:
        return next((known[word] for word in _words(name) if word in known), {})

    def begins_beside(name: str, other: str) -> tuple[float, float, str] | None:
        for of in facts(name).get("beside", []):
            if {*_words(other)} & {*of["of"]}:
                return of["lr_factor"], of["weight_decay_factor"], of.get("scouts", "")
        return None

    def begins(name: str, other: str) -> tuple[float, float, str]:
        if found := begins_beside(name, other):
            return found
        lr, decay, scouts = begins_beside(other, name) or (1.0, 1.0, "")  # AdamW beside Lion
        return round(1 / lr, 4), round(1 / decay, 4), scouts

    def one(name: str) -> Contestant:
        label = known.get(name.lower(), {}).get("label", name)
        if name == baseline:
            _, factor, _ = begins(first["of"], name)
            decay = digits(first["begins_at"] / factor, 2)
            return Contestant(name, label, first_decay=decay)
        return Contestant(name, label, *begins(name, baseline))

    return one(baseline), tuple(one(name) for name in others)


def _words(name: str) -> list[str]:
    """Of a name: `lion_32bit` and `torch.optim.AdamW` are of their kind, `million` is not."""
    return re.findall(r"[a-z]+", name.lower())
