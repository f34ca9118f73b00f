"""Settings of masked language modelling; see `experiments.tasks.masked_language`."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.ranges import FLAG, number


@dataclass
class MaskedLanguageConfig:
    """Prediction of hidden tokens."""

    _target_: str = "experiments.tasks.masked_language.MaskedLanguage"
    masked_share: float = 0.15  # of a window's tokens that are predicted, rounded to a whole number
    random_share: float = 0.1  # of these: shown as a random token
    kept_share: float = 0.1  # of these: shown as they are; the rest is shown as the mask
    eval_all_masked: bool = False  # evaluations show the mask for all of them


RANGES = {
    "masked_share": number(above=0, most=1),
    "random_share": number(0, 1),
    "kept_share": number(0, 1),
    "eval_all_masked": FLAG,
}
"""The values that each setting may have."""
