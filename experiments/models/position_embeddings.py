"""Learned positions at another resolution than they were trained at."""

from __future__ import annotations

from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from torch import Tensor, nn


def resized(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Resamples what timm's models have learnt of positions to a model's grid.

    Of vision transformers: embeddings of a class token (or registers) are kept; those of patches
    are taken as an image and interpolated (bicubic, antialiased: timm's way; Google's JAX code
    interpolates linearly). Of relative attention (CoAtNet): tables of biases, as timm does.

    Args:
        state: Names as in the model; what fits already is handed back as it is.
        model: Any module; its vision transformers are those with `pos_embed` and `patch_embed`.
    """
    own = model.state_dict()
    fitted = dict(state)
    for name, tensor in state.items():
        owner_name, _, last = name.rpartition(".")
        if name not in own or own[name].shape == tensor.shape:
            continue
        owner: Any = model.get_submodule(owner_name)
        if last == "relative_position_bias_table" and tensor.dim() == own[name].dim():
            fitted[name] = resize_rel_pos_bias_table(
                tensor, new_window_size=owner.window_size, new_bias_shape=own[name].shape
            )
        if last != "pos_embed":
            continue
        if not hasattr(owner, "patch_embed") or tensor.dim() != 3:
            continue
        grid = tuple(owner.patch_embed.grid_size)
        num_prefix = 0 if owner.no_embed_class else owner.num_prefix_tokens
        fitted[name] = resample_abs_pos_embed(
            tensor,
            new_size=list(grid),
            old_size=list(_grid_like(grid, tensor.shape[1] - num_prefix)),
            num_prefix_tokens=num_prefix,
        )
    return fitted


def _grid_like(grid: tuple[int, ...], num_tokens: int) -> tuple[int, int]:
    """Rows and columns of so many tokens, as near as can be to the shape of a grid."""
    wanted = grid[0] / grid[1]
    pairs = [(r, num_tokens // r) for r in range(1, num_tokens + 1) if num_tokens % r == 0]
    return min(pairs, key=lambda pair: max(pair[0] / pair[1] / wanted, wanted * pair[1] / pair[0]))
