"""Backend "fused": Lion on CPUs as one native pass over memory, all tensors in one call.

The default on CPUs where a C++ compiler is (see `lion/native.py`). Serves float32 and bfloat16
parameters that are dense, with gradients of the same dtype and layout, momenta in float32, bfloat16
or int8, and residuals; whatever else is in the group goes to the loop. In float32 it is the loop,
bit for bit (on a CPU with fused multiply-add). In bfloat16 torch's own kernels round the last
elements of a tensor, up to 31, in another way than the rest; this rounds all like the rest.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from operator import is_
from typing import Any

import torch
from torch import Tensor

from lion import momentum, native


def update(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    states: Sequence[Mapping[str, Tensor]] | None = None,
    *,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """Step every tensor in place; arguments as in `lion.loop.update`, and

    Args:
        states: Where `exp_avg_scale` and `kahan_comp` are found, if a tensor has them.

    Source: arXiv:2302.06675, Alg. 2
    """
    states = states or [{}] * len(params)
    rule = {"lr": lr, "beta1": beta1, "beta2": beta2, "maximize": maximize}
    rule["weight_decay"] = weight_decay
    left = range(len(params))
    if not isinstance(lr, Tensor):  # one on an accelerator is never read
        handles = array("Q", [x._cdata for column in (params, exp_avgs) for x in column])
        for key in (momentum.SCALE, momentum.RESIDUAL):
            handles.extend([x[key]._cdata if key in x else 0 for x in states])
        left = _call(handles, array("Q", [x._cdata for x in grads]), **rule)
    if left:
        from lion import loop

        columns: Any = ([column[i] for i in left] for column in (params, grads, exp_avgs, states))
        momentum.update(loop.update, *columns, **rule)


def update_rows(
    params: Tensor,
    grads: Tensor,
    exp_avgs: Tensor,
    *,
    lr: Sequence[float],
    beta1: Sequence[float],
    beta2: Sequence[float],
    weight_decay: Sequence[float],
) -> bool:
    """Step each row of (K, n) tensors in place by settings of its own, as `update` would.

    Args:
        params, grads, exp_avgs: On the CPU, float32 or bfloat16.
        lr, beta1, beta2, weight_decay: K each.

    Returns:
        False if nothing was done, because such tensors need another path.
    """
    handles = array("Q", [params._cdata, grads._cdata, exp_avgs._cdata])
    rules = array("f")
    for a, b1, b2, decay in zip(lr, beta1, beta2, weight_decay, strict=True):
        rules.extend(_rule(a, b1, b2, decay, 1.0))
    return not native.library().lion_step_rows(
        handles.buffer_info()[0], len(lr), rules.buffer_info()[0], torch.get_num_threads()
    )


def step_group(
    group: Mapping[str, Any], state: Mapping[Tensor, dict[str, Any]], before: int = 0
) -> bool:
    """Step a whole group from its `params` and their state, without looking at each in Python.

    Args:
        group: A param group of Lion, its `lr` a number or a tensor on the CPU.
        state: The optimizer's state.
        before: How many parameters the groups before this one have.

    Returns:
        False if nothing was done, because a tensor needs another path or has no state yet.
    """
    handles = group_handles(group, state, before)
    if handles is None:
        return False
    lr = group["lr"]
    beta1, beta2 = group["betas"]
    return not _call(
        handles,
        None,
        lr=lr.item() if isinstance(lr, Tensor) else lr,
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        maximize=group["maximize"],
    )


def group_handles(
    group: Mapping[str, Any], state: Mapping[Tensor, dict[str, Any]], before: int = 0
) -> "array[int] | None":
    """Return what the native code takes a group's tensors by; None if one has no state yet.

    Args:
        group, state, before: As `step_group` takes them.

    Returns:
        The handles of the parameters, then of their momenta, scales and residuals; 0 is none.
    """
    params = group["params"]
    try:
        states = [x or _NO_STATE for x in _states(params, state, before)]
        exp_avgs = [x["exp_avg"] for x in states]
    except KeyError:
        return None
    handles = array("Q", [x._cdata for x in [*params, *exp_avgs]])
    for key, used in (
        (momentum.SCALE, group["momentum_dtype"] == "int8"),
        (momentum.RESIDUAL, group["kahan_sum"]),
    ):
        if used:
            handles.extend([x[key]._cdata if key in x else 0 for x in states])
        else:
            handles.frombytes(bytes(8 * len(params)))
    return handles


def _states(
    params: Sequence[Tensor], state: Mapping[Tensor, dict[str, Any]], before: int
) -> "Iterable[dict[str, Any] | None]":
    # As a rule the states lie in the order of the parameters, and to look one up is slow: a
    # tensor's hash is a function of Python.
    end = before + len(params)
    if len(state) >= end and all(map(is_, params, islice(state, before, end))):
        return islice(state.values(), before, end)
    return map(state.get, params)


class _Nothing:
    _cdata = 0


_NO_STATE: dict[str, Any] = {"exp_avg": _Nothing}


def _rule(
    lr: float, beta1: float, beta2: float, weight_decay: float, direction: float
) -> tuple[float, ...]:
    # As `Rule` has them; in double, and rounded once, as a Python factor of a tensor is.
    gains = direction * (1 - beta1), direction * (1 - beta2)
    return 1 - lr * weight_decay, beta1, gains[0], beta2, gains[1], lr


def _call(
    handles: "array[int]",
    grads: "array[int] | None",
    *,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
    maximize: bool,
) -> list[int]:
    # Returns which tensors were left; if the gradients are the parameters' own, all or none are.
    number = len(handles) // 4
    left = array("B", bytes(number))
    num_left = native.library().lion_step(
        number,
        handles.buffer_info()[0],
        None if grads is None else grads.buffer_info()[0],
        left.buffer_info()[0],
        grads is None,
        torch.get_num_threads(),
        *_rule(lr, beta1, beta2, weight_decay, -1.0 if maximize else 1.0),
    )
    if num_left < 0:
        return list(range(number))
    return [i for i, flag in enumerate(left) if flag] if num_left else []
