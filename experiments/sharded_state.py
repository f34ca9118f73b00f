"""State of a model in shards as whole tensors, and back: files are those of any other run.

Saving brings tensors together one by one, in the main process; or each process saves its shards
(`experiments.shard_files`). Loading asks no other process: each takes its shards from the file or
files. So a run goes on with another number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from traceback import extract_tb
from typing import Any, cast

import torch
from torch import Tensor, nn

from experiments.config import UserError
from experiments.distributed import World, is_shard, local


def gathered(tensor: Tensor, world: World) -> Tensor:
    """A tensor brought together, on the CPU of the main process. All must call it."""
    found = cast(Any, tensor).full_tensor() if is_shard(tensor) else tensor.clone()
    return found.detach().cpu() if world.is_main else found.new_empty(0)


def whole_state(model: nn.Module, world: World) -> dict[str, Tensor]:
    """The state dict of the whole model, in the main process. All must call it."""
    return gathered_all(model.state_dict(keep_vars=True), world)


def gathered_all(state: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """Tensors brought together one by one, see `gathered`."""
    found: dict[int, Tensor] = {}
    for tensor in state.values():
        if id(tensor) not in found:  # tied weights are saved once
            found[id(tensor)] = gathered(tensor, world)
    return {name: found[id(tensor)] for name, tensor in state.items()}


@torch.no_grad()
def fill(target: Tensor, tensor: Tensor) -> None:
    """Copies a whole tensor, or this process's shard of it, into one of the model."""
    local(target).copy_(local(_cut(tensor, target)))


def load_whole_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Takes this process's shards of a whole model's state dict.

    Raises:
        UserError: where names or shapes differ; nothing is changed then.
    """
    fill_all(model.state_dict(keep_vars=True), state)


def fill_all(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """As `load_whole_state`, for tensors by name."""
    if names := sorted(own.keys() ^ state.keys()):
        raise UserError(f"it has other tensors than the model: {', '.join(names[:5])}")
    if names := [name for name, tensor in own.items() if tensor.shape != state[name].shape]:
        raise UserError(f"tensors have other shapes than the model's: {', '.join(names[:5])}")
    for name, tensor in own.items():
        fill(tensor, state[name])


def _cut(tensor: Tensor, like: Any) -> Tensor:
    """A whole tensor as shards, laid out like another; without a word to other processes."""
    if is_shard(tensor) or not is_shard(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    whole = tensor.contiguous()
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def like(shards: Any, own: Tensor) -> Tensor:
    """This process's part of a tensor as one that is laid out like another, in the same memory."""
    if not is_shard(shards):
        return own
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        own,
        shards.device_mesh,
        shards.placements,
        run_check=False,
        shape=shards.shape,
        stride=shards.stride(),
    )


# --- the optimizer -------------------------------------------------------------------------------


def step(optimizer: torch.optim.Optimizer) -> None:
    """A step of parameters in shards.

    Raises:
        UserError: where the optimizer does what DTensors cannot (norms or means changed in place).
    """
    try:
        optimizer.step()
    except Exception as error:  # DTensor raises many kinds
        if not any("distributed/tensor" in f.filename for f in extract_tb(error.__traceback__)):
            raise
        raise UserError(
            f"launch.strategy=fsdp: {type(optimizer).__name__} of these settings cannot step a "
            "sharded parameter: set launch.strategy=ddp"
        ) from error


def watch_state(optimizer: torch.optim.Optimizer) -> None:
    """Has the first step refuse an optimizer whose state cannot be brought together."""

    def look(stepped: torch.optim.Optimizer, *_: Any) -> None:
        handle.remove()
        check_state(stepped)

    handle = optimizer.register_step_post_hook(look)


def check_state(optimizer: torch.optim.Optimizer) -> None:
    """Refuses an optimizer whose state cannot be brought together.

    Raises:
        UserError: names the state.
    """
    for state in (state for param, state in optimizer.state.items() if is_shard(param)):
        for key, value in state.items():
            if isinstance(value, Tensor) and value.dim() and not is_shard(value):
                raise UserError(
                    f"launch.strategy=fsdp: {type(optimizer).__name__} keeps {key!r} of shape "
                    f"{list(value.shape)} beside a sharded parameter, which cannot be saved: "
                    "set launch.strategy=ddp"
                )


def whole_optimizer_state(optimizer: torch.optim.Optimizer, world: World) -> dict[str, Any]:
    """The optimizer's state dict with whole tensors, in the main process. All must call it."""
    saved = optimizer.state_dict()
    states = {
        number: {
            key: gathered(value, world) if isinstance(value, Tensor) else value
            for key, value in state.items()
        }
        for number, state in saved["state"].items()
    }
    return {**saved, "state": states}


def cut_optimizer_state(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]
) -> dict[str, Any]:
    """A whole optimizer state dict with this process's shards of its tensors.

    What has the shape of its parameter is laid out like it; other tensors are whole in every
    process.

    Raises:
        UserError: for codes whose order in memory is not that of shards.
    """
    params = [param for group in optimizer.param_groups for param in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    of = dict(zip(numbers, params, strict=True))
    states = {
        number: {key: _cut_state(value, of[number]) for key, value in state.items()}
        for number, state in saved["state"].items()
    }
    return {**saved, "state": states}


def _cut_state(value: Any, param: Tensor) -> Any:
    if not (is_shard(param) and isinstance(value, Tensor) and value.dim()) or is_shard(value):
        return value
    if value.shape == param.shape:
        if not (value.is_floating_point() or value.is_contiguous()):  # its scales are in that order
            raise UserError(
                "the optimizer's codes were saved in another order (train.channels_last=true), "
                "which shards do not have: set launch.strategy=ddp"
            )
        return _cut(value, param).clone()  # not a view of the whole
    from torch.distributed.tensor import Replicate, distribute_tensor

    mesh = cast(Any, param).device_mesh
    return distribute_tensor(value, mesh, [Replicate()] * mesh.ndim, src_data_rank=None).clone()


def states(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: Any, world: World
) -> dict[str, Any]:
    """What a checkpoint holds of a model in shards, in the main process. All must call it."""
    return {
        "model": whole_state(model, world),
        "optimizer": whole_optimizer_state(optimizer, world),
        "average": average.whole_state(world) if average is not None else None,
    }


def load(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: Any, content: Mapping[str, Any]
) -> None:
    """Takes this process's shards of what a checkpoint holds, however that was trained.

    Raises:
        UserError: where it does not fit.
    """
    load_whole_state(model, content["model"])
    optimizer.load_state_dict(cut_optimizer_state(optimizer, content["optimizer"]))
    if average is not None:
        average.load_whole_state(content["average"])


def states_in_shards(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: Any
) -> dict[str, Any]:
    """What a checkpoint holds of a model, as each process has it; nothing is copied."""
    return {
        "model": model.state_dict(keep_vars=True),
        "optimizer": optimizer.state_dict(),
        "average": average.state() if average is not None else None,
    }


def places(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: Any
) -> Callable[[str, torch.Size, torch.dtype], Tensor | None]:
    """Where to read the tensors of a checkpoint in shards to; see `experiments.shard_files.read`.

    Weights and averages are read in place, state of the optimizer to new shards like its
    parameter's, so that no process ever holds a whole one. `load` then takes what was read.
    """
    states = states_in_shards(model, optimizer, average)
    params = [param for group in optimizer.param_groups for param in group["params"]]

    def place(name: str, shape: torch.Size, dtype: torch.dtype) -> Tensor | None:
        part, _, key = name.partition("/")
        if part == "optimizer":
            number = int(key.split("/")[1])
            param = params[number] if number < len(params) else None
            if param is None or not is_shard(param) or param.shape != shape:
                return None  # scales of codes: whole
            own = local(param)
            return like(param, torch.empty(own.shape, dtype=dtype, device=own.device))
        own = (states.get(part) or {}).get(key)
        if own is None or own.shape != shape:
            raise UserError(f"it has other tensors than the model, e.g. {key} {list(shape)}")
        return own.detach()

    return place
