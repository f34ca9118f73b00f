"""Bytes that a computation holds at a time, counted as storages come and go; and its FLOPs.

The formulas of FLOPs are torch's own. Torch's counter also follows modules, and what it hooks for
that keeps alive what checkpointing computes again.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry, sdpa_flop_count


class LiveBytes(TorchDispatchMode):
    """Within, counts what operations allocate, apart from what was there before.

    Gradients that come to lie in parameters are counted apart: they stay. So are copies of weights.

    Args:
        model: Whose gradients.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.gradients = self.copies = self.peak_copies = 0
        self.peak_activations = 0  # of what is neither a gradient nor a copy of a weight
        self.flops = self.flops_again = 0  # the latter: of what checkpointing computes again
        self._there: dict[int, Any] = {}
        self._handles = [
            p.register_post_accumulate_grad_hook(self._keep)
            for p in model.parameters()
            if p.requires_grad and p.grad is None
        ]

    def close(self) -> None:
        """Takes the hooks off the parameters."""
        for handle in self._handles:
            handle.remove()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):  # what was there before counts as nothing
                self._see(leaf, is_new=False)
        out = func(*args, **(kwargs or {}))
        count = _FLOPS.get(func._overloadpacket)
        if count is not None:
            flops = count(*args, **(kwargs or {}), out_val=out)
            # Backward formulas run without gradients, a second forward pass within them with.
            if torch._C._current_graph_task_id() != -1 and torch.is_grad_enabled():
                self.flops_again += flops
            else:
                self.flops += flops
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._see(leaf, is_new=True)
        self.peak = max(self.peak, self.live)
        without = self.live - self.gradients - self.copies
        self.peak_activations = max(self.peak_activations, without)
        return out

    def set_apart(self, copied: Tensor) -> None:
        """Counts a tensor as a copy of a weight."""
        storage = copied.untyped_storage()
        size = storage.nbytes()
        self.copies += size
        self.peak_copies = max(self.peak_copies, self.copies)
        weakref.finalize(storage, self._drop_copy, size)

    def _see(self, tensor: Tensor, is_new: bool) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes() if is_new else 0
        if key not in self._there:
            self.live += size
            self._there[key] = weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self.live -= size
        self._there.pop(key, None)

    def _drop_copy(self, size: int) -> None:
        self.copies -= size

    def _keep(self, param: Tensor) -> None:
        if param.grad is not None:
            self.gradients += param.grad.untyped_storage().nbytes()


def _of_convolution_backward(*args: Any, **_: Any) -> int:
    """As many as forward, once per gradient: torch's formula leaves the groups out."""
    grad, x, weight, transposed, output_mask = args[0], args[1], args[2], args[7], args[10]
    forward = conv_flop_count(x.shape, weight.shape, grad.shape, transposed=transposed)
    return forward * (int(output_mask[0]) + int(output_mask[1]))


def _of_attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _of_attention_backward(_grad: Tensor, *args: Any, **_: Any) -> int:
    """Five products for the two of the forward pass: the scores are made again."""
    return _of_attention(*args) * 5 // 2


_ATEN = torch.ops.aten
_FLOPS: dict[Any, Any] = {
    **flop_registry,
    _ATEN.convolution_backward: _of_convolution_backward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _of_attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _of_attention_backward,
}
"""Operation: its formula; those that torch lacks or has wrong are ours."""
