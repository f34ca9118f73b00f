"""The optimizer step on a card: first whether it is right, then how fast it is."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_lab.measuring import DEVICE, IS_REHEARSAL, Rows, copy_roof, times, wait
from torch import Tensor, nn

from lion import Lion

SHAPES = {  # width, depth, tokens, patch
    "vit_small": (384, 12, 197, 16),
    "vit_base": (768, 12, 197, 16),
    "vit_large": (1024, 24, 197, 16),
    "vit_huge": (1280, 32, 257, 14),
    "one_billion": (1792, 26, 257, 14),
}
ODD = ((1,), (3,), (2047,), (2049, 2), (5, 7, 11), (64, 64), (4097,))
KINDS: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "fp32": (torch.float32, {}),
    "fp32, bf16 momentum": (torch.float32, {"momentum_dtype": "bfloat16"}),
    "fp32, int8 momentum": (torch.float32, {"momentum_dtype": "int8"}),
    "bf16": (torch.bfloat16, {}),
    "bf16, kahan": (torch.bfloat16, {"kahan_sum": True}),
}
BYTES = {"fp32": 20, "fp32, bf16 momentum": 16, "fp32, int8 momentum": 14.1, "bf16": 10,
         "bf16, kahan": 14}  # fmt: skip
"""A parameter's bytes that a step must at least read and write: p and m twice, g once."""
NUM_STEPS = 20


def vit_shapes(width: int, depth: int, tokens: int, patch: int) -> Iterator[tuple[int, ...]]:
    """Shapes of a ViT's parameters, 1,000 classes."""
    yield from [(1, 1, width), (1, tokens, width), (width, 3, patch, patch), (width,)]
    for _ in range(depth):
        yield from [(width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,)]
        yield from [(width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width)]
        yield (width,)
    yield from [(width,), (width,), (1000, width), (1000,)]


def parameters(
    shapes: Any, dtype: torch.dtype = torch.float32, shift: int = 0
) -> list[nn.Parameter]:
    """Parameters with gradients; `shift` elements behind an aligned address."""

    def drawn(shape: tuple[int, ...]) -> Tensor:
        count = torch.Size(shape).numel()
        return (0.02 * torch.randn(count + shift, device=DEVICE)).to(dtype)[shift:].view(shape)

    made = []
    for shape in shapes:
        param = nn.Parameter(drawn(shape))
        param.grad = drawn(shape)
        made.append(param)
    return made


def correct(rows: Rows) -> None:
    """The fused step against the plain loop on the CPU, bit by bit.

    bfloat16 weights against the fused step on the CPU, as torch's own kernels, which the loop
    calls, round the last elements of a tensor in another way than the rest.
    """
    for kind, (dtype, options) in KINDS.items():
        for case in ("from the start", "after load_state_dict", "on a side stream", "unaligned"):
            is_equal = _agrees(dtype, options, case)
            rows.add(part="correct", kind=kind, case=case, bit_equal=is_equal)
    if DEVICE.type == "cuda":
        rows.add(
            part="correct", kind="bf16", case="2^31 + 3 elements", bit_equal=_agrees_if_giant()
        )
        rows.add(part="correct", kind="fp32", case="graph", bit_equal=_agrees_in_graph())


def _agrees(dtype: torch.dtype, options: dict[str, Any], case: str) -> bool:
    torch.manual_seed(0)
    ours = parameters(ODD, dtype, shift=int(case == "unaligned"))
    theirs = [nn.Parameter(p.detach().cpu().clone()) for p in ours]
    fast = Lion(ours, lr=1e-3, weight_decay=0.1, **options)
    loop = {} if dtype == torch.bfloat16 else {"fused": False, "foreach": False}
    plain = Lion(theirs, lr=1e-3, weight_decay=0.1, **loop, **options)
    for step in range(NUM_STEPS):
        for mine, other in zip(ours, theirs, strict=True):
            other.grad = torch.randn(other.shape).to(dtype)
            mine.grad = other.grad.to(DEVICE)
        if case == "after load_state_dict" and step == NUM_STEPS // 2:
            state = fast.state_dict()
            fast = Lion(ours, lr=1e-3, weight_decay=0.1, **options)
            fast.load_state_dict(state)
        if case == "on a side stream" and DEVICE.type == "cuda":
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                fast.step()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            fast.step()
        plain.step()
    return all(torch.equal(a.cpu(), b) for a, b in zip(ours, theirs, strict=True))


def _agrees_if_giant() -> bool:
    """Offsets beyond 32 bits: the same small block of numbers again and again."""
    block = torch.randn(4099, device=DEVICE).to(torch.bfloat16)
    times_over = 2**31 // len(block) + 1
    giant = nn.Parameter(block.repeat(times_over))
    giant.grad = block.flip(0).repeat(times_over)
    small = nn.Parameter(block.clone())
    small.grad = block.flip(0)
    for param in (giant, small):
        optimizer = Lion([param], lr=1e-2, weight_decay=0.1)
        for _ in range(2):
            optimizer.step()
    return bool((giant.detach().view(times_over, -1) == small.detach()).all())


def _agrees_in_graph() -> bool:
    torch.manual_seed(0)
    ours = parameters(ODD)
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    for mine, other in zip(ours, theirs, strict=True):
        other.grad = mine.grad
    lr = torch.tensor(1e-3, device=DEVICE)
    captured, eager = (Lion(p, lr=lr, weight_decay=0.1, capturable=True) for p in (ours, theirs))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            captured.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step()
    for factor in (1.0, 0.5):
        lr.fill_(1e-3 * factor)
        graph.replay()
        wait()
    for step in range(5):
        lr.fill_(1e-3 if step < 4 else 5e-4)
        eager.step()
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def step(rows: Rows) -> None:
    """Time of a step beside other optimizers and the card's own copy."""
    roof = copy_roof()
    rows.add(part="step", what="copy roof", terabytes_per_second=round(roof / 1e12, 4))
    for size in ("vit_small",) if IS_REHEARSAL else SHAPES:
        shapes = [(8, 8), (8,)] if IS_REHEARSAL else list(vit_shapes(*SHAPES[size]))
        for name, (make, num_bytes) in _contestants(shapes).items():
            if rows.is_time_over:
                return
            _measure(rows, size, name, make, num_bytes, roof)


def _measure(
    rows: Rows, size: str, name: str, make: Callable[[], Any], num_bytes: float, roof: float
) -> None:
    try:
        optimizer = make()
        count = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
        began = time.perf_counter()
        optimizer.step()
        wait()
        first = time.perf_counter() - began
        host, span = times(optimizer.step)
    except (RuntimeError, torch.OutOfMemoryError) as error:
        rows.add(part="step", size=size, what=name, error=str(error)[:200])
        return
    finally:
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()
    speed = count * num_bytes / (1e-3 * span)
    rows.add(
        part="step", size=size, what=name, parameters=count, host_ms=round(host, 4),
        span_ms=round(span, 4), first_s=round(first, 3), share_of_roof=round(speed / roof, 3),
        terabytes_per_second=round(speed / 1e12, 4),
    )  # fmt: skip


def _contestants(shapes: list[tuple[int, ...]]) -> dict[str, tuple[Callable[[], Any], float]]:
    """How to make each, and its least bytes a parameter."""
    rule = {"lr": 1e-6, "weight_decay": 0.1}
    found: dict[str, tuple[Callable[[], Any], float]] = {}
    for kind, (dtype, options) in KINDS.items():
        found[f"Lion, {kind}"] = (
            lambda dtype=dtype, options=options: Lion(parameters(shapes, dtype), **rule, **options),
            BYTES[kind],
        )
    found["Lion, fp32, unaligned"] = (lambda: Lion(parameters(shapes, shift=1), **rule), 20)
    found["Lion, fp32, foreach"] = (
        lambda: Lion(parameters(shapes), **rule, fused=False, foreach=True), 20
    )  # fmt: skip
    adamw = torch.optim.AdamW
    is_cuda = DEVICE.type == "cuda"
    found["AdamW, fused"] = (lambda: adamw(parameters(shapes), **rule, fused=is_cuda), 28)
    found["AdamW, foreach"] = (lambda: adamw(parameters(shapes), **rule, foreach=True), 28)
    import timm.optim

    found["timm Lion, foreach"] = (
        lambda: timm.optim.Lion(parameters(shapes), **rule, foreach=True), 20
    )  # fmt: skip
    if importlib.util.find_spec("lion_pytorch"):
        import lion_pytorch

        found["lion-pytorch"] = (lambda: lion_pytorch.Lion(parameters(shapes), **rule), 20)
    if is_cuda and importlib.util.find_spec("bitsandbytes"):
        import bitsandbytes.optim

        found["bitsandbytes Lion, 8 bit"] = (
            lambda: bitsandbytes.optim.Lion8bit(parameters(shapes), **rule), 14
        )  # fmt: skip
    return found
