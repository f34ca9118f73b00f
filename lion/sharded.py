"""DTensors (FSDP2, tensor parallelism): Lion is elementwise, so every shard steps by itself.

The shards of a parameter, its gradient and its state are plain tensors, for which all backends are
made; a step through DTensor's own dispatch gives the same numbers, slowly.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lion.momentum import SCALE
from lion.sharded_momentum import is_sharded, own_state


def are_sharded(params: list[Tensor]) -> bool:
    """Whether any of them is a DTensor."""
    return any([is_sharded(param) for param in params])


def local_shards(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    states: list[Mapping[str, Any]],
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Mapping[str, Any]]]:
    """Return the columns with the local shard of every DTensor whose parts are all laid out alike.

    A gradient that waits to be reduced, or lies elsewhere than its parameter, stays a DTensor, and
    so do the parameter and the state that belong to it.

    Raises:
        RuntimeError: It stays so, and its momentum is int8.
    """
    if not are_sharded(params):
        return params, grads, exp_avgs, states
    rows = []
    for param, grad, exp_avg, state in zip(params, grads, exp_avgs, states, strict=True):
        others = [x for x in state.values() if isinstance(x, Tensor)]
        if is_sharded(param) and all(_laid_out_alike(param, x) for x in (grad, exp_avg, *others)):
            own = _shard(param)
            rows.append((own, _shard(grad), _shard(exp_avg), own_state(state, own, SCALE)))
        elif is_sharded(param) and SCALE in state:
            raise RuntimeError(
                "the gradient of a sharded parameter with an int8 momentum is laid out otherwise "
                "than the parameter: redistribute it, or use momentum_dtype='bfloat16'"
            )
        else:
            rows.append((param, grad, exp_avg, state))
    columns = zip(*rows, strict=True)
    return tuple(list(column) for column in columns)  # type: ignore[return-value]


def _laid_out_alike(param: Any, other: Any) -> bool:
    return (
        is_sharded(other)
        and other.placements == param.placements
        and other.device_mesh == param.device_mesh
        and not any(placement.is_partial() for placement in other.placements)
    )


def _shard(x: Any) -> Any:
    return x.to_local() if is_sharded(x) else x
