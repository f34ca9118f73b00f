"""What CUDA's bf16 autocast and fused attention do, for tensors without a device.

Torch's own autocast acts on tensors of a real device only, and its lists differ from one device
to the next: layer norm, for one, is float32 on GPUs and bfloat16 on CPUs.

Source: docs.pytorch.org/docs/stable/amp.html, "CUDA Ops that can autocast to float16 / float32".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

TO_LOW = frozenset(
    [
        "linear",
        "matmul",
        "__matmul__",
        "__rmatmul__",
        "bmm",
        "mm",
        "mv",
        "addmm",
        "addbmm",
        "addmv",
        "baddbmm",
        "addr",
        "einsum",
        "prelu",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
    ]
)
TO_HIGH = frozenset(
    [
        "layer_norm",
        "group_norm",
        "rms_norm",
        "softmax",
        "log_softmax",
        "softmin",
        "softplus",
        "cross_entropy",
        "nll_loss",
        "binary_cross_entropy_with_logits",
        "mse_loss",
        "l1_loss",
        "smooth_l1_loss",
        "kl_div",
        "cosine_similarity",
        "exp",
        "expm1",
        "log",
        "log10",
        "log1p",
        "log2",
        "pow",
        "__pow__",
        "__rpow__",
        "prod",
        "sum",
        "norm",
        "cumsum",
        "cumprod",
        "rsqrt",
        "reciprocal",
        "acos",
        "asin",
        "cosh",
        "sinh",
        "tan",
        "erfinv",
        "cdist",
        "dist",
        "renorm",
    ]
)
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class GpuCasts(TorchFunctionMode):
    """Within, functions compute in the dtypes that they would have on a GPU.

    Args:
        low: dtype of matrix products; None: no autocast, only the fused attention.
        tell: Called with each copy of a weight in another dtype.
    """

    def __init__(self, low: torch.dtype | None, tell: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._low, self._tell = low, tell
        self._of_weight: dict[int, Tensor] = {}  # autocast casts a weight once a forward pass

    def forget_weights(self) -> None:
        """As at the end of an autocast region."""
        self._of_weight.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name == "scaled_dot_product_attention":
            return _fused_attention(*self._cast(args, self._low), **self._cast(kwargs, self._low))
        if self._low is not None and name in TO_LOW:
            args, kwargs = self._cast(args, self._low), self._cast(kwargs, self._low)
        elif self._low is not None and name in TO_HIGH:
            args, kwargs = self._cast(args, torch.float32), self._cast(kwargs, torch.float32)
        return func(*args, **kwargs)

    def _cast(self, value: Any, dtype: torch.dtype | None) -> Any:
        if isinstance(value, dict):
            return {key: self._cast(one, dtype) for key, one in value.items()}
        if type(value) in (tuple, list):
            return type(value)(self._cast(one, dtype) for one in value)
        if not isinstance(value, Tensor) or value.dtype not in _FLOATS:
            return value
        if dtype is None or value.dtype == dtype:
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(dtype)
        if id(value) in self._of_weight:
            return self._of_weight[id(value)]
        copied = value.to(dtype)
        self._tell(copied)
        # Autocast's cache ends with its region, and a second forward pass has one per block.
        if torch._C._current_graph_task_id() == -1:
            self._of_weight[id(value)] = copied
        return copied


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Flash attention; with a mask, or in float32, the memory-efficient kernel."""
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(repeats, -3) for x in (key, value))
    aten = torch.ops.aten
    if attn_mask is None and query.dtype != torch.float32:
        return aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, False, scale=scale
        )[0]
    if attn_mask is not None:
        if attn_mask.dtype != query.dtype:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
        attn_mask = attn_mask.expand(*query.shape[:-1], key.shape[-2])
    return aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, query.requires_grad, dropout_p, is_causal, scale=scale
    )[0]
