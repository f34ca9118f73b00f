"""DTensors (FSDP2, tensor parallelism): Lion is elementwise, so every shard steps by itself.

The shards of a parameter, its gradient and its state are plain tensors, for which all backends are
made; a step through DTensor's own dispatch gives the same numbers, slowly.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def are_sharded(params: list[Tensor]) -> bool:
    """Whether any of them is a DTensor."""
    return any([_is_sharded(param) for param in params])


def local_shards(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    states: list[Mapping[str, Any]],
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Mapping[str, Any]]]:
    """Return the columns with the local shard of every DTensor whose parts are all laid out alike.

    A gradient that waits to be reduced, or lies elsewhere than its parameter, stays a DTensor, and
    so do the parameter and the state that belong to it.
    """
    if not are_sharded(params):
        return params, grads, exp_avgs, states
    rows = []
    for param, grad, exp_avg, state in zip(params, grads, exp_avgs, states, strict=True):
        others = [x for x in state.values() if isinstance(x, Tensor)]
        if _is_sharded(param) and all(_laid_out_alike(param, x) for x in (grad, exp_avg, *others)):
            state = {key: _shard(x) for key, x in state.items()}
            rows.append((_shard(param), _shard(grad), _shard(exp_avg), state))
        else:
            rows.append((param, grad, exp_avg, state))
    columns = zip(*rows, strict=True)
    return tuple(list(column) for column in columns)  # type: ignore[return-value]


def _is_sharded(x: Any) -> bool:
    return type(x).__name__ == "DTensor"  # importing the class would take a second


def _laid_out_alike(param: Any, other: Any) -> bool:
    return (
        _is_sharded(other)
        and other.placements == param.placements
        and other.device_mesh == param.device_mesh
        and not any(placement.is_partial() for placement in other.placements)
    )


def _shard(x: Any) -> Any:
    return x.to_local() if _is_sharded(x) else x
