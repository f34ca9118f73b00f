"""What is known of a program after a proof, in Python and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

FAMILY = "sign-momentum"


@dataclass(frozen=True)
class Verdict:
    """What is known of a program.

    Attributes:
        family: "sign-momentum", or None.
        beta1, beta2: Of the Lion with the same signs; None outside of the family.
        weight_decay: Decoupled decay of that Lion, which refuses one < 0; None outside of it.
        lr_scale: Lion's learning rate is this times `lr`; None outside of the family.
        reason: In words.
        is_decided: False if neither a proof nor a refutation was found.
        certificate: For `checker.verify`; empty outside of the family.
        left_out, without: Functions of an array (clip, arcsin) that hinder a proof, and what the
            program is without them; None if that is not sign momentum either.
    """

    family: str | None
    reason: str
    is_decided: bool = True
    beta1: Fraction | None = None
    beta2: Fraction | None = None
    weight_decay: Fraction | None = None
    lr_scale: Fraction | None = None
    certificate: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    without: Verdict | None = None

    def to_json(self) -> dict[str, Any]:
        """As `scripts/search.py prove --json` prints it: fractions as strings."""
        said = {
            name: None if value is None else str(value)
            for name in ("beta1", "beta2", "weight_decay", "lr_scale")
            for value in [getattr(self, name)]
        }
        equal = self.family is not None and self.weight_decay is not None and self.weight_decay >= 0
        without = None
        if self.without is not None:
            inner = self.without.to_json()
            kept = ("beta1", "beta2", "weight_decay", "lr_scale")
            without = {"left_out": list(self.left_out), **{name: inner[name] for name in kept}}
        return {
            "family": self.family,
            "beta1": said["beta1"],
            "beta2": said["beta2"],
            "equal_to_lion_with": [said["beta1"], said["beta2"]] if equal else None,
            "weight_decay": said["weight_decay"],
            "lr_scale": said["lr_scale"],
            "without": without,
            "decided": self.is_decided,
            "reason": self.reason,
        }
