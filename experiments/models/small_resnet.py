"""A ResNet for images of a few pixels: timm's, with two stages and no early downsampling."""

from __future__ import annotations

from torch import nn


def small_resnet(
    channels: tuple[int, int] = (16, 32), in_chans: int = 1, num_classes: int = 10
) -> nn.Module:
    """Stem of three 3x3 convolutions at full resolution, one basic block per stage, batch norm.

    Args:
        channels: Widths of the two stages.
        in_chans: Channels of the images (N, in_chans, H, W); H and W of 8 or more.
        num_classes: Outputs.
    """
    from timm.models.resnet import BasicBlock, ResNet

    model = ResNet(
        BasicBlock,  # type: ignore[arg-type]
        layers=(1, 1),
        channels=tuple(channels),
        num_classes=num_classes,
        in_chans=in_chans,
        stem_type="deep",
        stem_width=8,
    )
    model.conv1[0].stride = (1, 1)  # type: ignore[index, union-attr]
    model.maxpool = nn.Identity()
    model.layer3 = nn.Identity()  # timm's forward calls four stages
    model.layer4 = nn.Identity()
    return model
