"""The U-Net of ADM, by diffusers' blocks, called as (noisy, times, labels).

Source: arXiv:2105.05233, Table 4 and its public code; parameter counts are those published.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from experiments.config import ConfigError


class DiffusionUNet(nn.Module):
    """diffusers' `UNet2DModel` with attention at chosen resolutions.

    Args:
        sample_size: Side of the images in pixels.
        in_channels: Of the images.
        out_channels: The same, or twice as many with a learned variance.
        block_out_channels: Width at each resolution; every level halves the side.
        layers_per_block: Residual blocks per level on the way down (one more on the way up).
        attention_resolutions: Sides at which there is self-attention.
        num_class_embeds: Classes, and one more where conditions are dropped; None: unconditional.
        attention_head_dim: Channels per head.
        norm_num_groups: Of group normalisation.
        dropout: In the residual blocks.
        zero_init: Whether residual branches and the output begin at zero, as ADM's do.
    """

    def __init__(
        self,
        *,
        sample_size: int,
        in_channels: int,
        out_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        attention_resolutions: Sequence[int],
        num_class_embeds: int | None = None,
        attention_head_dim: int = 64,
        norm_num_groups: int = 32,
        dropout: float = 0.0,
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        from diffusers.models.unets.unet_2d import UNet2DModel

        sides = [sample_size // 2**level for level in range(len(block_out_channels))]
        if sample_size % 2 ** (len(block_out_channels) - 1):
            raise ConfigError(
                f"model.sample_size={sample_size} cannot be halved {len(sides) - 1} times: give "
                "fewer model.block_out_channels"
            )
        has_attention = [side in set(attention_resolutions) for side in sides]
        self.num_class_embeds, self.in_channels = num_class_embeds, in_channels
        self.sample_size = sample_size
        self.unet = UNet2DModel(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=tuple(
                "AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in has_attention
            ),
            up_block_types=tuple(
                "AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(has_attention)
            ),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            attention_head_dim=attention_head_dim,
            norm_num_groups=norm_num_groups,
            attn_norm_num_groups=norm_num_groups,
            num_class_embeds=num_class_embeds,
            dropout=dropout,
            resnet_time_scale_shift="scale_shift",
            upsample_type="resnet",
            downsample_type="resnet",
            norm_eps=1e-5,
            flip_sin_to_cos=False,
        )
        if zero_init:
            begin_at_zero(self.unet)

    def forward(self, noisy: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        """Noise, and variance where it is learned: (N, out_channels, H, W).

        Args:
            noisy: x_t, (N, C, H, W).
            times: t, (N,) int64.
            labels: (N,) int64; the last class embedding means "no condition".
        """
        if self.num_class_embeds is None:
            labels = None
        return self.unet(noisy, times, class_labels=labels, return_dict=False)[0]


@torch.no_grad()
def begin_at_zero(unet: nn.Module) -> None:
    """Sets the last layer of every residual branch, and of the model, to zero."""
    for name, module in unet.named_modules():
        kind = type(module).__name__
        last: list[nn.Module] = []
        if kind in ("ResnetBlock2D", "ResnetBlockCondNorm2D"):
            last = [module.conv2]  # type: ignore[list-item]
        elif kind == "Attention":
            last = [module.to_out[0]]  # type: ignore[index, list-item]
        elif name == "conv_out":
            last = [module]
        for layer in last:
            for parameter in layer.parameters():
                parameter.zero_()
