"""CoAtNet beyond timm's sizes: its stages, with one that has another width at the same resolution.

CoAtNet-6 and 7 divide the third stage in two: convolutions, then attention of twice the width on
the same grid. timm ends at CoAtNet-5, and its attention block asks for equal widths where it does
not shrink the image.

Source: arXiv:2106.04803, Tables 3 and A.1; the split of stage 3 as three public codes have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn


class CoAtNet(nn.Module):
    """Convolutional stem, MBConv stages, attention stages with relative positions, pooled head.

    Args:
        widths: Of the stages.
        depths: Blocks of each stage.
        block_types: Of each stage: C (MBConv) or T (attention).
        strides: Of each stage: 2 halves the image, 1 keeps it.
        stem_width: Channels of the stem, which halves the image.
        head_width: Of an attention head.
        num_classes: Outputs; 0: pooled features.
        hidden_size: Width of a hidden layer before the outputs; None: none.
        img_size: Side of the images in pixels.
        in_chans: Channels of the images.
        drop_path_rate: Stochastic depth of the last block; rises linearly.
        activation_checkpointing: Whether a block is computed again in the backward pass: memory for
            a third more time.
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        block_types: Sequence[str],
        strides: Sequence[int],
        stem_width: int = 192,
        head_width: int = 128,
        num_classes: int = 1000,
        *,
        hidden_size: int | None = None,
        img_size: int = 224,
        in_chans: int = 3,
        drop_path_rate: float = 0.0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        from timm.layers.classifier import ClassifierHead, NormMlpClassifierHead
        from timm.layers.norm import LayerNorm2d
        from timm.models.maxxvit import MaxxVitConvCfg, MaxxVitTransformerCfg, Stem

        if len({len(widths), len(depths), len(block_types), len(strides)}) != 1:
            raise ValueError("widths, depths, block_types and strides must be lists of one length")
        conv, attention = MaxxVitConvCfg(), MaxxVitTransformerCfg(dim_head=head_width)
        self.stem = Stem(in_chans, stem_width, norm_layer=conv.norm_layer, act_layer=conv.act_layer)
        rates = _rising(drop_path_rate, depths)
        side, width, stages = img_size // 2, stem_width, []
        for new, depth, kind, stride, rate in zip(
            widths, depths, block_types, strides, rates, strict=True
        ):
            side = -(-side // stride)
            stages.append(
                _stage((width, new), depth, (kind, stride), side, rate, (conv, attention))
            )
            width = new
        for stage in stages:
            stage.grad_checkpointing = activation_checkpointing
        self.stages = nn.Sequential(*stages)
        self.num_features = width
        norm = partial(LayerNorm2d, eps=1e-6)
        self.norm, self.head = nn.Identity(), nn.Identity()
        if hidden_size:
            self.head = NormMlpClassifierHead(
                width, num_classes, hidden_size=hidden_size, norm_layer=norm
            )
            self.num_features = hidden_size if not num_classes else width
        else:
            self.norm, self.head = norm(width), ClassifierHead(width, num_classes)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, num_classes), or features (N, num_features)."""
        return self.head(self.norm(self.stages(self.stem(images))))


def coatnet7(num_classes: int = 1000, hidden_head: bool = True, **settings: Any) -> CoAtNet:
    """CoAtNet-7: 2,440 M parameters.

    Args:
        num_classes: Outputs; 0: pooled features.
        hidden_head: Whether a hidden layer as wide as the last stage precedes the outputs.
        settings: `img_size`, `drop_path_rate`, `activation_checkpointing` of `CoAtNet`.
    """
    return CoAtNet(
        widths=(256, 512, 1024, 2048, 3072),
        depths=(2, 4, 8, 42, 2),
        block_types=("C", "C", "C", "T", "T"),
        strides=(2, 2, 2, 1, 2),
        stem_width=192,
        head_width=128,
        num_classes=num_classes,
        hidden_size=3072 if hidden_head else None,
        **settings,
    )


def _stage(
    widths: tuple[int, int],
    depth: int,
    kind: tuple[str, int],
    side: int,
    rates: list[float],
    settings: tuple[Any, Any],
) -> Any:
    """timm's stage; where it keeps the image's size, without what would halve it."""
    from timm.models.maxxvit import MaxxVitStage

    (before, width), (block_type, stride), (conv, attention) = widths, kind, settings
    types: Any = (block_type,) * depth
    must_widen = stride == 1 and block_type == "T" and before != width
    stage: Any = MaxxVitStage(
        before,
        width,
        stride=2 if must_widen else stride,
        depth=depth,
        feat_size=(side, side),
        block_types=types,
        transformer_cfg=attention,
        conv_cfg=conv,
        drop_path=rates,
    )
    if must_widen:
        stage.blocks[0].shortcut.pool = nn.Identity()
        stage.blocks[0].norm1.down = nn.Identity()
    return stage


def _rising(last: float, depths: Sequence[int]) -> list[list[float]]:
    """Stochastic depth of each block, by stage."""
    number = sum(depths)
    rates = iter([last * k / max(1, number - 1) for k in range(number)])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _initialise(module: nn.Module) -> None:
    """timm's own scheme of this family, where a block has one."""
    init = getattr(module, "init_weights", None)
    if init is not None:
        init(scheme="vit_eff")
