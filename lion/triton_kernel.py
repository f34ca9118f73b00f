"""The Triton kernel of `lion/fused_cuda.py`: Lion on a range of one tensor, in one pass.

Imports Triton, which comes with torch's CUDA builds; so import this file only where it is used.
Roundings are those of `lion/loop.py`, operation by operation, as in `fused_cpu.cpp`: it must be
launched with `enable_fp_fusion=False`, and has an explicit fused multiply-add where torch has one.
bfloat16 is packed and unpacked as bits, which is the same on every GPU and in Triton's interpreter.
"""

# pyright: basic, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportAssignmentType=false, reportInvalidTypeForm=false
# (Triton compiles this language, which only looks like Python)

import triton
import triton.language as tl

SCALE_BLOCK = tl.constexpr(256)  # elements that share an int8 scale: lion.momentum.BLOCK


@triton.jit
def _float_of(bits):
    return (bits.to(tl.int32, bitcast=False) << 16).to(tl.float32, bitcast=True)


@triton.jit
def _bfloat16_bits(x):
    bits = x.to(tl.uint32, bitcast=True)
    even = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to nearest even
    return tl.where(x == x, even, 0x7FC0).to(tl.uint16).to(tl.int16, bitcast=True)


@triton.jit
def _rounded(x, DTYPE: tl.constexpr):
    # What storing as DTYPE and loading again leaves.
    if DTYPE == "bfloat16":
        x = _float_of(_bfloat16_bits(x))
    return x


@triton.jit
def _pointer(addresses, i, DTYPE: tl.constexpr):
    address = tl.load(addresses + i)
    if DTYPE == "float32":
        pointer = address.to(tl.pointer_type(tl.float32))
    elif DTYPE == "bfloat16":
        pointer = address.to(tl.pointer_type(tl.int16))
    else:
        pointer = address.to(tl.pointer_type(tl.int8))
    return pointer


@triton.jit
def _pointers(addresses, i, at, DTYPE: tl.constexpr, ALIGNED: tl.constexpr):
    pointers = _pointer(addresses, i, DTYPE) + at
    return tl.multiple_of(pointers, (1, 16)) if ALIGNED else pointers  # bytes, along the rows


@triton.jit
def _load(pointer, mask, DTYPE: tl.constexpr):
    x = tl.load(pointer) if mask is None else tl.load(pointer, mask=mask, other=0)
    if DTYPE == "bfloat16":
        x = _float_of(x)
    return x.to(tl.float32)


@triton.jit
def _store(pointer, x, mask, DTYPE: tl.constexpr):
    if DTYPE == "bfloat16":
        tl.store(pointer, _bfloat16_bits(x), mask=mask)
    else:
        tl.store(pointer, x, mask=mask)


@triton.jit
def _int8_codes(m, scale_pointer, row_mask):
    # Stores the new scales; see lion.momentum.encode_.
    finite = tl.abs(m) <= 3.4028234663852886e38
    m = tl.where(finite, m, 0.0)
    m = tl.minimum(tl.maximum(m, -3.4e38), 3.4e38)
    absmax = tl.max(tl.abs(m), axis=1)
    empty = absmax < 1e-30  # lion.momentum.MIN_ABSMAX
    tl.store(scale_pointer, tl.where(empty, 0.0, tl.math.div_rn(absmax, 127.0)), mask=row_mask)
    inverse = tl.where(empty, 0.0, tl.math.div_rn(127.0, tl.where(empty, 1.0, absmax)))
    hashed = (m.to(tl.uint32, bitcast=True) * 0x9E3779B1) >> 8
    code = m * inverse[:, None] + hashed.to(tl.float32) * 5.9604644775390625e-08  # 2^-24
    whole = code.to(tl.int32)  # tl.math.floor would take subnormal numbers for 0
    whole = tl.where(whole.to(tl.float32) > code, whole - 1, whole)
    whole = tl.minimum(tl.maximum(whole, -127), 127)
    return tl.where(finite, whole, -128).to(tl.int8)  # lion.momentum.NAN_CODE


@triton.jit
def _step_block(
    addresses,
    i,
    start,
    size,
    num_tensors,
    lr,
    decay,
    beta1,
    gain1,
    beta2,
    gain2,
    PARAM: tl.constexpr,
    MOMENTUM: tl.constexpr,
    COMPENSATED: tl.constexpr,
    ALIGNED: tl.constexpr,
    GRAD_ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
    FULL: tl.constexpr,
):
    # Tensor `i`, elements start to start + BLOCK, as rows that each have a scale if in int8.
    rows = tl.arange(0, BLOCK // SCALE_BLOCK)
    at = start + (rows[:, None] * SCALE_BLOCK + tl.arange(0, SCALE_BLOCK)[None, :])
    # A mask would keep the compiler from loading several elements at a time.
    mask = None if FULL else at < size
    row_mask = None if FULL else start + rows * SCALE_BLOCK < size
    param_pointer = _pointers(addresses, i, at, PARAM, ALIGNED)
    grad_pointer = _pointers(addresses, num_tensors + i, at, PARAM, GRAD_ALIGNED)
    momentum_pointer = _pointers(addresses, 2 * num_tensors + i, at, MOMENTUM, ALIGNED)
    p = _load(param_pointer, mask, PARAM)
    g = _load(grad_pointer, mask, PARAM)
    m = _load(momentum_pointer, mask, MOMENTUM)
    scale_pointer = _pointer(addresses, 3 * num_tensors + i, "float32")
    scale_pointer += start // SCALE_BLOCK + rows
    if MOMENTUM == "int8":
        scale = _load(scale_pointer, row_mask, "float32")[:, None]
        m = tl.where(m == -128.0, float("nan"), m * scale)

    # Intermediate results have the dtype of parameter and momentum where they agree, else float32;
    # torch's `add(x, alpha=)` rounds alpha to that, too, and its `mul(factor)` does not.
    SAME: tl.constexpr = PARAM == MOMENTUM and not COMPENSATED
    INNER: tl.constexpr = PARAM if SAME else "float32"
    lr = _rounded(tl.cast(lr, tl.float32), INNER)
    gain2 = _rounded(tl.cast(gain2, tl.float32), INNER)
    c = _rounded(_rounded(m * beta1, INNER) + _rounded(g * gain1, INNER), INNER)
    step = tl.where(c > 0, lr, tl.where(c < 0, -lr, c))  # lr * sign(c); 0 and NaN stay
    if COMPENSATED:  # the parameter is the sum of two numbers: the second is what rounding left
        residual_pointer = _pointers(addresses, 4 * num_tensors + i, at, PARAM, ALIGNED)
        p = (p + _load(residual_pointer, mask, PARAM)) * decay - step
        _store(param_pointer, p, mask, PARAM)
        _store(residual_pointer, p - _rounded(p, PARAM), mask, PARAM)
    else:
        _store(param_pointer, _rounded(p * decay, PARAM) - step, mask, PARAM)
    m = tl.fma(g, gain2, _rounded(m * beta2, INNER))
    if MOMENTUM == "int8":
        tl.store(momentum_pointer, _int8_codes(m, scale_pointer, row_mask), mask=mask)
    else:
        _store(momentum_pointer, m, mask, MOMENTUM)


@triton.jit(
    do_not_specialize=["num_tensors", "weight_decay_bits"],
    do_not_specialize_on_alignment=["lr_pointer"],  # perhaps one of several in a tensor
)
def lion_step(
    addresses,  # int64 (5, num_tensors): of parameters, gradients, momenta, scales, residuals
    layout,  # int64: num_tensors sizes, num_tensors first programs, the tensor of every program
    lr_pointer,
    num_tensors: tl.int32,
    lr,
    decay,  # 1 - lr * weight_decay
    weight_decay_bits: tl.int64,  # of the float64, for an lr that only the device knows
    beta1,
    gain1,  # 1 - beta1, negative to maximize
    beta2,
    gain2,
    PARAM: tl.constexpr,
    MOMENTUM: tl.constexpr,
    COMPENSATED: tl.constexpr,
    LR_ON_DEVICE: tl.constexpr,
    ALIGNED: tl.constexpr,
    GRAD_ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Step the tensors of `addresses` in place; a program handles BLOCK elements of one of them.

    Source: arXiv:2302.06675, Alg. 2
    """
    program = tl.program_id(0).to(tl.int64)
    i = tl.load(layout + 2 * num_tensors + program)
    size = tl.load(layout + i)
    start = (program - tl.load(layout + num_tensors + i)) * BLOCK
    if LR_ON_DEVICE:
        exact_lr = tl.load(lr_pointer).to(tl.float64)
        weight_decay = tl.cast(weight_decay_bits, tl.int64).to(tl.float64, bitcast=True)
        decay = (1.0 - exact_lr * weight_decay).to(tl.float32)
        lr = exact_lr.to(tl.float32)
    if start + BLOCK <= size:
        _step_block(
            addresses, i, start, size, num_tensors, lr, decay, beta1, gain1, beta2, gain2,
            PARAM, MOMENTUM, COMPENSATED, ALIGNED, GRAD_ALIGNED, BLOCK, True,
        )  # fmt: skip
    else:
        _step_block(
            addresses, i, start, size, num_tensors, lr, decay, beta1, gain1, beta2, gain2,
            PARAM, MOMENTUM, COMPENSATED, ALIGNED, GRAD_ALIGNED, BLOCK, False,
        )  # fmt: skip
