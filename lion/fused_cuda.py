"""Backend "fused_cuda": Lion on a GPU as one Triton launch over all tensors of the same dtypes.

The default on CUDA devices where Triton works (it comes with torch's CUDA builds). Serves what the
fused CPU path serves, with the same roundings; whatever else is in the group goes to foreach or the
loop. Sizes of the launch are fixed: nothing is tuned by trying, so nothing is ever stepped twice.

The kernel finds the tensors through a table of their addresses, see `lion/device_tables.py`. Where
a C++ compiler is, native code looks at the tensors and writes the table (`step_group`): in Python
that takes longer than the kernel.
"""

import contextlib
import functools
import importlib.util
import struct
import warnings
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lion import device_tables, fused, kinds, momentum, native
from lion.kinds import COLUMNS, Kind

BLOCK = 2048  # elements of a program; a multiple of momentum.BLOCK, whose scales it owns
NUM_WARPS = 8
MIN_CAPABILITY = (8, 0)


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
    members_of: dict[Kind | None, list[int]] = {}
    for i, row in enumerate(rows):
        members_of.setdefault(kinds.kind_of(*row, lr), []).append(i)
    left: list[int] = []
    for kind, members in members_of.items():
        served = kind is not None and (kind.device.type != "cuda" or _kind_works(kind, lr))
        left += _step_kind(kind, rows, members, rule) if kind and served else members
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
    return _kind_works(Kind(device, "float32", "float32"))


_works: dict[tuple[Kind, torch.dtype | None], bool] = {}


def _kind_works(kind: Kind, lr: float | Tensor = 0.0) -> bool:
    # Each kind, and each dtype of an lr on the device, is a compilation of its own, which may fail
    # alone, and for which a capture has no time.
    key = kind, lr.dtype if isinstance(lr, Tensor) else None
    if key not in _works:
        if device_tables.is_capturing(kind.device):
            return False
        _works[key] = _try(*key)
    return _works[key]


def _try(kind: Kind, lr_dtype: torch.dtype | None) -> bool:
    device, reason = kind.device, None
    if torch.version.cuda is None:
        reason = "the Triton kernel has not been tried on this kind of GPU"
    elif not is_installed():
        reason = "Triton is not installed: pip install triton"
    elif torch.cuda.get_device_capability(device) < MIN_CAPABILITY:
        reason = f"the GPU is older than compute capability {MIN_CAPABILITY[0]}.0"
    else:
        try:
            _launch_on_scratch(kind, lr_dtype)
            torch.cuda.synchronize(device)
        except Exception as error:  # Triton, its C compiler and the driver each raise their own
            reason = f"Triton does not work here ({type(error).__name__}: {str(error)[:300]})"
    if reason:
        warnings.warn(
            f"Lion takes its slower path on {device} for {kind.param} with {kind.momentum} "
            f"momenta: {reason}, or use fused=False",
            RuntimeWarning,
            stacklevel=2,
        )
    return reason is None


def _launch_on_scratch(kind: Kind, lr_dtype: torch.dtype | None) -> None:
    param_dtype, momentum_dtype = (getattr(torch, name) for name in (kind.param, kind.momentum))
    dtypes = (param_dtype, param_dtype, momentum_dtype, torch.float32, param_dtype)
    scratch = [torch.zeros(1, dtype=dtype, device=kind.device) for dtype in dtypes]
    lr = torch.zeros((), dtype=lr_dtype, device=kind.device) if lr_dtype else 0.5
    rule = {"beta1": 0.5, "beta2": 0.5, "weight_decay": 0.0, "lr": lr, "maximize": False}
    packed = array("q", [1]).tobytes()
    _launch(kind, array("q", [x.data_ptr() for x in scratch]), packed, rule)


def _step_otherwise(rows: list[tuple[Any, ...]], rule: dict[str, Any]) -> None:
    from lion import foreach, loop

    on_gpu = all(row[0].is_cuda and kinds.is_plain(row[0], row[0].device) for row in rows)
    backend = foreach.update if on_gpu else loop.update  # see backends.choose
    momentum.update(backend, *zip(*rows, strict=True), **rule)


# --- the launch ----------------------------------------------------------------------------------


def _step_kind(
    kind: Kind, all_rows: Sequence[tuple[Any, ...]], members: list[int], rule: dict[str, Any]
) -> list[int]:
    """Step the members, which are of one kind; return those that were left as they are."""
    rows = [all_rows[i] for i in members]
    begins = array("q", [row[0].data_ptr() for row in rows])
    ends = array("q", [b + row[0].nbytes for b, row in zip(begins, rows, strict=True)])
    skipped = kinds.overlapping(begins.tobytes(), ends.tobytes())
    left = [member for i, member in enumerate(members) if i in skipped]
    rows = [row for i, row in enumerate(rows) if i not in skipped and row[0].numel()]
    if not rows:
        return left
    columns = list(zip(*rows, strict=True))
    addresses = array("q", [x.data_ptr() for column in columns[:3] for x in column])
    for key in (momentum.SCALE, momentum.RESIDUAL):
        found = (state.get(key) for state in columns[3])
        addresses.extend([0 if x is None else x.data_ptr() for x in found])
    packed = array("q", [x.numel() for x in columns[0]]).tobytes()
    if not _launch(kind, addresses, packed, rule):
        return members
    # Autograd must notice, as after any in-place operation.
    torch.autograd.graph.increment_version([x for i in (0, 2) for x in columns[i]])
    return left


def step_group(
    group: Mapping[str, Any], state: Mapping[Tensor, dict[str, Any]], before: int = 0
) -> bool:
    """Step a whole group, its tensors looked at by native code; as `lion.fused.step_group`.

    Returns:
        False if nothing was done: a tensor needs another path, or has no state yet, or there is no
        native code.
    """
    library, params, lr = native.optional(), group["params"], group["lr"]
    handles = fused.group_handles(group, state, before) if library else None
    device = params[0].device
    if handles is None or library is None or device.type != kinds.DEVICE:
        return False
    if isinstance(lr, Tensor):
        if lr.is_cpu:
            lr = lr.item()  # then bit-equal to a float lr
        elif not kinds.is_plain(lr, device):
            return False
        else:
            lr = lr.squeeze()
    table = array("q", bytes(8 * ((COLUMNS + 1) * len(params) + 128)))
    on_gpu, addresses = device.type == "cuda", (x.buffer_info()[0] for x in (handles, table))
    length = library.lion_table(
        len(params), next(addresses), on_gpu, device.index or 0, next(addresses)
    )
    launches = list(kinds.kinds_of(memoryview(table)[: max(length, 0)], device))
    if length < 0 or not all(_can_launch(kind, packed, lr) for kind, _, packed in launches):
        return False
    beta1, beta2 = group["betas"]
    rule = {"lr": lr, "beta1": beta1, "beta2": beta2, "maximize": group["maximize"]}
    rule["weight_decay"] = group["weight_decay"]
    for kind, found, packed in launches:
        _launch(kind, array("q", found.tobytes()), packed, rule)
    return True


def _can_launch(kind: Kind, packed: bytes, lr: float | Tensor) -> bool:
    if kind.device.type == "cuda" and not _kind_works(kind, lr):
        return False
    return device_tables.layout(packed, BLOCK, kind.device) is not None


def _launch(kind: Kind, addresses: "array[int]", packed: bytes, rule: dict[str, Any]) -> bool:
    """Step tensors of one kind, by their addresses and sizes; return whether that was possible."""
    layout = device_tables.layout(packed, BLOCK, kind.device)
    if layout is None:
        return False
    with _on(kind.device):
        table = device_tables.table(addresses, kind.device)
        _run(kind, table, layout, len(packed) // 8, **rule)
    return True


def _run(
    kind: Kind,
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
        COMPENSATED=kind.compensated,
        LR_ON_DEVICE=on_device,
        ALIGNED=kind.aligned,
        GRAD_ALIGNED=kind.grad_aligned,
        BLOCK=BLOCK,
        num_warps=NUM_WARPS,
        enable_fp_fusion=False,  # a contraction would round the sign's argument once too few
    )


def bits_of(x: float) -> int:
    """Return the 64 bits of a float as an integer: Triton takes floats as float32 only."""
    return struct.unpack("q", struct.pack("d", x))[0]


def _on(device: torch.device) -> "contextlib.AbstractContextManager[Any]":
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
