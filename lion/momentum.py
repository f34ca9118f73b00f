"""How the momentum is stored: in the parameter's dtype, in another float, or in int8 blocks.

An int8 momentum is a tensor of codes in -127..127 in the shape of its parameter, `exp_avg`, and one
float32 scale for every 256 codes in memory order, `exp_avg_scale`: 1.016 bytes an element. The
native kernel in `fused_cpu.cpp` does the same, bit for bit; this is its reference.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

BLOCK = 256  # elements that share a scale
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


def zeros(param: Tensor, dtype: str | None) -> dict[str, Tensor]:
    """Return the state of a momentum of 0: `exp_avg`, and `exp_avg_scale` for int8.

    Args:
        param: Whose shape and memory layout it gets.
        dtype: A name in DTYPES, or None for the parameter's.

    Raises:
        ValueError: The parameter is complex or, for int8, not a plain dense tensor.
    """
    _check_storable(param, dtype)
    torch_dtype = DTYPES[dtype] if dtype else param.dtype
    kept = torch.preserve_format
    state = {"exp_avg": torch.zeros_like(param, dtype=torch_dtype, memory_format=kept)}
    if dtype == "int8":
        num_blocks = -(-param.numel() // BLOCK)
        state["exp_avg_scale"] = torch.zeros(num_blocks, device=param.device)
    return state


def converted(saved: dict[str, Any], param: Tensor, dtype: str | None) -> dict[str, Tensor]:
    """Bring a saved momentum, of whatever storage, into that of `zeros(param, dtype)`.

    Args:
        saved: `exp_avg`, and `exp_avg_scale` if that is int8.
        param: The parameter that it now belongs to.
        dtype: A name in DTYPES, or None for the parameter's.
    """
    exp_avg = saved["exp_avg"].to(param.device)
    scale = saved.get("exp_avg_scale")
    scale = scale if scale is None else scale.to(param.device)
    state = zeros(param.detach(), dtype)
    if exp_avg.dtype == state["exp_avg"].dtype and (scale is None or _same_order(exp_avg, state)):
        state["exp_avg"] = exp_avg
        return state if scale is None else state | {"exp_avg_scale": scale}
    encode_(decode(exp_avg, scale, _working_dtype(param)), state["exp_avg"], state.get(_SCALE))
    return state


_SCALE = "exp_avg_scale"


def _same_order(exp_avg: Tensor, state: dict[str, Tensor]) -> bool:
    return exp_avg.stride() == state["exp_avg"].stride()  # a block is of neighbours in memory


def decode(exp_avg: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the momentum as a tensor of `dtype`: `exp_avg` itself if it is one already."""
    if scale is None:
        return exp_avg.to(dtype)
    codes = _in_memory_order(exp_avg).to(torch.float32)
    per_element = scale.repeat_interleave(BLOCK)[: codes.numel()]
    full = torch.empty_like(exp_avg, dtype=dtype, memory_format=torch.preserve_format)
    _in_memory_order(full).copy_(codes * per_element)
    return full


def encode_(full: Tensor, exp_avg: Tensor, scale: Tensor | None) -> None:
    """Store the momentum `full` in `exp_avg` and `scale`; the inverse of `decode`, rounded.

        scale = max |m| / 127 in each block,  code = floor(m / scale + u),  0 <= u < 1

    u is a hash of the bits of m. Rounding to nearest would hold a momentum for ever whose gradient
    is 0 (0.99 * code rounds to code, for codes below 50); this is unbiased, and repeatable.
    An infinite momentum is stored as the largest float, and NaN as 0: the weight shows the NaN.
    """
    if scale is None:
        exp_avg.copy_(full)
        return
    ordered = torch.empty_like(exp_avg, dtype=torch.float32, memory_format=torch.preserve_format)
    m = _in_memory_order(ordered.copy_(full))
    m = torch.where(m.isnan(), 0.0, m).clamp(-3.4e38, 3.4e38)
    padded = torch.nn.functional.pad(m, (0, scale.numel() * BLOCK - m.numel()))
    absmax = padded.view(-1, BLOCK).abs().amax(1)
    empty = absmax < MIN_ABSMAX
    scale.copy_(torch.where(empty, 0.0, absmax / 127))
    # Not `127 / absmax`: torch would take the reciprocal and multiply, rounding twice.
    inverse = torch.where(empty, 0.0, absmax.new_tensor(127.0) / absmax)
    inverse = inverse.repeat_interleave(BLOCK)[: m.numel()]
    hashed = (m.view(torch.int32).long() * 0x9E3779B1 & 0xFFFFFFFF) >> 8
    codes = torch.floor(m * inverse + hashed.to(torch.float32) * 2.0**-24)
    _in_memory_order(exp_avg).copy_(codes.clamp(-127, 127))


def update(
    backend: Callable[..., None],
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    scales: Sequence[Tensor | None],
    **rule: Any,
) -> None:
    """Step through `backend` with momenta of any storage; arguments as in `lion.fused.update`.

    A momentum in its parameter's dtype is passed on as it is. Others are unpacked to float32 (or
    the parameter's dtype, if wider), in which the step is computed, and packed again.
    """
    if all(p.dtype == m.dtype for p, m in zip(params, exp_avgs, strict=True)):
        backend(params, grads, exp_avgs, **rule)
        return
    for param, grad, exp_avg, scale in zip(params, grads, exp_avgs, scales, strict=True):
        if param.dtype == exp_avg.dtype:
            backend([param], [grad], [exp_avg], **rule)
            continue
        full = decode(exp_avg, scale, _working_dtype(param))
        backend([param], [grad.to(full.dtype)], [full], **rule)
        if full is not exp_avg:
            encode_(full, exp_avg, scale)


def _working_dtype(param: Tensor) -> torch.dtype:
    return torch.promote_types(param.dtype, torch.float32)


def _in_memory_order(x: Tensor) -> Tensor:
    return x.as_strided((x.numel(),), (1,))


def _check_storable(param: Tensor, dtype: str | None) -> None:
    if dtype is None or DTYPES[dtype] == param.dtype:
        return
    if param.is_complex():
        raise ValueError(
            f"a complex parameter has its momentum in its own dtype, not {dtype}: put it in a "
            "param group with momentum_dtype=None"
        )
    if dtype == "int8" and type(param) not in (Tensor, Parameter):
        raise ValueError(
            f"int8 momenta are for plain tensors, not {type(param).__name__}: use "
            "momentum_dtype='bfloat16'"
        )
