"""Learned positions at another resolution than they were trained at."""

from __future__ import annotations

import math
from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from torch import Tensor, nn

from experiments.config import UserError

_MOST_STRETCH = 1.25
"""How far another grid's shape may be from the model's and be taken for the same, rounded."""


def resized(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Resamples what timm's models have learnt of positions to a model's grid.

    Of vision transformers: embeddings of a class token (or registers) are kept; those of patches
    are taken as an image and interpolated (bicubic, antialiased: timm's way; Google's JAX code
    interpolates linearly). Of relative attention (CoAtNet): tables of biases, as timm does.

    Args:
        state: Names as in the model; what fits already is handed back as it is.
        model: Any module; its vision transformers are those with `pos_embed` and `patch_embed`.

    Raises:
        UserError: for embeddings of no grid, as those of a class token too many or too few.
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
        grid = getattr(getattr(owner, "patch_embed", None), "grid_size", None)
        is_same_kind = (
            tensor.dim() == own[name].dim() == 3 and tensor.shape[2] == own[name].shape[2]
        )
        if grid is None or not is_same_kind:
            continue
        num_prefix = own[name].shape[1] - math.prod(grid)
        num_patches = tensor.shape[1] - num_prefix
        old = _grid_of(num_patches, grid)
        if old is None:
            raise UserError(
                f"start_from: {name} has {tensor.shape[1]} places; less {num_prefix} of class "
                f"tokens, as many as the model has, {num_patches} are no grid like its "
                f"{grid[0]} x {grid[1]}: set model.class_token and model.global_pool as those "
                f"weights have them, or leave {name} out by start_from.leave_out"
            )
        fitted[name] = resample_abs_pos_embed(
            tensor, new_size=list(grid), old_size=list(old), num_prefix_tokens=num_prefix
        )
    return fitted


def _grid_of(num_tokens: int, grid: tuple[int, ...]) -> tuple[int, int] | None:
    """Rows and columns of so many tokens, beside a model's grid; None: they are no grid.

    A line where the model has a line; else a square, as nearly all are, or the shape of the model's
    grid, as near as whole numbers come to it.
    """
    if num_tokens < 1:
        return None
    if min(grid) == 1:
        return (1, num_tokens) if grid[0] == 1 else (num_tokens, 1)
    side = math.isqrt(num_tokens)
    if side * side == num_tokens:
        return side, side
    if grid[0] == grid[1]:
        return None
    wanted = grid[0] / grid[1]
    pairs = [(r, num_tokens // r) for r in range(1, num_tokens + 1) if num_tokens % r == 0]
    stretch = {(r, c): max(r / c / wanted, wanted * c / r) for r, c in pairs}
    nearest = min(pairs, key=stretch.__getitem__)
    return nearest if stretch[nearest] <= _MOST_STRETCH else None
