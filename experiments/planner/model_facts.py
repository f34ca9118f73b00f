"""Parameters of a model by group, and what sharding gathers at a time."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from experiments import sharding

_DOMINANT = 0.9
"""A part with more than this share of a model is looked into."""


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors; what shares memory counts once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def num_params(model: nn.Module, trained_only: bool = False) -> int:
    """Numbers in a model's parameters; shared ones count once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained_only)


def groups(model: nn.Module, prefix: str = "") -> dict[str, int]:
    """Parameters by the name of a part; what is shared counts where it is first.

    Args:
        model: Or a part of one.
        prefix: Of names.
    """
    found, seen = _parts(model, prefix), set()
    sizes: dict[str, int] = {}
    for name, params in found.items():
        fresh = [p for p in params if id(p) not in seen]
        seen.update(id(p) for p in fresh)
        if fresh:
            sizes[name] = sum(p.numel() for p in fresh)
    largest = max(sizes, key=lambda n: sizes[n], default="")
    part = dict(model.named_children()).get(largest.removeprefix(prefix))
    is_dominant = sizes and sizes[largest] > _DOMINANT * sum(sizes.values())
    if part is None or not is_dominant or isinstance(part, nn.ModuleList | nn.Sequential):
        return sizes
    if not list(part.children()):
        return sizes
    del sizes[largest]
    return groups(part, f"{largest}.") | sizes


def _parts(model: nn.Module, prefix: str) -> dict[str, list[nn.Parameter]]:
    found = {f"{prefix}{name}": list(child.parameters()) for name, child in model.named_children()}
    own = {f"{prefix}{name}": [p] for name, p in model.named_parameters(recurse=False)}
    return {**found, **own}


def rest_and_block(model: nn.Module) -> tuple[int, int]:
    """Bytes of the weights in no block, and of the largest block; see `sharding.blocks`."""
    blocks = sharding.blocks(model)
    within = {id(p) for block in blocks for p in block.parameters()}
    rest = num_bytes(p for p in model.parameters() if id(p) not in within)
    return rest, max((num_bytes(block.parameters()) for block in blocks), default=0)
