"""Lion on float32 and float64 tensors on a CPU, in as few passes of torch's kernels as it takes.

What `lion/loop.py` does tensor by tensor, bit for bit, for plain dense tensors: small ones many at
a time, large ones in pieces whose temporary is used again, and each piece in six to eight passes.
"""

# pyright: reportPrivateImportUsage=false
# (torch has no public name for the _foreach functions)

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from lion.scratch import views

LARGE = 1 << 20  # elements of a piece: what torch's threads share, and a cache may hold
SMALL = 1 << 14  # tensors of at most so many are stepped together
TINY = 1 << 11  # vectors of at most so many are copied together, stepped, and copied back
TOGETHER = 1 << 18  # elements, so that they are still in cache at the next pass
CALM = 1 << 19  # elements of small tensors below which one thread steps them (fused: likewise)
VECTORS = 64  # elements: whole vectors of every width, as torch's kernels take them at once
TORCH_GRAIN = 32768  # elements that torch gives a thread at least
MAX_LR = 1e30

# c * huge, clamped to +-clip, is sign(c) * clip for every number down to the smallest, keeps 0 and
# NaN, and is two passes: torch.sign would hide NaN.
_SIGNS = {torch.float32: (2.0**127, 2.0**-22), torch.float64: (2.0**1023, 2.0**-51)}
_PLAIN = {Tensor, Parameter}

Row = tuple[Tensor, Tensor, Tensor]


class _Outer(NamedTuple):
    """For `torch.addr`, an outer product with one number: x * beta + y * alpha in one pass.

    It rounds three times, as three passes would, where it works on whole vectors; the ends that a
    thread is left with may be rounded in another way, so they must not be.
    """

    decay: float
    beta1: float
    one: Tensor
    num_threads: int

    def serves(self, number: int) -> bool:
        """Whether each thread has whole vectors of so many elements."""
        team = min(self.num_threads, -(-number // TORCH_GRAIN))
        return number > 0 and number % (VECTORS * team) == 0


class _Factors(NamedTuple):
    """The numbers of a step; 0-d tensors where torch is quicker with those than with numbers."""

    decay: Tensor | None
    beta1: Tensor
    gain1: float
    beta2: Tensor
    gain2: float
    one: Tensor
    huge: Tensor
    clip: float
    lr_by_clip: float
    outer: "_Outer | None"


def update(
    rows: Sequence[Row],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
    maximize: bool,
) -> list[Row]:
    """Step the rows (parameter, gradient, momentum) that it can serve; return the others.

    Arguments as in `lion.loop.update`.
    """
    served, left = _served(rows)
    if lr > MAX_LR or overlap([row[0] for row in rows]):
        return list(rows)
    pieces: dict[torch.dtype, list[Row]] = {}
    together: dict[torch.dtype, list[Row]] = {}
    for row in served:
        param, grad, exp_avg = row
        if not param.is_contiguous():
            left.append(row)
        elif param.numel() <= SMALL:
            together.setdefault(param.dtype, []).append(row)
        elif grad.is_contiguous() and exp_avg.is_contiguous():
            pieces.setdefault(param.dtype, []).append(row)
        else:
            left.append(row)
    options = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay}
    for dtype in {*pieces, *together}:
        if not _product_is_rounded(dtype):
            left += pieces.get(dtype, []) + together.get(dtype, [])
            continue
        factors = _factors(dtype, maximize=maximize, **options)
        _step_pieces(pieces.get(dtype, ()), factors, dtype)
        _step_together(together.get(dtype, ()), factors, dtype)
    return left


def _factors(
    dtype: torch.dtype,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
    maximize: bool,
) -> _Factors:
    huge, clip = _SIGNS[dtype]
    direction = -1.0 if maximize else 1.0
    decay = 1 - lr * weight_decay
    values = torch.tensor([decay, beta1, beta2, huge, lr, 1.0], dtype=dtype, device="cpu")
    decay_, beta1_, beta2_, huge_, lr_, one = values.unbind()
    return _Factors(
        decay=None if decay == 1 else decay_,
        beta1=beta1_,
        gain1=direction * (1 - beta1),
        beta2=beta2_,
        gain2=direction * (1 - beta2),
        one=one,
        huge=huge_,
        clip=clip,
        lr_by_clip=-lr_.item() / clip,
        outer=_Outer(decay, beta1, one.view(1), torch.get_num_threads())
        if _outer_product_is_rounded(dtype)
        else None,
    )


@functools.cache
def _product_is_rounded(dtype: torch.dtype) -> bool:
    # Whether `a.addcmul_(g, 1, value=k)` rounds k * g before it adds, as a.add_(g.mul(k)) does. The
    # sign of a sum that cancels depends on it.
    grad = torch.linspace(0.1, 3.0, 67, dtype=dtype, device="cpu")
    one = torch.ones((), dtype=dtype, device="cpu")
    return not torch.addcmul(-grad.mul(0.1), grad, one, value=0.1).any().item()


@functools.cache
def _outer_product_is_rounded(dtype: torch.dtype) -> bool:
    # The same of `torch.addr`, in whole vectors.
    m = torch.linspace(-3.0, 3.0, VECTORS * 32, dtype=dtype, device="cpu")
    grad = -(m * 0.9) / (1 - 0.9)
    one = torch.ones(1, dtype=dtype, device="cpu")
    found = torch.addr(m.view(-1, 1), grad, one, beta=0.9, alpha=1 - 0.9).view(-1)
    return torch.equal(found, m.mul(0.9).add_(grad.mul(1 - 0.9)))


# --- large tensors, piece by piece ---------------------------------------------------------------


def _step_pieces(rows: Iterable[Row], f: _Factors, dtype: torch.dtype) -> None:
    for row in rows:
        if row[0].numel() <= LARGE:
            _step_piece(row[0], row[1], row[2], dtype, f)
        else:
            for param, grad, exp_avg in zip(*(x.view(-1).split(LARGE) for x in row), strict=True):
                _step_piece(param, grad, exp_avg, dtype, f)


def _step_piece(
    param: Tensor, grad: Tensor, exp_avg: Tensor, dtype: torch.dtype, f: _Factors
) -> None:
    flat, (step,) = views(dtype, (param,))
    outer = f.outer if f.outer and f.outer.serves(param.numel()) else None
    if outer:
        self, vector = exp_avg.view(-1, 1), grad.view(-1)
        out = flat.view(-1, 1)
        torch.addr(self, vector, outer.one, beta=outer.beta1, alpha=f.gain1, out=out)
    else:
        torch.mul(exp_avg, f.beta1, out=step)
        step.addcmul_(grad, f.one, value=f.gain1)
    exp_avg.mul_(f.beta2)
    exp_avg.add_(grad, alpha=f.gain2)
    flat.mul_(f.huge).clamp_(-f.clip, f.clip)
    if outer and f.decay is not None:
        param.view(-1, 1).addr_(flat, outer.one, beta=outer.decay, alpha=f.lr_by_clip)
        return
    if f.decay is not None:
        param.mul_(f.decay)
    param.add_(step, alpha=f.lr_by_clip)


# --- small tensors, many at a time ---------------------------------------------------------------


def _step_together(rows: Sequence[Row], f: _Factors, dtype: torch.dtype) -> None:
    # Waking torch's threads costs more than they gain on few elements; with a busy neighbour, much.
    calm = sum([row[0].numel() for row in rows]) < CALM
    grain = TORCH_GRAIN if calm else TOGETHER
    bucket: list[Row] = []
    vectors: list[Row] = []
    number = 0
    for row in rows:
        size = row[0].numel()
        if size <= TINY and row[0].dim() == 1:
            vectors.append(row)
            continue
        if number + size > TOGETHER:
            _step_bucket(bucket, f, dtype, grain)
            bucket, number = [], 0
        bucket.append(row)
        number += size
    if bucket:
        _step_bucket(bucket, f, dtype, grain)
    if vectors:
        _step_vectors(vectors, f, dtype)


def _step_vectors(rows: list[Row], f: _Factors, dtype: torch.dtype) -> None:
    params, grads, exp_avgs = (list(column) for column in zip(*rows, strict=True))
    weights, new_params = views(dtype, params, "weights")
    momenta, new_exp_avgs = views(dtype, params, "momenta")
    torch.cat(params, out=weights)
    torch.cat(exp_avgs, out=momenta)
    _step_piece(weights, torch.cat(grads), momenta, dtype, f)
    torch._foreach_copy_(params, new_params)
    torch._foreach_copy_(exp_avgs, new_exp_avgs)


def _step_bucket(rows: list[Row], f: _Factors, dtype: torch.dtype, grain: int) -> None:
    params, grads, exp_avgs = (list(column) for column in zip(*rows, strict=True))
    flat, steps = views(dtype, params)
    pieces = flat.split(grain)
    torch._foreach_copy_(steps, exp_avgs)
    torch._foreach_mul_(exp_avgs, f.beta2)
    for piece in pieces:
        piece.mul_(f.beta1)
    torch._foreach_addcmul_(steps, grads, [f.one] * len(grads), value=f.gain1)
    torch._foreach_add_(exp_avgs, grads, alpha=f.gain2)
    for piece in pieces:
        piece.mul_(f.huge).clamp_(-f.clip, f.clip)
    if f.decay is not None:
        torch._foreach_mul_(params, f.decay)
    torch._foreach_add_(params, steps, alpha=f.lr_by_clip)


# --- which tensors can be served -----------------------------------------------------------------


def _served(rows: Sequence[Row]) -> tuple[Sequence[Row], list[Row]]:
    if _are_plain([x for row in rows for x in row]):
        return rows, []
    served = [row for row in rows if _are_plain(row)]
    return served, [row for row in rows if not _are_plain(row)]


def _are_plain(tensors: Sequence[Tensor]) -> bool:
    dtypes = {x.dtype for x in tensors}
    return (
        len(dtypes) == 1
        and dtypes <= _SIGNS.keys()
        and {*map(type, tensors)} <= _PLAIN
        and all([x.is_cpu for x in tensors])
    )


def overlap(params: Iterable[Tensor]) -> bool:
    """Whether any of them share memory: then they must be stepped one after the other."""
    spans = sorted(map(_span, params))
    reach = 0
    for begin, end in spans:
        if begin < reach and begin != end:
            return True
        if end > reach:
            reach = end
    return False


def _span(x: Tensor) -> tuple[int, int]:
    # The memory that a tensor may write to; none, where nothing of ours can share it.
    if type(x) not in _PLAIN or not (x.is_cpu or x.is_cuda):
        return 0, 0
    if x.is_contiguous():
        begin = x.data_ptr()
        return begin, begin + x.nbytes
    storage = x.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
