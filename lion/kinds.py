"""Which tensors the Triton kernel can serve, and what those of one launch share (its "kind").

In Python for single tensors, and as `native_table.h` tells it of a whole group.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from lion import momentum

DEVICE = "cuda"
ALIGNMENT = 16  # bytes, of the widest loads
COLUMNS = 5  # addresses of a tensor in the table

_PLAIN = (Tensor, Parameter)
_FLOATS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_MOMENTA = {**_FLOATS, torch.int8: "int8"}


class Kind(NamedTuple):
    """What the tensors of one launch share."""

    device: torch.device
    param: str
    momentum: str
    compensated: bool = False
    aligned: bool = True
    grad_aligned: bool = True  # DDP's gradients are views at any multiple of 4 bytes


def kind_of(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    state: Mapping[str, Tensor],
    lr: float | Tensor,
) -> Kind | None:
    scale, residual = state.get(momentum.SCALE), state.get(momentum.RESIDUAL)
    tensors = [x for x in (param, grad, exp_avg, scale, residual) if x is not None]
    device = param.device
    if device.type != DEVICE or param.dtype not in _FLOATS or exp_avg.dtype not in _MOMENTA:
        return None
    if grad.dtype != param.dtype or not all(is_plain(x, device) for x in tensors):
        return None
    if any(x.is_inference() for x in tensors if x is not grad):  # writing would not be seen
        return None
    if isinstance(lr, Tensor) and not is_plain(lr, device):
        return None
    if residual is not None and not residual.dtype == param.dtype == torch.bfloat16:
        return None
    own = [x for x in (param, exp_avg, residual) if x is not None]
    if not _same_layout(param, grad, *own[1:]) or not _fits(scale, exp_avg):
        return None
    return Kind(
        device,
        _FLOATS[param.dtype],
        _MOMENTA[exp_avg.dtype],
        compensated=residual is not None,
        aligned=not any(x.data_ptr() % ALIGNMENT for x in own),
        grad_aligned=not grad.data_ptr() % ALIGNMENT,
    )


def is_plain(x: Tensor, device: torch.device) -> bool:
    return type(x) in _PLAIN and x.device == device and not x.is_neg()


def _same_layout(param: Tensor, *others: Tensor) -> bool:
    if not all(param.shape == x.shape for x in others):
        return False
    if param.is_contiguous() and all(x.is_contiguous() for x in others):
        return True
    # Channels-last and its like: any order of memory will do, if all have it and there are no gaps.
    order = sorted(range(param.dim()), key=param.stride, reverse=True)
    same = all(param.stride() == x.stride() for x in others)
    return same and param.permute(order).is_contiguous()


def _fits(scale: Tensor | None, exp_avg: Tensor) -> bool:
    if exp_avg.dtype != torch.int8:
        return True
    if scale is None or scale.dtype != torch.float32 or not scale.is_contiguous():
        return False
    return scale.numel() == -(-exp_avg.numel() // momentum.BLOCK)


@functools.lru_cache(maxsize=64)
def overlapping(begins: bytes, ends: bytes) -> frozenset[int]:
    # Parameters that share memory must be stepped one after the other: the other paths do. (Of
    # different kinds they are in different launches, which follow each other anyway.)
    spans = zip(memoryview(begins).cast("q"), memoryview(ends).cast("q"), strict=True)
    found, reach, owner = set(), 0, -1
    for i, (begin, end) in sorted(enumerate(spans), key=lambda item: item[1]):
        if begin == end:
            continue
        if begin < reach:
            found |= {i, owner}
        if end > reach:
            reach, owner = end, i
    return frozenset(found)


def kinds_of(
    table: "memoryview[int]", device: torch.device
) -> "Iterator[tuple[Kind, memoryview[int], bytes]]":
    """What `lion_table` wrote: the kinds, with the addresses and the sizes of their tensors."""
    at = 0
    while at < len(table):
        bits, number = table[at : at + 2]
        param = "bfloat16" if bits & 1 else "float32"
        stored = "int8" if bits & 4 else "bfloat16" if bits & 2 else "float32"
        flags = (bool(bits & bit) for bit in (8, 16, 32))
        middle, end = at + 2 + COLUMNS * number, at + 2 + (COLUMNS + 1) * number
        yield Kind(device, param, stored, *flags), table[at + 2 : middle], bytes(table[middle:end])
        at = end
