"""Imagen's U-Nets, by diffusers' blocks, called as (noisy, times, text, mask [, small, level]).

Source: arXiv:2205.11487, appendix F, for what is known of their shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from experiments.models.diffusion_unet import begin_at_zero


class TextConditionalUNet(nn.Module):
    """diffusers' `UNet2DConditionModel` with cross-attention below the highest resolution.

    Args:
        sample_size: Side of the images in pixels.
        block_out_channels: Width at each resolution.
        layers_per_block: Residual blocks per level, one number or one for each.
        cross_attention: Which levels attend to the text.
        cross_attention_dim: Width of the text inside the model.
        embed_dim: Width of the text encoder.
        super_resolution: Whether a small copy, and the noise on it, are given, too.
        attention_head_dim: Channels per head.
        norm_num_groups: Of group normalisation.
        pooling_heads: Of the attention that pools the text.
        zero_init: Whether residual branches and the output begin at zero.
    """

    def __init__(
        self,
        *,
        sample_size: int,
        block_out_channels: Sequence[int],
        layers_per_block: int | Sequence[int],
        cross_attention: Sequence[bool],
        cross_attention_dim: int,
        embed_dim: int,
        super_resolution: bool = False,
        attention_head_dim: int = 64,
        norm_num_groups: int = 32,
        pooling_heads: int = 64,
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        layers = layers_per_block if isinstance(layers_per_block, int) else tuple(layers_per_block)
        self.unet = UNet2DConditionModel(
            sample_size=sample_size,
            in_channels=6 if super_resolution else 3,
            out_channels=3,
            down_block_types=tuple(
                "SimpleCrossAttnDownBlock2D" if a else "ResnetDownsampleBlock2D"
                for a in cross_attention
            ),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=tuple(
                "SimpleCrossAttnUpBlock2D" if a else "ResnetUpsampleBlock2D"
                for a in reversed(cross_attention)
            ),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers,  # type: ignore[arg-type]
            attention_head_dim=attention_head_dim,
            norm_num_groups=norm_num_groups,
            resnet_time_scale_shift="scale_shift",
            cross_attention_dim=cross_attention_dim,
            encoder_hid_dim=embed_dim,
            addition_embed_type="text",
            addition_embed_type_num_heads=pooling_heads,
            class_embed_type="timestep" if super_resolution else None,
        )
        if zero_init:
            begin_at_zero(self.unet)

    def forward(
        self,
        noisy: Tensor,
        times: Tensor,
        text: Tensor,
        mask: Tensor,
        small: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Tensor:
        """The noise, (N, 3, H, W).

        Args:
            noisy: x_t, (N, 3, H, W).
            times: t, (N,) int64.
            text: Embeddings of the captions, (N, L, D); zeros: none.
            mask: (N, L) bool; nothing but False: none.
            small: The small copy, noised and enlarged, (N, 3, H, W).
            level: Time step of its noise, (N,) int64.
        """
        text = text * mask[..., None]
        images = noisy if small is None else torch.cat([noisy, small], 1)
        found = self.unet(
            images,
            times,
            text,
            class_labels=level,
            encoder_attention_mask=mask,
            return_dict=False,
        )
        return found[0]
