"""Two towers, one for images and one for texts, whose outputs meet in one space.

Legend: N examples, D embedding.
Source: arXiv:2103.00020 (CLIP), arXiv:2111.07991 (LiT), arXiv:2111.10050 (BASIC).
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.build import build


class TwoTowers(nn.Module):
    """Embeddings of unit length; those of images times the scale of the logits.

    A tower without any trained parameter runs without gradients: it costs no memory for them.

    Args:
        image: Section of a model that gives features (N, F) of images.
        text: Section of a model that gives features (N, F) of tokens (N, T).
        embed_dim: D.
        image_head: Whether a linear layer follows the image tower; else F must be D.
        text_head: The same for texts.
        scale_init: Of the logits at the beginning (the inverse of the temperature).
        max_scale: That it never exceeds.
    """

    def __init__(
        self,
        image: dict[str, Any],
        text: dict[str, Any],
        embed_dim: int,
        image_head: bool = True,
        text_head: bool = True,
        *,
        scale_init: float = 10.0,
        max_scale: float = 100.0,
    ) -> None:
        super().__init__()
        if not 0 < scale_init <= max_scale:
            raise ValueError(f"scale_init={scale_init} must lie above 0 and up to {max_scale}")
        self.embed_dim, self.max_scale = embed_dim, max_scale
        self.image: nn.Module = build(image, "model.image")
        self.text: nn.Module = build(text, "model.text")
        self.image_head = _head(self.image, embed_dim, image_head, "image")
        self.text_head = _head(self.text, embed_dim, text_head, "text")
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale_init)))

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied with to be logits; at most `max_scale`."""
        return bounded(self.log_scale, math.log(self.max_scale)).exp()

    def forward(self, images: Tensor, tokens_NT: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (N, D) float32; those of images times the scale.

        Args:
            images: (N, C, H, W), or features (N, F) that the image tower gave before.
            tokens_NT: int64.
        """
        return self.encode_image(images) * self.scale, self.encode_text(tokens_NT)

    def encode_image(self, images: Tensor) -> Tensor:
        """Unit vectors (N, D) float32, of images or of the image tower's features."""
        features = images if images.dim() == 2 else self.image_features(images)
        return functional.normalize(self.image_head(features).float(), dim=1)

    def image_features(self, images: Tensor) -> Tensor:
        """(N, F) of images (N, C, H, W)."""
        with _without_gradients_if_frozen(self.image):
            return self.image(images)

    def encode_text(self, tokens_NT: Tensor) -> Tensor:
        """Unit vectors (N, D) float32."""
        with _without_gradients_if_frozen(self.text):
            features = self.text(tokens_NT)
        return functional.normalize(self.text_head(features).float(), dim=1)


def _head(tower: nn.Module, embed_dim: int, wanted: bool, name: str) -> nn.Module:
    width = getattr(tower, "num_features", None)
    if not isinstance(width, int):
        raise ValueError(f"model.{name} does not say how many features it gives (num_features)")
    if wanted:
        return nn.Linear(width, embed_dim)
    if width != embed_dim:
        raise ValueError(
            f"model.{name} gives {width} features, and model.embed_dim={embed_dim}: set "
            f"model.{name}_head=true or model.embed_dim={width}"
        )
    return nn.Identity()


def _without_gradients_if_frozen(tower: nn.Module) -> contextlib.AbstractContextManager[Any]:
    is_trained = any(p.requires_grad for p in tower.parameters())
    return contextlib.nullcontext() if is_trained else torch.no_grad()


def bounded(x: Tensor, most: float) -> Tensor:
    """`min(x, most)`, whose gradient vanishes beyond the bound only where it points further out.

    A plain clamp would never let a parameter come back that has once gone beyond.
    """
    found = _Bounded.apply(x, most)
    assert isinstance(found, Tensor)
    return found


class _Bounded(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, most: float) -> Tensor:
        return x.clamp(max=most)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, most = inputs
        ctx.save_for_backward(x)
        ctx.most = most

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return torch.where((x >= ctx.most) & (grad < 0), torch.zeros_like(grad), grad), None
