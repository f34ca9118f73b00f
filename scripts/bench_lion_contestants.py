"""What `bench_lion.py` times: the optimizers, on the parameters of ViTs, and the roof of memory."""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from lion import Lion, native

SIZES = {  # width, depth, tokens, patch, channels, classes
    "vit_base": (768, 12, 197, 16, 3, 1000),
    "vit_small": (384, 12, 197, 16, 3, 1000),
    "tiny": (192, 4, 65, 4, 3, 10),
    "micro": (64, 4, 65, 4, 3, 10),
}
LR = 1e-6
ROOF = r"""
extern "C" __attribute__((visibility("default")))
void roof(float* __restrict p, const float* __restrict g, float* __restrict m, long n,
          int threads) {
// Without `parallel:` the condition would bind to simd, too, and one thread be scalar.
#pragma omp parallel for simd schedule(static) num_threads(threads) if (parallel : threads > 1)
  for (long i = 0; i < n; ++i) {
    p[i] = p[i] - 1e-6f * g[i];
    m[i] = 0.99f * m[i] + 0.01f * g[i];
  }
}
"""


class PlainLoop(torch.optim.Optimizer):
    """The paper's Algorithm 2 as one would first write it in PyTorch: what most ports are."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.99), "weight_decay": 0.1})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        for group in self.param_groups:
            (beta1, beta2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                m = state["exp_avg"]
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(torch.sign(m * beta1 + p.grad * (1 - beta1)), alpha=-lr)
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)


def vit_shapes(
    width: int, depth: int, tokens: int, patch: int, channels: int, classes: int
) -> Iterator[tuple[int, ...]]:
    """The parameter shapes of a ViT, in timm's order."""
    yield from [(1, 1, width), (1, tokens, width), (width, channels, patch, patch), (width,)]
    for _ in range(depth):
        yield from [(width,), (width,), (3 * width, width), (3 * width,), (width, width)]
        yield from [(width,), (width,), (width,), (4 * width, width), (4 * width,)]
        yield from [(width, 4 * width), (width,)]
    yield from [(width,), (width,), (classes, width), (classes,)]


def make_params(size: str) -> list[nn.Parameter]:
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(shape) * 0.02) for shape in vit_shapes(*SIZES[size])]
    for param in params:
        param.grad = torch.randn_like(param)
    return params


def contestants() -> dict[str, Callable[[list[nn.Parameter]], Any]]:
    """Optimizers by name; a peer that cannot be imported is left out."""
    options: dict[str, Any] = {"lr": LR, "weight_decay": 0.1}
    adamw, sgd = torch.optim.AdamW, torch.optim.SGD
    found: dict[str, Callable[[list[nn.Parameter]], Any]] = {
        "Lion (ours, fused)": lambda p: Lion(p, **options),
        "Lion (ours, fused, bf16 momentum)": lambda p: Lion(
            p, **options, momentum_dtype="bfloat16"
        ),
        "Lion (ours, fused, int8 momentum)": lambda p: Lion(p, **options, momentum_dtype="int8"),
        "Lion (ours, fused, torch's wrapper of step)": lambda p: Wrapped(Lion(p, **options)),
        "Lion (ours, loop)": lambda p: Lion(p, **options, fused=False, foreach=False),
        "Lion (ours, foreach)": lambda p: Lion(p, **options, foreach=True),
        "Lion, plain loop": lambda p: PlainLoop(p, LR),
        "AdamW (torch, fused)": lambda p: adamw(p, **options, fused=True),
        "AdamW (torch, foreach)": lambda p: adamw(p, **options, foreach=True),
        "SGD momentum (torch, fused)": lambda p: sgd(p, **options, momentum=0.9, fused=True),
        "SGD momentum (torch, foreach)": lambda p: sgd(p, **options, momentum=0.9, foreach=True),
    }
    peers = [
        ("Lion (timm, foreach)", "timm.optim", {"foreach": True}),
        ("Lion (timm, loop)", "timm.optim", {"foreach": False}),
        ("Lion (lion-pytorch)", "lion_pytorch", {}),
        ("Lion (optimi, loop)", "optimi", {"foreach": False}),
        ("Lion (pytorch_optimizer)", "pytorch_optimizer", {}),
        ("Lion (bitsandbytes, 32 bit)", "bitsandbytes.optim", {}),
        ("Lion (bitsandbytes, 8 bit)", "bitsandbytes.optim", {"optim_bits": 8}),
    ]
    for name, module_name, extra in peers:
        try:
            peer = importlib.import_module(module_name).Lion
        except ImportError as error:
            print(f"left out {name}: {error}", file=sys.stderr)
            continue
        found[name] = lambda p, peer=peer, extra=extra: peer(p, **options, **extra)
        if module_name == "pytorch_optimizer":
            found["Lion (pytorch_optimizer, compiled)"] = lambda p, peer=peer: Compiled(
                peer(p, **options)
            )
    return found


class Compiled:
    """An optimizer whose step goes through torch.compile."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.state, self.step = optimizer.state, torch.compile(optimizer.step)


class Wrapped:
    """Lion with torch's wrapper of `step` always on, for its hooks and profiler."""

    def __init__(self, optimizer: Lion) -> None:
        step = torch.optim.Optimizer.profile_hook_step(Lion.step.__wrapped__)
        self.state, self.step = optimizer.state, partial(step, optimizer)


class Roof:
    """Lion's memory traffic and nothing else, on tensors of its own."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        self.state: dict[Any, Any] = {}
        self.number = sum(p.numel() for p in params)
        self.tensors = [torch.randn(self.number) for _ in range(3)]
        self.kernel = ctypes.CDLL(str(native.build(ROOF))).roof
        self.kernel.argtypes = [*[ctypes.c_void_p] * 3, ctypes.c_long, ctypes.c_int]
        self.pointers = [x.data_ptr() for x in self.tensors]

    def step(self) -> None:
        self.kernel(*self.pointers, self.number, torch.get_num_threads())
