"""What an optimizer takes for a checkpoint of its own rule, looked at before anything is loaded.

A state dict of another rule often has the same shapes and keys: loaded, it would change the
learning rate and go on from a momentum that means something else. All of that is refused.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Settings by which other rules of torch.optim, timm and this package are known.
_FOREIGN_SETTINGS = (
    *("amsgrad", "eps", "momentum", "dampening", "nesterov", "rho", "lambd", "etas", "ns_steps"),
    *("beta2_decay", "bias_correction", "alpha", "beta", "sign_decay"),
)
_FOREIGN_VARIANTS = ("caution", "corrected_weight_decay")  # of timm's Lion, if true


@dataclass(frozen=True)
class Signature:
    """By what a rule knows its own checkpoints."""

    settings: tuple[str, ...]
    """That every param group has."""
    state: tuple[str, ...] = ("exp_avg",)
    """That every parameter's state has, once there is one."""
    optional_state: tuple[str, ...] = ()
    shaped: tuple[str, ...] = ("exp_avg",)
    """Which of the state have the shape of their parameter."""
    check_state: Callable[[Mapping[str, Any], Tensor], None] | None = None
    """Raises ValueError if a parameter's state is otherwise wrong."""


def check(
    saved: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], name: str, own: Signature
) -> None:
    """Raise ValueError if `saved` is of another rule or of other shapes; change nothing.

    Args:
        saved: A state dict, as the user's hooks left it.
        groups: The param groups that it is to be loaded in.
        name: The optimizer's, for the message.
        own: What its checkpoints look like.
    """
    for group, saved_group in zip(groups, saved["param_groups"], strict=False):
        _check_settings(saved_group, name, own)
        # Other numbers of groups or parameters are torch's to refuse.
        for param, key in zip(group["params"], saved_group["params"], strict=False):
            state = saved["state"].get(key)
            if state:
                _check_state(state, param, name, own)


def _check_settings(group: Mapping[str, Any], name: str, own: Signature) -> None:
    variant = next((key for key in _FOREIGN_VARIANTS if group.get(key)), None)
    if variant:
        raise ValueError(
            f"the checkpoint comes from a different rule, timm's Lion with {variant}=True: "
            "continue it with timm, or clear that flag in its param_groups"
        )
    missing = [key for key in own.settings if key not in group]
    foreign = [key for key in _FOREIGN_SETTINGS if key in group and key not in own.settings]
    if missing or foreign:
        what = f"no {missing[0]!r}" if missing else f"{foreign[0]!r}"
        raise ValueError(
            f"the checkpoint comes from a different rule, its param groups have {what}: "
            f"{name} goes on from its own checkpoints only; use the optimizer that wrote it"
        )


def _check_state(state: Mapping[str, Any], param: Tensor, name: str, own: Signature) -> None:
    names = ", ".join(map(repr, state))
    for key in own.state:
        if key not in state:
            raise ValueError(
                f"the checkpoint's state has {names} and no {key!r}, which {name} needs"
                + (", google's and timm's name of the momentum: rename it" * (key == "exp_avg"))
            )
    foreign = [key for key in state if key not in (*own.state, *own.optional_state)]
    if foreign:
        raise ValueError(
            f"the checkpoint comes from a different rule, its state has {foreign[0]!r}: "
            f"{name} goes on from its own checkpoints only; use the optimizer that wrote it"
        )
    for key in own.shaped:
        value = state.get(key)
        if isinstance(value, Tensor) and value.shape != param.shape:
            raise ValueError(
                f"the checkpoint's {key!r} has shape {tuple(value.shape)} and its parameter "
                f"{tuple(param.shape)}: load it into the model that it was saved with"
            )
    if own.check_state:
        own.check_state(state, param)


def ordinary_tensors() -> "contextlib.AbstractContextManager[Any]":
    """A context whose new tensors are ordinary: one of inference mode could never be stepped."""
    if torch.is_inference_mode_enabled():
        return torch.inference_mode(False)
    return contextlib.nullcontext()


def ordinary(x: Any) -> Any:
    """`x`, or a copy of it if it is a tensor made in inference mode."""
    return x.clone() if isinstance(x, Tensor) and x.is_inference() else x
