"""Head bias and activation checkpointing: the numbers stay, the memory does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.config import ConfigError
from experiments.models.vision_transformer import vision_transformer

TINY: dict[str, Any] = {
    "img_size": 28, "patch_size": 7, "embed_dim": 32, "depth": 4, "num_heads": 2, "num_classes": 5,
}  # fmt: skip


def made(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    return vision_transformer("vit_tiny_patch16_224", **{**TINY, **changes})


def test_head_begins_with_its_bias_and_knows_nothing_else() -> None:
    model = made(head_bias=-10.0, weight_init="jax")
    assert torch.equal(model(torch.randn(2, 3, 28, 28)), torch.full((2, 5), -10.0))
    with pytest.raises(ConfigError, match=r"head_bias=-10.0: .* no head with a bias"):
        made(head_bias=-10.0, num_classes=0)


class Kept:
    """Bytes of activations that autograd keeps for the backward pass."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def pack(self, tensor: Tensor) -> Tensor:
        self.num_bytes += tensor.numel() * tensor.element_size()
        return tensor


def grads(model: nn.Module) -> tuple[list[Tensor], int]:
    kept = Kept()
    torch.manual_seed(1)  # of dropout
    images = torch.randn(4, 3, 28, 28)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        loss = model(images).logsumexp(1).sum()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None], kept.num_bytes


def test_checkpointing_keeps_less_and_gives_the_same_gradients() -> None:
    plain, much = grads(made(proj_drop_rate=0.1))
    again, little = grads(made(proj_drop_rate=0.1, activation_checkpointing=True))
    assert len(plain) == len(again)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert little < much / 4


def test_pooling_by_attention_has_a_gradient_for_every_weight() -> None:
    model = made(global_pool="map", class_token=False)
    found, _ = grads(model)
    assert len(found) == len(list(model.parameters()))
