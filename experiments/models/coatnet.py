"""CoAtNet beyond timm's sizes: its stages, with one that has another width at the same resolution.

CoAtNet-6 and 7 divide the third stage in two: convolutions, then attention of twice the width on
the same grid. timm ends at CoAtNet-5, and its attention block asks for equal widths where it does
not shrink the image.

Source: arXiv:2106.04803, Tables 3 and A.1; the split of stage 3 as three public codes have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


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
            stage = _stage_class(activation_checkpointing)
            stages.append(
                _stage(stage, (width, new), depth, (kind, stride), side, rate, (conv, attention))
            )
            width = new
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


@cache
def _stage_class(activation_checkpointing: bool) -> type[Any]:
    """timm's; with checkpointing by its own switch, batch norm would take each batch twice."""
    from timm.models.maxxvit import MaxxVitStage

    if not activation_checkpointing:
        return MaxxVitStage

    class CheckpointedStage(MaxxVitStage):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self.grad_checkpointing = True

        def forward(self, x: Tensor) -> Tensor:
            if torch.compiler.is_compiling():  # it computes nothing again that has side effects
                return super().forward(x)
            for block in self.blocks:
                contexts = partial(_counted_once, block)
                found: Any = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
                x = found
            return x

    return CheckpointedStage


def _counted_once(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For a block that is computed twice: its running statistics move the first time alone."""
    return nullcontext(), _still(block)


@contextmanager
def _still(block: nn.Module) -> Iterator[None]:
    """Batch norm takes its statistics in, which it keeps for the backward pass, with weight 0."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def _stage(
    kind_of_stage: type[Any],
    widths: tuple[int, int],
    depth: int,
    kind: tuple[str, int],
    side: int,
    rates: list[float],
    settings: tuple[Any, Any],
) -> Any:
    """timm's stage; where it keeps the image's size, without what would halve it."""
    (before, width), (block_type, stride), (conv, attention) = widths, kind, settings
    types: Any = (block_type,) * depth
    must_widen = stride == 1 and block_type == "T" and before != width
    stage: Any = kind_of_stage(
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
