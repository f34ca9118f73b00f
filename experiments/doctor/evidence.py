"""What is known of a run, whoever has logged it: its settings, and numbers over its steps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Series = list[tuple[float, float]]
"""Step and value, in the order of the steps."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or most likely is."""

    rule: str
    evidence: str
    remedy: str
    source: str


@dataclass
class Evidence:
    """Of one run.

    `settings` may have optimizer, lr, weight_decay, batch_size, warmup_steps, total_steps,
    final_fraction, schedule, grad_clip_norm, param_dtype, state; `baseline` the same of a run or
    recipe of another optimizer. `series` has loss, lr, grad_norm, clip_share, and by group
    (`update_rms/decay`) what `experiments.telemetry` measures.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    resumed_at: list[float] = field(default_factory=list)

    def values(self, name: str) -> list[float]:
        """The finite values of a series."""
        return [value for _, value in self.series.get(name, []) if math.isfinite(value)]

    def groups_of(self, metric: str) -> list[str]:
        """Groups of which a metric was measured."""
        found = [n.partition("/")[2] for n in self.series if n.partition("/")[0] == metric]
        return [name for name in found if name]

    def number(self, name: str) -> float | None:
        """A setting that is a number."""
        return _number(self.settings.get(name))

    @property
    def is_sign_based(self) -> bool:
        """Whether every update of its optimizer is the lr or its negative."""
        return str(self.settings.get("optimizer", "")).lower() in knowledge()["sign_based"]


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def later_half(values: list[float]) -> float | None:
    """The median of the second half; None where there is nothing."""
    return statistics.median(values[len(values) // 2 :]) if values else None


@cache
def knowledge() -> Mapping[str, Any]:
    """`conf/doctor.yaml`."""
    import yaml

    from experiments.pages import CONF

    return yaml.safe_load((CONF / "doctor.yaml").read_text())


def limit(name: str) -> Any:
    """Where a rule draws its line."""
    return knowledge()["limits"][name]
