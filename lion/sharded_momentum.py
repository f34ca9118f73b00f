"""int8 momenta of sharded parameters (DTensors cut by rows, as FSDP2 cuts them).

A block of 256 codes lies within one shard, so that every process steps its own. The scales are then
(shards, blocks of a whole shard): a row for each shard, the last blocks of a row perhaps unused. So
a checkpoint tells by itself how it was sharded, and another number of processes can load it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

BLOCK = 256  # elements that share a scale
NAN_CODE = -128


class Rows(NamedTuple):
    """How a parameter is cut by rows."""

    number: int
    """Of shards."""
    index: int
    """Of this process's shard."""
    size: int
    """Elements of a whole shard; the last ones may have fewer, or none."""

    @property
    def num_blocks(self) -> int:
        """Of a whole shard."""
        return num_blocks(self.size)


def num_blocks(num_elements: int) -> int:
    """Scales of so many codes."""
    return -(-num_elements // BLOCK)


def is_sharded(x: Any) -> bool:
    """Whether it is a DTensor."""
    return type(x).__name__ == "DTensor"  # importing the class would take a second


def rows_of(param: Any) -> Rows | None:
    """Return how a DTensor is cut by rows (perhaps into one shard), None if otherwise."""
    number, index = 1, 0
    for dim, placement in enumerate(param.placements):
        if placement.is_replicate():
            continue
        if type(placement).__name__ != "Shard" or placement.dim != 0 or number > 1:
            return None
        number, index = param.device_mesh.size(dim), param.device_mesh.get_local_rank(dim)
    return Rows(number, index, shard_size(param.shape, number))


def shard_size(shape: torch.Size, number: int) -> int:
    """Elements of a whole shard of a tensor that is cut by rows."""
    return -(-shape[0] // number) * shape[1:].numel() if shape else 1


def zero_scale(param: Any) -> Tensor:
    """Return the scales of a new momentum: a DTensor, one row in each process."""
    from torch.distributed.tensor import DTensor

    rows = _rows(param)
    own = torch.zeros(1, rows.num_blocks, device=param.device)
    return DTensor.from_local(own, param.device_mesh, param.placements, run_check=False)


def own_scale(local: Tensor, shard: Tensor) -> Tensor:
    """Return of the row of a process what its shard has codes for, in the same memory."""
    return local[0, : num_blocks(shard.numel())]


def is_fitting(scale: Tensor, shape: torch.Size) -> bool:
    """Whether saved scales are for a parameter of this shape: of a whole one, or of its shards."""
    if scale.dim() < 2:
        return scale.numel() == num_blocks(shape.numel())
    return scale.shape[1] == num_blocks(shard_size(shape, scale.shape[0]))


def decode(exp_avg: Any, scale: Any, param: Any) -> Tensor:
    """Return this process's part of a saved momentum, in float32, however it was sharded.

    Args:
        exp_avg: Codes in the shape of the parameter, laid out like it, in the order of its rows.
        scale: Of all shards, the same in every process; or, where it has the parameter's shape (one
            scale for each code), laid out like it.
        param: That it now belongs to, sharded or not.
    """
    codes = _local(exp_avg)
    values = codes.to(torch.float32)
    values.masked_fill_(codes == NAN_CODE, torch.nan)
    if scale.shape == param.shape:
        return values * _local(scale)
    start = _start(_rows(param))
    places = torch.arange(start, start + codes.numel(), device=codes.device)
    return values * _scales_at(places, scale, param.shape).view_as(values)


def own_scales(scale: Any, param: Any) -> Tensor | None:
    """Return the saved scales of this process's blocks; None if those were other blocks.

    They are the same for as many shards as before, and for any number of shards whose size is a
    multiple of a block's.
    """
    rows, number = _rows(param), 1 if scale.dim() < 2 else scale.shape[0]
    blocks = num_blocks(_local(param).numel())
    if is_sharded(scale) and not all(p.is_replicate() for p in scale.placements):
        return _local(scale)[0, :blocks] if scale.shape == (rows.number, rows.num_blocks) else None
    if number == rows.number:
        return _local(scale).reshape(number, -1)[rows.index, :blocks]
    sizes = {rows.number: rows.size, number: shard_size(param.shape, number)}
    if any(n > 1 and size % BLOCK for n, size in sizes.items()):
        return None
    places = _start(rows) + BLOCK * torch.arange(blocks, device=scale.device)
    return _scales_at(places, scale, param.shape)


def _scales_at(places: Tensor, scale: Any, shape: torch.Size) -> Tensor:
    """The scales of codes at these places, counted in the order of the rows of the whole."""
    table = _local(scale).reshape(-1, scale.shape[-1])
    size = shard_size(shape, len(table))
    return table.reshape(-1)[places // size * table.shape[1] + places % size // BLOCK]


def _rows(param: Any) -> Rows:
    rows = rows_of(param) if is_sharded(param) else Rows(1, 0, param.numel())
    assert rows is not None, "check_storable refuses it"
    return rows


def _start(rows: Rows) -> int:
    return rows.index * rows.size


def own_state(state: Mapping[str, Any], shard: Tensor, scale_key: str) -> dict[str, Any]:
    """Return a sharded state as plain tensors, that the kernels for plain tensors can take."""
    own = {key: _local(x) for key, x in state.items()}
    if scale_key in own:
        own[scale_key] = own_scale(own[scale_key], shard)
    return own


def _local(x: Any) -> Any:
    return x.to_local() if is_sharded(x) else x
