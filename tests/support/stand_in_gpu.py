"""A GPU made of the CPU's memory: tensors with numbers, which say that they lie on `cuda:0`.

What mixes devices, or reads numbers of the device as if they lay on the host, fails here as it
would there; all else is computed. Only a backward pass is not, for which autograd wants a driver:
gradients are made up, the same for the same weights. Triton's kernel is tested in tests/lion.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from experiments import distributed, parts, precision
from experiments.prefetching import Prefetcher
from lion import backends, fused_cuda

GPU = torch.device("cuda", 0)
MAY_MIX = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_"}
"""Operations that take tensors of several devices; the last four: indices of the host."""
MATH = 0
"""The way of attention that no kernel is fused for."""


class OnGPU(Tensor):
    """A tensor of the device; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGPU:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=GPU,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held.detach()

    def __repr__(self) -> str:
        return f"OnGPU({self.held})"

    def __reduce_ex__(self, protocol: Any) -> Any:  # what a file holds of it
        return self.held.clone().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Any:
        copied = type(self)(self.held.clone())
        if getattr(self, "_is_param", False):
            copied = nn.Parameter(copied, self.requires_grad)  # type: ignore[assignment]
        return memo.setdefault(id(self), copied)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Calls(TorchFunctionMode):
    """What Python code asks of a tensor itself, before any operation of torch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if args and isinstance(args[0], OnGPU):
            if name == "tolist":
                return args[0].held.tolist()
            if name == "numpy":
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name in ("tensor", "as_tensor") and _is_gpu(kwargs.get("device")):
            made = func(*args, **{**kwargs, "device": "cpu"})
            return made if isinstance(made, OnGPU) else OnGPU(made)
        return func(*args, **kwargs)


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation on what the tensors hold; its results lie where those of a GPU would."""
    name, asked = func.overloadpacket.__name__, kwargs.get("device")
    tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    ours = [x for x in tensors if isinstance(x, OnGPU)]
    _check_places(name, tensors, ours)
    if name == "_fused_sdp_choice":
        return MATH
    held_args, held = pytree.tree_map_only(OnGPU, lambda x: x.held, (args, kwargs))
    if asked is not None:
        held = {k: v for k, v in held.items() if k != "pin_memory"} | {"device": "cpu"}
    kernel = _lstm_cell if name == "_thnn_fused_lstm_cell" else func
    found = kernel(*held_args, **held)
    if name == "copy_":
        return args[0]
    if not (_is_gpu(asked) if asked is not None else ours):
        return found.clone() if any(found is x.held for x in ours) else found
    known = {id(x.held): x for x in ours}
    return pytree.tree_map_only(
        Tensor, lambda x: known[id(x)] if id(x) in known else OnGPU(x), found
    )


def _check_places(name: str, tensors: Sequence[Tensor], ours: Sequence[Tensor]) -> None:
    """As a GPU: a number of the host may come along, more may not."""
    if name in MAY_MIX:
        if "index" in name and ours and not isinstance(tensors[0], OnGPU):
            raise RuntimeError("indices should be either on cpu or on the same device")
        return
    if ours and any(x.dim() and not isinstance(x, OnGPU) for x in tensors):
        places = ", ".join(f"{tuple(x.shape)} on {x.device}" for x in tensors)
        raise RuntimeError(f"{name}: expected all tensors to be on the same device: {places}")


def _lstm_cell(of_input: Tensor, of_hidden: Tensor, cell: Tensor, *biases: Any) -> Any:
    """The CUDA kernel of an LSTM, which a CPU lacks."""
    gates = of_input + of_hidden + sum(bias for bias in biases if bias is not None)
    i, f, g, o = gates.chunk(4, 1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell, gates


class _Streams:
    """Copies at once."""

    def empty_like(self, tensor: Tensor, layout: torch.memory_format) -> Tensor:
        return torch.empty_like(tensor, device=GPU, memory_format=layout)

    def copy(self, targets: Sequence[Tensor], sources: Sequence[Tensor], after: Any) -> None:
        for target, source in zip(targets, sources, strict=True):
            steps = zip(source.stride(), source.shape, strict=True)
            assert all(step or n == 1 for step, n in steps), "places that are shared"  # no pinning
            target.copy_(source)

    def wait(self, event: Any) -> None:
        pass

    def mark(self) -> None:
        pass


def _made_up(loss: Tensor | Sequence[Tensor], grads: Any = None) -> None:
    """In place of a backward pass: gradients for the leaves that losses depend on."""
    roots = [loss] if isinstance(loss, Tensor) else loss
    assert all(root.device == GPU for root in roots)
    assert grads is not None or not roots[0].dim()
    seen, left = set(), [root.grad_fn for root in roots]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        left += [parent for parent, _ in node.next_functions]
        if (leaf := getattr(node, "variable", None)) is not None:
            grad = 0.01 * torch.sin(100 * leaf.detach())
            leaf.grad = grad if leaf.grad is None else leaf.grad + grad


@contextlib.contextmanager
def plugged_in(monkeypatch: pytest.MonkeyPatch, plain: bool = False) -> Iterator[torch.device]:
    """A machine with one GPU, whose Triton does not work.

    Args:
        monkeypatch: Of the test.
        plain: Whether Lion takes its tensors for ordinary ones, and so steps all at a time.
    """
    torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]
    answers: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "is_current_stream_capturing": lambda: False,
        "get_device_name": lambda *_: "a stand-in",
        "get_device_capability": lambda *_: (9, 0),
        "device_count": lambda: 1,
        "set_device": lambda _: None,
        "current_device": lambda: 0,
        "manual_seed": lambda _: None,
        "manual_seed_all": lambda _: None,
        "synchronize": lambda *_: None,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(fused_cuda, "available", lambda _: False)
    monkeypatch.setattr(precision, "uses_gpu", lambda _: True)
    monkeypatch.setattr(distributed, "_choose_device", lambda _: GPU)
    monkeypatch.setattr(parts, "prefetcher", lambda _, last: Prefetcher(_Streams(), last))
    monkeypatch.setattr(Tensor, "backward", _made_up)
    monkeypatch.setattr(torch.autograd, "backward", _made_up)
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    if plain:
        monkeypatch.setattr(backends, "_is_plain", lambda _: True)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # else it sets `.data`
    try:
        with _Operations(), _Calls():
            yield GPU
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
