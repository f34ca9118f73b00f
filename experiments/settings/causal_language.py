"""Settings of next-token prediction; see `experiments.tasks.causal_language`."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    one_shot: OneShotConfig = field(default_factory=OneShotConfig)
