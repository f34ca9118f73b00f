"""Every public Lion that can be tried here, ours on every path, and how to install what is missing.

A contestant makes a session (see `sessions.py`) from weights, a learning rate and settings. Imports
happen in there, so that one broken package costs its own rows only.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scripts.conformance_lab.scenarios import BETAS
from scripts.conformance_lab.sessions import (
    CompiledSession,
    NotOffered,
    RuleSession,
    Session,
    TorchSession,
)

Params = list[torch.nn.Parameter]


@dataclass(frozen=True)
class Contestant:
    """An optimizer on one of its paths.

    Attributes:
        name: Its row in the matrix.
        package: On PyPI; empty if it comes with this repository.
        module: What to import to see whether it is installed.
        session: Makes a session: (weights, lr, weight_decay, maximize) -> Session.
        builder: Makes the torch optimizer, if it is one: (params, lr, weight_decay, maximize).
        needs_gpu: Whether it cannot run on the CPU, where all trajectories are.
    """

    name: str
    package: str
    module: str
    session: Callable[..., Session]
    builder: Callable[..., torch.optim.Optimizer] | None = None
    needs_gpu: bool = False

    def version(self) -> str:
        """Return the version that is installed; empty for ours."""
        return importlib.metadata.version(self.package) if self.package else ""

    def why_absent(self) -> str:
        """Return what to do to have it, or an empty string if it can be run."""
        if self.needs_gpu:
            return "not run: its Triton kernels need a GPU, and this lab steps on the CPU"
        try:
            importlib.import_module(self.module)
        except ImportError as error:
            return f"not installed ({error}): pip install {self.package}"
        except Exception as error:  # a broken package must not stop the others
            return f"cannot be imported: {type(error).__name__}: {error}"
        return ""


def contestants() -> list[Contestant]:
    """Return all of them, installed or not, ours first."""
    return [*_ours(), *_peers()]


def _ours() -> list[Contestant]:
    paths: dict[str, dict[str, Any]] = {
        "loop": {"foreach": False, "fused": False},
        "foreach": {"foreach": True},
        "fused": {"fused": True},
        "fused, bf16 momentum": {"fused": True, "momentum_dtype": "bfloat16"},
        "fused, int8 momentum": {"fused": True, "momentum_dtype": "int8"},
        "fused, Kahan": {"fused": True, "kahan_sum": True},
        "loop, bf16 momentum": {"fused": False, "momentum_dtype": "bfloat16"},
        "loop, int8 momentum": {"fused": False, "momentum_dtype": "int8"},
    }
    made = [Contestant("ours (rule)", "", "lion", RuleSession)]
    made += [_torch(f"ours ({name})", "", "lion", **flags) for name, flags in paths.items()]
    builder = _builder("lion", fused=False, foreach=False)
    compiled = Contestant(
        "ours (compiled)", "", "lion", _session(CompiledSession, builder), builder
    )
    return [*made, compiled]


def _peers() -> list[Contestant]:
    bits, optimi = "bitsandbytes", "torch-optimi"
    return [
        Contestant(
            "google (plain loop)", "", "torch", _session(TorchSession, GoogleLion), GoogleLion
        ),
        _torch("timm (loop)", "timm", "timm.optim", foreach=False),
        _torch("timm (foreach)", "timm", "timm.optim", foreach=True),
        _torch("lion-pytorch", "lion-pytorch", "lion_pytorch"),
        _torch("lion-pytorch (foreach)", "lion-pytorch", "lion_pytorch.foreach"),
        _on_gpu(_torch("lion-pytorch (triton)", "lion-pytorch", "lion_pytorch", use_triton=True)),
        _torch("optimi (loop)", optimi, "optimi", foreach=False, triton=False, kahan_sum=False),
        _torch("optimi (foreach)", optimi, "optimi", foreach=True, triton=False, kahan_sum=False),
        _torch("optimi (Kahan)", optimi, "optimi", foreach=False, triton=False, kahan_sum=True),
        _on_gpu(_torch("optimi (triton)", optimi, "optimi", triton=True)),
        _torch("pytorch_optimizer (loop)", "pytorch_optimizer", "pytorch_optimizer", foreach=False),
        _torch(
            "pytorch_optimizer (foreach)", "pytorch_optimizer", "pytorch_optimizer", foreach=True
        ),
        _torch("bitsandbytes (32 bit)", bits, "bitsandbytes.optim", optim_bits=32),
        _torch("bitsandbytes (8 bit)", bits, "bitsandbytes.optim", optim_bits=8),
        Contestant("optax (jit)", "optax", "optax", _optax_session),
    ]


def _on_gpu(contestant: Contestant) -> Contestant:
    return replace(contestant, needs_gpu=True)


def _torch(name: str, package: str, module: str, **flags: Any) -> Contestant:
    builder = _builder(module, **flags)
    return Contestant(name, package, module, _session(TorchSession, builder), builder)


def _builder(module: str, **flags: Any) -> Callable[..., torch.optim.Optimizer]:
    def build(params: Params, lr: Any, weight_decay: float, maximize: bool) -> Any:
        made = importlib.import_module(module).Lion
        settings = {"lr": lr, "betas": BETAS, "weight_decay": weight_decay, **flags}
        if maximize:
            accepted = inspect.signature(made).parameters
            if "maximize" not in accepted:
                raise NotOffered("it has no argument `maximize`")
            settings["maximize"] = True
        return made(params, **settings)

    return build


def _session(kind: type, builder: Callable[..., Any]) -> Callable[..., Session]:
    def start(weights: list[Tensor], lr: Any, weight_decay: float, maximize: bool) -> Session:
        return kind(weights, lambda params: builder(params, lr, weight_decay, maximize))

    return start


def _optax_session(*settings: Any) -> Session:
    from scripts.conformance_lab.optax_session import OptaxSession

    return OptaxSession(*settings)


class GoogleLion(torch.optim.Optimizer):
    """The operations of google/automl's PyTorch Lion: what "bit-equal" is measured by."""

    def __init__(self, params: Params, lr: Any, weight_decay: float, maximize: bool) -> None:
        if maximize:
            raise NotOffered("it has no argument `maximize`")
        super().__init__(params, {"lr": lr, "betas": BETAS, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            (beta1, beta2), lr = group["betas"], group["lr"]
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                m = state["exp_avg"]
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(torch.sign(m * beta1 + p.grad * (1 - beta1)), alpha=-lr)
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)
