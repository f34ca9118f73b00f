"""A plan as a page of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WIDTH = 18
_SHOWN_GROUPS = 6
_PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer_state": "optimizer state",
    "ema": "averaged weights",
    "cast_weights": "weights in bf16",
    "gathered": "gathered blocks",
    "activations": "activations",
    "batch": "batch",
    "total": "in all",
}


def in_words(plan: Mapping[str, Any]) -> list[str]:
    """Lines for a terminal.

    Args:
        plan: From `experiments.planner.plan.make`.
    """
    return [*_model(plan), "", *_memory(plan), "", *_optimizers(plan), "", *_time(plan)]


def _model(plan: Mapping[str, Any]) -> Iterator[str]:
    yield f"{plan['experiment']} with {plan['optimizer']}: {plan['what']}"
    trained = plan["params_trained"]
    frozen = "" if trained == plan["params_total"] else f", {trained:,} of them trained"
    yield _row("parameters", f"{plan['params_total']:,}{frozen}")
    sizes = sorted(plan["params_by_group"].items(), key=lambda pair: -pair[1])
    named = [f"{name} {_short(size)}" for name, size in sizes[:_SHOWN_GROUPS]]
    rest = sum(size for _, size in sizes[_SHOWN_GROUPS:])
    yield _row("", ", ".join([*named, *([f"others {_short(rest)}"] if rest else [])]))
    yield _row("steps", f"{plan['steps']:,}, each of {plan['batch_size']:,} x {plan['example']}")
    again = plan["flops_again_per_step"]
    once_more = f", and {_short(again)} computed again to save memory" if again else ""
    yield _row("FLOPs of a step", f"{_short(plan['flops_per_step'])}{once_more}")
    yield _row("of the run", _short(plan["flops_per_step"] * plan["steps"]))


def _memory(plan: Mapping[str, Any]) -> Iterator[str]:
    ways, devices = plan["memory_bytes_by_strategy"], plan["num_devices"]
    shown = ways if devices > 1 else {"ddp": ways["ddp"]}
    yield (
        f"Memory in GB (1e9 bytes) on {'one device' if devices == 1 else f'each of {devices}'}, "
        f"micro-batch {plan['micro_batch_size']}, {plan['precision']}, as on a "
        f"{plan['counted_for'].upper()}: computed, not measured"
    )
    if devices > 1:
        yield _row("", "".join(f"{way:>10}" for way in shown))
    parts = [part for part in _PARTS if any(way[part] for way in shown.values())]
    for part in parts:
        yield _row(_PARTS[part], "".join(f"{_gb(way[part]):>10}" for way in shown.values()))
    yield from _basis(plan["basis"], parts, 1 - plan["usable_memory"])
    yield _row("a checkpoint", _gb(plan["checkpoint_bytes"]))
    activations = plan["activation_bytes"]
    pairs = [(n.replace("_", " "), activations[n]) for n in activations if n.startswith("with")]
    said = [f"{_gb(size)} {name}" for name, size in pairs if size is not None]
    yield _row("activations", ", ".join(said))
    fits = [f"{size} GB: {number:,}" for size, number in plan["largest_micro_batch"].items()]
    yield _row("largest micro-batch", ", ".join(fits))


def _basis(basis: Mapping[str, str], parts: Sequence[str], free: float) -> Iterator[str]:
    """How sure each part is, and what is in none."""
    for kind in dict.fromkeys(basis.values()):
        named = [_PARTS[part] for part in parts if basis.get(part) == kind]
        if named:
            yield _row(kind, ", ".join(named))
    left = f"{free:.0%} of the memory is left for them"
    yield _row("not in it", f"the device's context, workspaces and fragments: {left}")


def _optimizers(plan: Mapping[str, Any]) -> Iterator[str]:
    sizes, asked = list(plan["largest_micro_batch"]), plan["micro_batch_at_most"]
    each = f"micro-batches of {asked}" if asked else "each its share of the batch at once"
    yield (
        f"Fewest devices that hold it, {each} ({plan['usable_memory']:.0%} of their memory used); "
        "smaller micro-batches may do with fewer"
    )
    heads = "".join(f"{f'{size} GB':>10}" for size in sizes)
    yield _row("", f"{'state, GB':>10}{'shared by':>11}{heads}")
    for name, ways in plan["devices_to_fit_by_optimizer"].items():
        state = _gb(plan["optimizer_state_bytes"][name])
        for way in ("ddp", "fsdp"):
            numbers = "".join(f"{_number(ways[way][size]):>10}" for size in sizes)
            yield _row(name if way == "ddp" else "", f"{state:>10}{way:>11}{numbers}")
            state = ""


def _time(plan: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Device-hours at {plan['peak_fraction']:.0%} of the peak rate (assumed; rates and their "
        "sources: conf/plan.yaml)"
    )
    for name, hours in plan["device_hours"].items():
        if hours is not None:
            yield _row(name, f"{_hours(hours):>10}")
    again = " what is computed again," if plan["flops_again_per_step"] else ""
    yield _row("not in them", f"{again} data, evaluations, the network".strip())


def _row(name: str, text: str) -> str:
    return f"  {name:<{WIDTH}} {text}".rstrip()


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _gb(size: int) -> str:
    value = size / 1e9
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value >= 1 else f"{value:.2g}"


def _short(value: float) -> str:
    """Three digits and a letter."""
    for power, letter in ((21, "Z"), (18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {letter}"
    return f"{value:,.0f}"
