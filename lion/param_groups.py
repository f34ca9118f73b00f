"""Decay, no-decay and frozen groups of a model's parameters, from patterns on their names."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from lion.checks import check_number


def param_groups(
    model: nn.Module,
    weight_decay: float,
    *,
    no_decay: Sequence[str] = (),
    frozen: Sequence[str] = (),
    no_decay_1d: bool = True,
    decay_multipliers: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Split the parameters of a model into a group with weight decay and one without.

    Patterns are shell-style (`fnmatch`), case-sensitive, and match the whole name as given by
    `model.named_parameters()`; `*` also crosses dots: "head.*", "*.bias", "*pos_embed*". Every
    parameter ends in exactly one of decay, no-decay and frozen. A tied parameter appears once and
    answers to each of its names.

    Args:
        model: The model, before any wrapper that renames its parameters.
        weight_decay: Decoupled decay of the decay group, >= 0.
        no_decay: Patterns of the parameters trained without decay.
        frozen: Patterns of the parameters not trained: they get `requires_grad=False` and no group.
        no_decay_1d: Whether parameters of at most 1 dimension (biases, norms, scalars) go without
            decay. Assumed: the paper does not say.
        decay_multipliers: Pattern to factor >= 0: of the parameters that decay, those that match
            decay so many times as much. Of several that match the first counts.

    Returns:
        Param groups for any torch optimizer: dicts with "params", "weight_decay" and "name"
        ("decay", then "decay x FACTOR" for each factor, then "no_decay"), parameters in the
        model's order; empty groups are left out.

    Raises:
        ValueError: A pattern matches nothing, a parameter belongs to two groups or to none, or
            nothing is left to train. The model is then unchanged.
    """
    multipliers = dict(decay_multipliers or {})
    for pattern, factor in multipliers.items():
        check_number(f"decay_multipliers[{pattern!r}]", factor)
    check_number("weight_decay", weight_decay)
    named = _names_by_parameter(model)
    every_name = [name for _, names in named for name in names]
    _check_patterns((*no_decay, *frozen, *multipliers), every_name)
    decays = {"decay": float(weight_decay)}
    decays |= {_label(f): float(weight_decay) * float(f) for f in multipliers.values()}
    decays["no_decay"] = 0.0
    groups: dict[str, list[Tensor]] = {name: [] for name in (*decays, "frozen")}
    for param, names in named:
        group = _group_of(param, names, no_decay, frozen, no_decay_1d)
        groups[_multiplied(names, multipliers) if group == "decay" else group].append(param)
    if not any(groups[name] for name in decays):
        raise ValueError(
            f"nothing to train: frozen={list(frozen)} takes all {len(named)} parameters"
        )
    for param in groups["frozen"]:
        param.requires_grad_(False)
    return [
        {"params": groups[name], "weight_decay": decay, "name": name}
        for name, decay in decays.items()
        if groups[name]
    ]


def _label(factor: float) -> str:
    return "decay" if factor == 1 else f"decay x {float(factor)!r}".removesuffix(".0")


def _multiplied(names: Sequence[str], multipliers: Mapping[str, float]) -> str:
    """The decay group of a parameter that decays."""
    for pattern, factor in multipliers.items():
        if any(fnmatchcase(name, pattern) for name in names):
            return _label(factor)
    return "decay"


def _names_by_parameter(model: nn.Module) -> list[tuple[nn.Parameter, list[str]]]:
    named: dict[int, tuple[nn.Parameter, list[str]]] = {}
    for name, param in model.named_parameters(remove_duplicate=False):
        named.setdefault(id(param), (param, []))[1].append(name)
    return list(named.values())


def _check_patterns(patterns: Sequence[str], names: list[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            nearest = get_close_matches(pattern, names, n=1, cutoff=0.0)
            hint = f"the nearest name is {nearest[0]!r}" if nearest else "the model has none"
            raise ValueError(f"pattern {pattern!r} matches no parameter: {hint}")


def _group_of(
    param: nn.Parameter,
    names: list[str],
    no_decay: Sequence[str],
    frozen: Sequence[str],
    no_decay_1d: bool,
) -> str:
    def matches(patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)

    label = " = ".join(repr(name) for name in names)
    if matches(frozen):
        if matches(no_decay):
            raise ValueError(
                f"{label} matches both no_decay and frozen: narrow one of the patterns"
            )
        return "frozen"
    if not param.requires_grad:
        raise ValueError(
            f"{label} is in no group, having requires_grad=False: name it in frozen or set it True"
        )
    no_decay_shape = no_decay_1d and param.ndim <= 1
    return "no_decay" if no_decay_shape or matches(no_decay) else "decay"
