"""Backend "fused_cuda": Lion on a GPU as one Triton launch over all tensors of the same dtypes.

The default on CUDA devices where Triton works (it comes with torch's CUDA builds). Serves what the
fused CPU path serves, with the same roundings; whatever else is in the group goes to foreach or the
loop. Sizes of the launch are fixed: nothing is tuned by trying, so nothing is ever stepped twice.

The kernel finds the tensors through a table of their addresses, see `lion/device_tables.py`.
"""

import contextlib
import functools
import importlib.util
import struct
import warnings
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from lion import device_tables, momentum

DEVICE = "cuda"
BLOCK = 2048  # elements of a program; a multiple of momentum.BLOCK, whose scales it owns
NUM_WARPS = 8
MIN_CAPABILITY = (8, 0)
ALIGNMENT = 16  # bytes, of the widest loads

_PLAIN = (Tensor, Parameter)
_FLOATS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_MOMENTA = {**_FLOATS, torch.int8: "int8"}


class _Kind(NamedTuple):
    """What the tensors of one launch share."""

    device: torch.device
    param: str
    momentum: str
    aligned: bool


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
    """Step every tensor in place; arguments as in `lion.fused.update`.

    A float `lr` may change without a new compilation; a tensor on the device is read there, and
    gives the same bits as its value would as a float.

    Source: arXiv:2302.06675, Alg. 2
    """
    states = states or [{}] * len(params)
    rule = {"lr": lr, "beta1": beta1, "beta2": beta2, "maximize": maximize}
    rule["weight_decay"] = weight_decay
    rows = list(zip(params, grads, exp_avgs, states, strict=True))
    kinds: dict[_Kind | None, list[int]] = {}
    for i, row in enumerate(rows):
        kinds.setdefault(_kind(*row, lr), []).append(i)
    left: list[int] = []
    for kind, members in kinds.items():
        left += members if kind is None else _launch(kind, rows, members, rule)
    if left:
        _step_otherwise([rows[i] for i in sorted(left)], rule)


@functools.cache
def is_installed() -> bool:
    """Whether Triton can be imported; does not import it."""
    return importlib.util.find_spec("triton") is not None


def available(device: torch.device) -> bool:
    """Whether the kernel works on `device`: tries it there the first time, and warns once if not.

    False while a CUDA graph is captured and it was not tried before: compiling would break that.
    """
    if device not in _works:
        if device_tables.is_capturing(device):
            return False
        _works[device] = _try(device)
    return _works[device]


_works: dict[torch.device, bool] = {}


def _try(device: torch.device) -> bool:
    reason = None
    if torch.version.cuda is None:
        reason = "the Triton kernel has not been tried on this kind of GPU"
    elif not is_installed():
        reason = "Triton is not installed: pip install triton"
    elif torch.cuda.get_device_capability(device) < MIN_CAPABILITY:
        reason = f"the GPU is older than compute capability {MIN_CAPABILITY[0]}.0"
    else:
        scratch = [torch.zeros(1, device=device) for _ in range(3)]
        row, rule = (*scratch, {}), {"beta1": 0.5, "beta2": 0.5, "weight_decay": 0.0}
        try:
            kind = _Kind(device, "float32", "float32", True)
            _launch(kind, [row], [0], {**rule, "lr": 0.5, "maximize": False})
            torch.cuda.synchronize(device)
        except Exception as error:  # Triton, its C compiler and the driver each raise their own
            reason = f"Triton does not work here ({type(error).__name__}: {str(error)[:300]})"
    if reason:
        warnings.warn(
            f"Lion takes its slower path on {device}: {reason}, or use fused=False",
            RuntimeWarning,
            stacklevel=2,
        )
    return reason is None


# --- which tensors can be served -----------------------------------------------------------------


def _kind(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    state: Mapping[str, Tensor],
    lr: float | Tensor,
) -> _Kind | None:
    scale = state.get(momentum.SCALE)
    tensors = (param, grad, exp_avg) if scale is None else (param, grad, exp_avg, scale)
    device = param.device
    if device.type != DEVICE or param.dtype not in _FLOATS or exp_avg.dtype not in _MOMENTA:
        return None
    if grad.dtype != param.dtype or not all(_is_plain(x, device) for x in tensors):
        return None
    if isinstance(lr, Tensor) and not _is_plain(lr, device):
        return None
    if momentum.RESIDUAL in state:  # not in this kernel: it takes foreach
        return None
    if not _same_layout(param, grad, exp_avg) or not _fits(scale, exp_avg):
        return None
    aligned = not any(x.data_ptr() % ALIGNMENT for x in (param, grad, exp_avg))
    return _Kind(device, _FLOATS[param.dtype], _MOMENTA[exp_avg.dtype], aligned)


def _is_plain(x: Tensor, device: torch.device) -> bool:
    return type(x) in _PLAIN and x.device == device and not (x.is_neg() or x.is_inference())


def _same_layout(param: Tensor, grad: Tensor, exp_avg: Tensor) -> bool:
    if not param.shape == grad.shape == exp_avg.shape:
        return False
    if param.is_contiguous() and grad.is_contiguous() and exp_avg.is_contiguous():
        return True
    # Channels-last and its like: any order of memory will do, if all have it and there are no gaps.
    order = sorted(range(param.dim()), key=param.stride, reverse=True)
    return (
        param.stride() == grad.stride() == exp_avg.stride() and param.permute(order).is_contiguous()
    )


def _fits(scale: Tensor | None, exp_avg: Tensor) -> bool:
    if exp_avg.dtype != torch.int8:
        return True
    if scale is None or scale.dtype != torch.float32 or not scale.is_contiguous():
        return False
    return scale.numel() == -(-exp_avg.numel() // momentum.BLOCK)


@functools.lru_cache(maxsize=64)
def _overlapping(begins: bytes, ends: bytes) -> frozenset[int]:
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


def _step_otherwise(rows: list[tuple[Any, ...]], rule: dict[str, Any]) -> None:
    from lion import foreach, loop

    on_gpu = all(type(row[0]) in _PLAIN and row[0].is_cuda for row in rows)
    backend = foreach.update if on_gpu else loop.update  # see backends.choose
    momentum.update(backend, *zip(*rows, strict=True), **rule)


# --- the launch ----------------------------------------------------------------------------------


def _launch(
    kind: _Kind, all_rows: Sequence[tuple[Any, ...]], members: list[int], rule: dict[str, Any]
) -> list[int]:
    """Step the members, which are of one kind; return those that were left as they are."""
    rows = [all_rows[i] for i in members]
    begins = array("q", [row[0].data_ptr() for row in rows])
    ends = array("q", [b + row[0].nbytes for b, row in zip(begins, rows, strict=True)])
    skipped = _overlapping(begins.tobytes(), ends.tobytes())
    left = [member for i, member in enumerate(members) if i in skipped]
    rows = [row for i, row in enumerate(rows) if i not in skipped and row[0].numel()]
    if not rows:
        return left
    columns = list(zip(*rows, strict=True))
    addresses = array("q", [x.data_ptr() for column in columns[:3] for x in column])
    scales = (state.get(momentum.SCALE) for state in columns[3])
    addresses.extend([0 if x is None else x.data_ptr() for x in scales])
    sizes = tuple(x.numel() for x in columns[0])
    layout = device_tables.layout(sizes, BLOCK, kind.device)
    if layout is None:
        return members
    with _on(kind.device):
        _run(kind, device_tables.table(addresses, kind.device), layout, len(rows), **rule)
    # Autograd must notice, as after any in-place operation.
    torch.autograd.graph.increment_version([x for i in (0, 2) for x in columns[i]])
    return left


def _run(
    kind: _Kind,
    table: Tensor,
    layout: device_tables.Layout,
    num_tensors: int,
    *,
    lr: float | Tensor,
    beta1: float,
    beta2: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    if not is_installed():
        raise RuntimeError(
            "fused=True needs Triton on a GPU: pip install triton, or use fused=None"
        )
    from lion import triton_kernel

    direction = -1.0 if maximize else 1.0
    launch: Any = triton_kernel.lion_step[(layout.num_programs,)]
    on_device = isinstance(lr, Tensor)
    launch(
        table,
        layout.table,
        lr if on_device else table,
        num_tensors,
        0.0 if on_device else float(lr),
        0.0 if on_device else 1 - float(lr) * weight_decay,  # in double, and rounded once
        bits_of(weight_decay),
        beta1,
        direction * (1 - beta1),
        beta2,
        direction * (1 - beta2),
        PARAM=kind.param,
        MOMENTUM=kind.momentum,
        LR_ON_DEVICE=on_device,
        ALIGNED=kind.aligned,
        BLOCK=BLOCK,
        num_warps=NUM_WARPS,
        enable_fp_fusion=False,  # a contraction would round the sign's argument once too few
    )


def bits_of(x: float) -> int:
    """Return the 64 bits of a float as an integer: Triton takes floats as float32 only."""
    return struct.unpack("q", struct.pack("d", x))[0]


def _on(device: torch.device) -> "contextlib.AbstractContextManager[Any]":
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
