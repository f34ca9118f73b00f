"""What a comparison says of the ratios of the best settings."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.compare.asking import digits
from experiments.compare.plan import Judged, Result
from experiments.compare.ratios import Ratio
from experiments.compare.spoken import amount, decimals, numbers


def of_ratios(result: Result, judged: Judged, unit: str) -> Iterator[str]:
    """By how much the best settings differ, or that it is not known.

    Args:
        result: Of the comparison.
        judged: One contestant of it.
        unit: Of the metric.
    """
    ours, theirs = judged.contestant.label, result.plan.baseline.label
    lr, decay = judged.ratios
    if lr.value is not None:
        said = f"{ours}'s best lr is {_times(lr)} than {theirs}'s {_range(lr)}"
        if decay.value is not None:
            said += f"; its best weight decay {_times(decay)} {_range(decay)}"
        yield f"{said}."
    else:
        yield f"Learning rate: {_unknown(result, lr, unit)}"
    if decay.value is None:
        yield f"Weight decay: {_unknown(result, decay, unit)}"
    elif lr.value is None:
        yield f"{ours}'s best weight decay is {_times(decay)} than {theirs}'s {_range(decay)}."


def _times(ratio: Ratio) -> str:
    assert ratio.value is not None
    times = max(ratio.value, 1 / ratio.value)
    said = digits(times, 3 if times < 1.095 else 2)  # 1 time larger says nothing
    return f"{said:g} times {'larger' if ratio.value >= 1 else 'smaller'}"


def _range(ratio: Ratio) -> str:
    assert ratio.value is not None and ratio.low is not None and ratio.high is not None
    ends = (ratio.low, ratio.high) if ratio.value >= 1 else (1 / ratio.high, 1 / ratio.low)
    return f"[{digits(ends[0], 2):g}, {digits(ends[1], 2):g}]"


def _unknown(result: Result, ratio: Ratio, unit: str) -> str:
    if ratio.reason == "flat" and ratio.range and ratio.loss is not None:
        number = numbers(result)
        low, high = ratio.range
        label = result.tuned[ratio.whose].contestant.label
        return (
            f"not determined; between {low:.2g} and {high:.2g} the fit of {label}'s results falls "
            f"by {amount(max(ratio.loss, 10.0 ** -decimals(result)), number, unit)} at most, "
            "which is no bound of what it changes."
        )
    if ratio.reason == "bound":
        return f"not determined; the ratio is at {_bound(ratio)}."
    if ratio.reason == "few":
        return "not determined; it was tried at three values only."
    if ratio.reason == "unused":
        label = result.tuned[ratio.whose].contestant.label if ratio.whose else ""
        of = f" of {label}" if label else ""
        return f"not determined; a larger one{of} changed no number when that was checked."
    if ratio.reason == "edge":
        return "not determined; a best value lies at the end of what was tried."
    return "not determined; the interval is too wide."


def _bound(ratio: Ratio) -> str:
    return f"least {ratio.low:.2g}" if ratio.low is not None else f"most {ratio.high:.2g}"
