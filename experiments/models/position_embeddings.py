"""Learned positions at another resolution than they were trained at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from torch import Tensor, nn

from experiments.config import UserError

_MOST_STRETCH = 1.25
"""How far another grid's shape may be from the model's and be taken for the same, rounded."""


Grid = tuple[int, int]


def resized(
    state: dict[str, Tensor], model: nn.Module, grids: Mapping[str, Grid] | None = None
) -> dict[str, Tensor]:
    """Resamples what timm's models have learnt of positions to a model's grid.

    Of vision transformers: embeddings of a class token (or registers) are kept; those of patches
    are taken as an image and interpolated (bicubic, antialiased: timm's way; Google's JAX code
    interpolates linearly). Of relative attention (CoAtNet): tables of biases, as timm does.

    Args:
        state: Names as in the model; what fits already is handed back as it is.
        model: Any module; its vision transformers are those with `pos_embed` and `patch_embed`.
        grids: Name of an embedding: rows and columns that it has in the state, where they are
            known. Others are guessed from their number, as `_grid_of` says.

    Raises:
        UserError: for embeddings of no grid, as those of a class token too many or too few, or of
            more than one.
    """
    own = model.state_dict()
    fitted = dict(state)
    for name, tensor in state.items():
        owner_name, _, last = name.rpartition(".")
        if name not in own:
            continue
        owner: Any = model.get_submodule(owner_name)
        is_as_wide = tensor.dim() == own[name].dim()
        if last == "relative_position_bias_table" and is_as_wide:
            if own[name].shape != tensor.shape:
                fitted[name] = resize_rel_pos_bias_table(
                    tensor, new_window_size=owner.window_size, new_bias_shape=own[name].shape
                )
        elif last == "pos_embed" and is_as_wide:
            known = (grids or {}).get(name)
            fitted[name] = _resampled(name, tensor, own[name], _grid(owner), known)
    return fitted


def in_words(name: str, before: Tensor, after: Tensor, model: nn.Module, known: Grid | None) -> str:
    """What was resized to what, and for which grid an embedding was taken."""
    owner_name, _, last = name.rpartition(".")
    taken_for = ""
    grid = _grid(model.get_submodule(owner_name)) if last == "pos_embed" else None
    if grid is not None:
        num_prefix = after.shape[1] - math.prod(grid)
        old = known or _grid_of(before.shape[1] - num_prefix, grid)
        taken_for = f", taken for {old[0]} x {old[1]}," if old else ""
    return f"{tuple(before.shape)}{taken_for} -> {tuple(after.shape)}"


def grids_behind(names: Iterable[str], section: Any, said: Sequence[int] = ()) -> dict[str, Grid]:
    """Rows and columns of patches behind embeddings of positions, where something tells them.

    Args:
        names: Of weights.
        section: Of the model that they are of, as it was recorded, or nothing; it, or one below it,
            tells its grid by the sizes of images and patches (numbers, or height and width).
        said: By the command: holds for all.

    Raises:
        UserError: where the two differ, or the command says one of weights without any.
    """
    found: dict[str, Grid | None] = {
        name: _recorded_grid(name.split("."), section)
        for name in names
        if name.rpartition(".")[2] == "pos_embed"
    }
    if said:
        key = f"start_from.grid=[{said[0]},{said[1]}]"
        if not found:
            raise UserError(f"{key}: these weights have no embedding of positions: leave it")
        for grid in found.values():
            if grid not in (None, tuple(said)):
                raise UserError(f"{key}: that run has {grid[0]} x {grid[1]} patches: leave it")
        return dict.fromkeys(found, (said[0], said[1]))
    return {name: grid for name, grid in found.items() if grid is not None}


def _recorded_grid(path: list[str], section: Any) -> Grid | None:
    *owners, _ = path
    for name in owners:
        section = section.get(name) if isinstance(section, dict) else None
    return _said_grid(section) if isinstance(section, dict) else None


def _said_grid(section: dict[str, Any]) -> Grid | None:
    sides, patch = (_pair(section.get(key)) for key in ("img_size", "patch_size"))
    if sides is None or patch is None:
        return None
    grid = sides[0] // patch[0], sides[1] // patch[1]
    return grid if min(grid) > 0 else None


def _pair(value: Any) -> tuple[int, int] | None:
    pair = [value, value] if isinstance(value, int) else value
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2
    if not is_pair or not all(isinstance(side, int) and side > 0 for side in pair):
        return None
    return pair[0], pair[1]


def _grid(owner: Any) -> Grid | None:
    found = getattr(getattr(owner, "patch_embed", None), "grid_size", None)
    return None if found is None else (found[0], found[1])


def _resampled(
    name: str, tensor: Tensor, own: Tensor, grid: Grid | None, known: Grid | None
) -> Tensor:
    """An embedding on the model's grid; as it is where it is none of patches, or fits."""
    is_same_kind = tensor.dim() == 3 and tensor.shape[2] == own.shape[2]
    is_same = tensor.shape == own.shape and known in (None, grid)
    if grid is None or not is_same_kind or is_same:
        return tensor
    num_prefix = own.shape[1] - math.prod(grid)
    num_patches = tensor.shape[1] - num_prefix
    if known is not None and math.prod(known) != num_patches:
        raise UserError(_no_grid(name, tensor, num_prefix, f"no grid of {known[0]} x {known[1]}"))
    old = known or _grid_of(num_patches, grid)
    if old is None:
        like = f"no grid like its {grid[0]} x {grid[1]}"
        raise UserError(_no_grid(name, tensor, num_prefix, like))
    if known is None and (other := _other_grid(num_patches, old, grid)):
        raise UserError(
            f"start_from: {name} has {num_patches} patches, which may be {old[0]} x {old[1]} or, "
            f"like the model's {grid[0]} x {grid[1]}, {other[0]} x {other[1]}: say which, e.g. "
            f"start_from.grid=[{old[0]},{old[1]}]"
        )
    return resample_abs_pos_embed(
        tensor, new_size=list(grid), old_size=list(old), num_prefix_tokens=num_prefix
    )


def _no_grid(name: str, tensor: Tensor, num_prefix: int, what: str) -> str:
    return (
        f"start_from: {name} has {tensor.shape[1]} places; less {num_prefix} of class tokens, as "
        f"many as the model has, {tensor.shape[1] - num_prefix} are {what}: set model.class_token "
        f"and model.global_pool as those weights have them, or leave {name} out by "
        "start_from.leave_out"
    )


def _grid_of(num_tokens: int, grid: Grid) -> Grid | None:
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
    return None if grid[0] == grid[1] else _shaped_like(grid, num_tokens)


def _other_grid(num_tokens: int, guessed: Grid, grid: Grid) -> Grid | None:
    """Another one that is as likely: of the shape of a model's grid that is not square."""
    if min(grid) == 1 or grid[0] == grid[1]:
        return None
    other = _shaped_like(grid, num_tokens)
    return other if other != guessed else None


def _shaped_like(grid: Grid, num_tokens: int) -> Grid | None:
    wanted = grid[0] / grid[1]
    pairs = [(r, num_tokens // r) for r in range(1, num_tokens + 1) if num_tokens % r == 0]
    stretch = {(r, c): max(r / c / wanted, wanted * c / r) for r, c in pairs}
    nearest = min(pairs, key=stretch.__getitem__)
    return nearest if stretch[nearest] <= _MOST_STRETCH else None
