"""Settings of next-token prediction; see `experiments.tasks.causal_language`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from experiments.config import ConfigError
from experiments.ranges import FLAG, PATH, TEXT, TREE, check_all, count, listed, optional


@dataclass
class OneShotConfig:
    """`job=evaluate evaluation=one_shot`; see `experiments.evaluations.one_shot`.

    Nothing here changes which run this is.
    """

    tasks: list[str] = field(default_factory=list)  # names; empty: the paper's 24
    folder: str | None = None  # of task pages of one's own (YAML)
    data: str | None = None  # folder with a local copy of each task's data
    num_fewshot: int = 1
    limit: int | None = None  # examples of each task; null: all


@dataclass
class CausalLanguageConfig:
    """Next-token prediction."""

    _target_: str = "experiments.tasks.causal_language.CausalLanguage"
    per_word: bool = False  # judge by nats per whitespace word, which no tokenizer can change
    loss_chunk: int | None = None  # tokens whose logits are held at a time; null: all
    one_shot: dict[str, Any] = field(default_factory=lambda: asdict(OneShotConfig()))


RANGES = {
    "per_word": FLAG,
    "loss_chunk": optional(count(1)),
    "one_shot": TREE,  # `one_shot` says what it may hold
}
"""The values that each setting may have."""
_ONE_SHOT = {
    "tasks": listed(TEXT),
    "folder": optional(PATH),
    "data": optional(PATH),
    "num_fewshot": count(0, 1000),
    "limit": optional(count(1)),
}


def one_shot(section: dict[str, Any]) -> OneShotConfig:
    """The section `one_shot`, checked.

    Raises:
        ConfigError: for a key that there is not, or a value that cannot be.
    """
    for key in section:
        if key not in _ONE_SHOT:
            raise ConfigError(
                f"task.one_shot.{key}: no such key; there are: {', '.join(_ONE_SHOT)}"
            )
    check_all(section, _ONE_SHOT, "task.one_shot")
    return OneShotConfig(**section)
