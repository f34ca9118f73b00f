"""How fast the optimizer step of a card is, beside other optimizers."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_lab.correctness import KINDS, Launches
from gpu_lab.measuring import (
    DEVICE,
    IS_REHEARSAL,
    Rows,
    check_alive,
    copy_roof,
    emptied,
    in_a_line,
    is_installed,
    times,
    wait,
)
from torch import Tensor, nn

from lion import Lion

SHAPES = {  # width, depth, tokens, patch
    "vit_small": (384, 12, 197, 16),
    "vit_base": (768, 12, 197, 16),
    "vit_large": (1024, 24, 197, 16),
    "vit_huge": (1280, 32, 257, 14),
    "one_billion": (1792, 26, 257, 14),
}
BYTES = {"fp32": 20, "fp32, bf16 momentum": 16, "fp32, int8 momentum": 14.03, "bf16": 10,
         "bf16, kahan": 14}  # fmt: skip
"""A parameter's bytes that a step must at least read and write: p and m twice, g once."""


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


def step(rows: Rows) -> None:
    """Time of a step beside other optimizers and the card's own copy."""
    roof = copy_roof()
    rows.add(part="step", what="copy roof", terabytes_per_second=round(roof / 1e12, 4))
    for size in ("vit_small",) if IS_REHEARSAL else SHAPES:
        shapes = [(8, 8), (8,)] if IS_REHEARSAL else list(vit_shapes(*SHAPES[size]))
        for name, (make, num_bytes) in _contestants(shapes).items():
            if rows.is_time_over:
                return
            try:
                rows.add(part="step", size=size, what=name, **_measured(make, num_bytes, roof))
            except torch.OutOfMemoryError as error:  # a small card, a slice of one, a shared one
                rows.add(part="step", size=size, what=name, skipped=in_a_line(error))
            except Exception as error:  # of any library; the next one may still be measured
                rows.add(part="step", size=size, what=name, error=in_a_line(error))
            check_alive()
            emptied()


def _measured(make: Callable[[], Any], num_bytes: float, roof: float) -> dict[str, Any]:
    """What one optimizer takes; `launches`: of Lion's Triton kernel in the first step."""
    optimizer = make()
    count = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    wait()
    began = time.perf_counter()
    with Launches() as launches:
        optimizer.step()
    wait()
    first = time.perf_counter() - began
    host, span = times(optimizer.step)
    speed = count * num_bytes / (1e-3 * span)
    return {
        "parameters": count,
        "host_ms": round(host, 4),
        "span_ms": round(span, 4),
        "first_s": round(first, 3),
        "share_of_roof": round(speed / roof, 3),
        "terabytes_per_second": round(speed / 1e12, 4),
        "launches": launches.count,
    }


def _contestants(shapes: list[tuple[int, ...]]) -> dict[str, tuple[Callable[[], Any], float]]:
    """How to make each, and its least bytes a parameter. What is not installed is left out."""
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
    is_cuda = DEVICE.type == "cuda"
    for name, bytes_each, module, attribute, options in (
        ("AdamW, fused", 28, "torch.optim", "AdamW", {"fused": is_cuda}),
        ("AdamW, foreach", 28, "torch.optim", "AdamW", {"foreach": True}),
        ("timm Lion, foreach", 20, "timm.optim", "Lion", {"foreach": True}),
        ("lion-pytorch", 20, "lion_pytorch", "Lion", {}),
        *([("bitsandbytes Lion, 8 bit", 14, "bitsandbytes.optim", "Lion8bit", {})] * is_cuda),
    ):
        if is_installed(module.partition(".")[0]):
            found[name] = (_maker(module, attribute, shapes, {**rule, **options}), bytes_each)
    return found


def _maker(
    module: str, attribute: str, shapes: list[tuple[int, ...]], options: dict[str, Any]
) -> Callable[[], Any]:
    """Imports when it is called: a library that cannot be imported costs its own row alone."""
    return lambda: getattr(importlib.import_module(module), attribute)(
        parameters(shapes), **options
    )
