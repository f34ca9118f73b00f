"""How the state is stored: a momentum in any float or in int8 blocks, and a weight's residual.

An int8 momentum is a tensor of codes in -127..127 in the shape of its parameter, `exp_avg`, and one
float32 scale for every 256 codes in memory order, `exp_avg_scale`: 1.016 bytes an element. The code
-128 is NaN: an infinite momentum in the scale would wipe out the other 255 of its block. Sharded
parameters have blocks within their shards; see `lion/sharded_momentum.py`.

A compensated weight (`kahan_sum`) is the sum of a parameter in bfloat16 or float16 and of
`kahan_comp`, in the same dtype: what rounding left of it. The native kernel in `fused_cpu.cpp` does
the same, bit for bit; this is its reference.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.parameter import is_lazy

from lion import sharded_momentum
from lion.sharded_momentum import BLOCK, NAN_CODE, is_sharded

SCALE, RESIDUAL = "exp_avg_scale", "kahan_comp"  # keys of the state
MIN_ABSMAX = 1e-30  # a block of smaller momenta is stored as zeros
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
    "int8": torch.int8,
}


def check_momentum_dtype(value: object) -> str | None:
    """Return None or the name of a dtype in DTYPES; a torch dtype will do, too.

    Raises:
        ValueError: There is no such storage.
    """
    name = str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value
    if name is None or (isinstance(name, str) and name in DTYPES):
        return name
    raise ValueError(
        f"momentum_dtype must be None (the parameter's) or one of {', '.join(DTYPES)}, "
        f"got {value!r}: bfloat16 is the paper's"
    )


def zeros(param: Tensor, dtype: str | None, kahan_sum: bool | None = None) -> dict[str, Tensor]:
    """Return the state before the first step: `exp_avg`, and what belongs to its storage.

    Args:
        param: Whose shape and memory layout it gets.
        dtype: A name in DTYPES, or None for the parameter's.
        kahan_sum: Whether a parameter of 16 bits gets a residual.

    Raises:
        ValueError: The parameter is complex or, for int8, neither plain nor sharded by rows.
    """
    check_storable(param, dtype)
    torch_dtype = DTYPES[dtype] if dtype else param.dtype
    kept = torch.preserve_format
    state = {"exp_avg": torch.zeros_like(param, dtype=torch_dtype, memory_format=kept)}
    if dtype == "int8" and is_sharded(param):
        state[SCALE] = sharded_momentum.zero_scale(param)
    elif dtype == "int8":
        num_blocks = sharded_momentum.num_blocks(param.numel())
        state[SCALE] = torch.zeros(num_blocks, dtype=torch.float32, device=param.device)
    if kahan_sum and param.dtype in (torch.bfloat16, torch.float16):
        state[RESIDUAL] = torch.zeros_like(param, memory_format=kept)
    return state


def check_saved(saved: Mapping[str, Any], param: Tensor) -> None:
    """Raise ValueError if a saved momentum of `param` lacks its scales, or has others' scales."""
    exp_avg, scale = saved["exp_avg"], saved.get(SCALE)
    if scale is None and getattr(exp_avg, "dtype", None) == torch.int8:
        raise ValueError(
            f"the checkpoint's 'exp_avg' is int8 and there is no {SCALE!r} with it: "
            "save both, as state_dict() gives them"
        )
    if isinstance(scale, Tensor) and not sharded_momentum.is_fitting(scale, param.shape):
        num_blocks = sharded_momentum.num_blocks(param.numel())
        raise ValueError(
            f"the checkpoint's {SCALE!r} has {scale.numel()} elements, and its parameter "
            f"{num_blocks} blocks: load it into the model that it was saved with"
        )


def converted(
    saved: Mapping[str, Any], param: Tensor, dtype: str | None, kahan_sum: bool | None = None
) -> dict[str, Tensor]:
    """Bring a saved state, of whatever storage, into that of `zeros` with the same arguments.

    Args:
        saved: `exp_avg`, with `exp_avg_scale` if that is int8, and perhaps `kahan_comp`.
        param: The parameter that it now belongs to.
        dtype: A name in DTYPES, or None for the parameter's.
        kahan_sum: Whether a parameter of 16 bits has a residual; one that is not saved is 0.
    """
    state = zeros(param.detach(), dtype, kahan_sum)
    if RESIDUAL in state and isinstance(saved.get(RESIDUAL), Tensor):
        state[RESIDUAL].copy_(saved[RESIDUAL])
    exp_avg = saved["exp_avg"].to(param.device)
    scale = saved[SCALE].to(param.device) if SCALE in saved else None
    if scale is not None and (is_sharded(param) or scale.dim() == 2):
        _convert_shards_(state, exp_avg, scale, param)
        return state
    if exp_avg.dtype == state["exp_avg"].dtype and (scale is None or _same_order(exp_avg, state)):
        state["exp_avg"] = exp_avg
        return state if scale is None else state | {SCALE: scale}
    encode_(decode(exp_avg, scale, _working_dtype(param)), state["exp_avg"], state.get(SCALE))
    return state


def _convert_shards_(
    state: dict[str, Tensor], exp_avg: Tensor, scale: Tensor, param: Tensor
) -> None:
    """Bring an int8 momentum into `state` where it is, or was, sharded."""
    own: Any = state
    if is_sharded(param):
        own = sharded_momentum.own_state(state, param.to_local(), SCALE)  # type: ignore[attr-defined]
    scales = sharded_momentum.own_scales(scale, param) if SCALE in state else None
    if scales is not None and own["exp_avg"].is_contiguous():  # not rounded again
        own["exp_avg"].copy_(exp_avg.to_local() if is_sharded(exp_avg) else exp_avg)  # type: ignore[attr-defined]
        own[SCALE].copy_(scales)
        return
    encode_(sharded_momentum.decode(exp_avg, scale, param), own["exp_avg"], own.get(SCALE))


def _same_order(exp_avg: Tensor, state: dict[str, Tensor]) -> bool:
    return exp_avg.stride() == state["exp_avg"].stride()  # a block is of neighbours in memory


def decode(exp_avg: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the momentum as a tensor of `dtype`: `exp_avg` itself if it is one already."""
    if scale is None:
        return exp_avg.to(dtype)
    codes = _in_memory_order(exp_avg).to(torch.float32)
    codes.masked_fill_(codes == NAN_CODE, torch.nan)
    per_element = scale.repeat_interleave(BLOCK)[: codes.numel()]
    full = torch.empty_like(exp_avg, dtype=dtype, memory_format=torch.preserve_format)
    _in_memory_order(full).copy_(codes * per_element)
    return full


def encode_(full: Tensor, exp_avg: Tensor, scale: Tensor | None) -> None:
    """Store the momentum `full` in `exp_avg` and `scale`; the inverse of `decode`, rounded.

        scale = max |m| / 127 in each block,  code = floor(m / scale + u),  0 <= u < 1

    u is a hash of the bits of m. Rounding to nearest would hold a momentum for ever whose gradient
    is 0 (0.99 * code rounds to code, for codes below 50); this is unbiased, and repeatable.
    A momentum that is infinite or NaN has no part in the scale, and a code that is NaN.
    """
    if scale is None:
        exp_avg.copy_(full)
        return
    ordered = torch.empty_like(exp_avg, dtype=torch.float32, memory_format=torch.preserve_format)
    m = _in_memory_order(ordered.copy_(full))
    finite = m.isfinite()
    m = torch.where(finite, m, 0.0).clamp(-3.4e38, 3.4e38)
    padded = torch.nn.functional.pad(m, (0, scale.numel() * BLOCK - m.numel()))
    absmax = padded.view(-1, BLOCK).abs().amax(1)
    empty = absmax < MIN_ABSMAX
    # Not `absmax / 127` (on a GPU) nor `127 / absmax`: torch would multiply by a reciprocal, with
    # two roundings. The number is made on the device: nothing waits, and a CUDA graph may hold it.
    largest = absmax.new_full((), 127.0)
    scale.copy_(torch.where(empty, 0.0, absmax / largest))
    inverse = torch.where(empty, 0.0, largest / absmax)
    inverse = inverse.repeat_interleave(BLOCK)[: m.numel()]
    hashed = (m.view(torch.int32).long() * 0x9E3779B1 & 0xFFFFFFFF) >> 8
    codes = torch.floor(m * inverse + hashed.to(torch.float32) * 2.0**-24)
    _in_memory_order(exp_avg).copy_(torch.where(finite, codes.clamp(-127, 127), NAN_CODE))


def update(
    backend: Callable[..., None],
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    states: Sequence[Mapping[str, Tensor]],
    **rule: Any,
) -> None:
    """Step through `backend` with a state of any storage; arguments as in `lion.fused.update`.

    What is stored as the backend wants it is passed on. The rest is unpacked to float32 (or the
    parameter's dtype, if wider), in which the step is computed, and packed again.
    """
    rows = list(zip(params, grads, exp_avgs, states, strict=True))
    if all(needs_no_packing(param, exp_avg, state) for param, _, exp_avg, state in rows):
        backend(params, grads, exp_avgs, **rule)
        return
    for param, grad, exp_avg, state in rows:
        if needs_no_packing(param, exp_avg, state):
            backend([param], [grad], [exp_avg], **rule)
        else:
            _update_packed(backend, param, grad, exp_avg, state, **rule)


def needs_no_packing(param: Tensor, exp_avg: Tensor, state: Mapping[str, Tensor]) -> bool:
    """Whether a backend that knows parameters and momenta of one dtype can step this one."""
    return param.dtype == exp_avg.dtype and RESIDUAL not in state


def _update_packed(
    backend: Callable[..., None],
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    state: Mapping[str, Tensor],
    **rule: Any,
) -> None:
    full = decode(exp_avg, state.get(SCALE), _working_dtype(param))
    residual = state.get(RESIDUAL)
    weight = param if residual is None else param.to(full.dtype) + residual
    backend([weight], [grad.to(full.dtype)], [full], **rule)
    if residual is not None:
        param.copy_(weight)
        residual.copy_(weight - param)
    if full is not exp_avg:
        encode_(full, exp_avg, state.get(SCALE))


def _working_dtype(param: Tensor) -> torch.dtype:
    return torch.promote_types(param.dtype, torch.float32)


def _in_memory_order(x: Tensor) -> Tensor:
    return x.as_strided((x.numel(),), (1,))


def check_storable(param: Tensor, dtype: str | None) -> None:
    """Raise ValueError if the momentum of `param` cannot be stored as told."""
    if dtype is None or DTYPES[dtype] == param.dtype:
        return
    if param.is_complex():
        raise ValueError(
            f"a complex parameter has its momentum in its own dtype, not {dtype}: put it in a "
            "param group with momentum_dtype=None"
        )
    if dtype == "int8" and (kind := _not_plain(param)):
        raise ValueError(
            f"int8 momenta are for plain tensors and those sharded by rows, not {kind}: "
            "use momentum_dtype='bfloat16'"
        )


def _not_plain(param: Tensor) -> str:
    # The first FSDP flattens parameters, and could step their int8 momenta, but not save them: it
    # wants every tensor of the state to have as many elements as the flat parameter.
    if getattr(param, "_is_flat_param", False) or getattr(param, "_fsdp_flattened", False):
        return "the flat parameters of FullyShardedDataParallel"
    if type(param) in (Tensor, Parameter) or is_lazy(param):
        return ""
    if is_sharded(param):
        return "" if sharded_momentum.rows_of(param) else "a DTensor that is cut in another way"
    return type(param).__name__
