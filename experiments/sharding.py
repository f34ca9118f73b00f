"""One model in shards over the processes of a run: built, trained, measured.

Torch's own engine does the work (FSDP2: `fully_shard`, DTensor); none of it is imported before it
is needed. `experiments.sharded_state` brings shards together for checkpoints.

Source: Zhao et al., arXiv:2304.11277 (FSDP).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from experiments.checks import check_shard_size
from experiments.config import ConfigError, LaunchConfig, RunConfig
from experiments.distributed import World, is_shard, local


def is_wanted(launch: LaunchConfig, world: World) -> bool:
    """Whether the model is to be in shards; one process has nothing to share."""
    return launch.strategy in ("fsdp", "hsdp") and world.size > 1


def shard_size(launch: LaunchConfig, world: World) -> int:
    """Processes that share one model. All must call it."""
    if launch.strategy == "fsdp":
        return world.size
    return launch.shard_size or processes_of_a_host(world)


def processes_of_a_host(world: World) -> int:
    """As `torchrun` counts them on the main process's host; else all. All must call it."""
    return world.share(int(os.environ.get("LOCAL_WORLD_SIZE", world.size)))


def check(config: RunConfig, world: World, why_not: str) -> None:
    """Refuses what is not proven to give the same run in shards.

    Args:
        config: The run.
        world: Its processes.
        why_not: What the task says, see `experiments.tasks.task.Task`.

    Raises:
        ConfigError: names the setting.
    """
    if not is_wanted(config.launch, world):
        return
    if config.train.compile:
        why_not = "not tested with train.compile=true"
    if config.tracking.telemetry_every_steps is not None:
        why_not = "no telemetry (tracking.telemetry_every_steps) of shards yet"
    if why_not:
        named = f"launch.strategy={config.launch.strategy}"
        raise ConfigError(f"{named}: {why_not}; set launch.strategy=ddp")
    if config.launch.strategy == "hsdp":
        check_shard_size(shard_size(config.launch, world), world.size)


# --- building ------------------------------------------------------------------------------------


def build(
    make: Callable[[], nn.Module], world: World, dtype: torch.dtype, size: int | None = None
) -> nn.Module:
    """A model in shards, with the weights that the main process draws.

    The others build it without memory. Block by block, the weights of the main process are sent
    to all and cut, so that no device ever holds more than its shards and one block.

    Args:
        make: Builds the whole model on the CPU.
        world: The processes; more than one.
        dtype: Of weights and buffers that are floating-point.
        size: Processes, one after another, that share one model; the next ones have a copy of it.
            Divides their number; None: all share one.

    Returns:
        The model on the device of its process. Parameters are cut by rows; those without
        dimensions (a temperature) stay whole, and so do buffers.
    """
    from torch.distributed.fsdp import fully_shard

    model = make() if world.is_main else _without_memory(make)
    mesh = _mesh(world, size or world.size)
    placed: dict[int, tuple[Tensor, Tensor]] = {}
    for module in [*blocks(model), model]:
        _place(module, world, dtype, placed)
        scalars = {param for param in module.parameters() if not param.dim()}
        is_root = module is model
        fully_shard(module, mesh=mesh, reshard_after_forward=not is_root, ignored_params=scalars)
        placed = {number: pair for number, pair in placed.items() if not _is_cut(pair[0])}
    return model


def _mesh(world: World, shared_by: int) -> Any:
    """The processes as rows of those that share a model; columns have the same of each copy.

    The groups are made here, as those that torch would make wait for half an hour.
    """
    from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

    kind, copies = world.device.type, world.size // shared_by
    if copies == 1:
        return init_device_mesh(kind, (shared_by,))
    places = torch.arange(world.size).view(copies, shared_by)
    groups = [_own_group(world, rows.tolist()) for rows in (places.T, places)]
    return DeviceMesh.from_group(groups, kind, places, mesh_dim_names=("copy", "shard"))


def _own_group(world: World, rows: list[list[int]]) -> Any:
    """That of this process, of several that have no process in common."""
    groups = [world.group(row) for row in rows]
    return next(group for group, row in zip(groups, rows, strict=True) if world.rank in row)


def _is_cut(tensor: Tensor) -> bool:
    """Whether it goes into shards, and must then not be held whole; what is tied is together."""
    return isinstance(tensor, nn.Parameter) and bool(tensor.dim())


def _without_memory(make: Callable[[], nn.Module]) -> nn.Module:
    """On the meta device, or, for a model that looks at its numbers while it is built, whole."""
    try:
        with torch.device("meta"):
            model = make()
    except Exception:  # the main process builds it for real: what is wrong is said there
        return make()
    own = (value for module in model.modules() for value in vars(module).values())
    return make() if any(isinstance(value, Tensor) for value in own) else model


def _place(
    module: nn.Module, world: World, dtype: torch.dtype, placed: dict[int, tuple[Tensor, Tensor]]
) -> None:
    """Puts what is not yet on the device there, as the main process has it; ties stay ties.

    Args:
        module: Changed in place.
        world: The processes.
        dtype: Of floating-point tensors.
        placed: By the id of each tensor that was met, itself (which keeps the id) and its new one.
    """
    new = {id(tensor) for _, tensor in placed.values()}
    for holder in module.modules():
        for table in (holder._parameters, holder._buffers):
            for name, tensor in cast(dict[str, Any], table).items():
                if tensor is None or is_shard(tensor) or id(tensor) in new:
                    continue
                if id(tensor) not in placed:
                    placed[id(tensor)] = tensor, _sent(tensor, world, dtype)
                    new.add(id(placed[id(tensor)][1]))
                table[name] = placed[id(tensor)][1]  # type: ignore[assignment]


def _sent(tensor: Tensor, world: World, dtype: torch.dtype) -> Tensor:
    """The main process's values, on the device of this one."""
    kind = dtype if tensor.is_floating_point() else tensor.dtype
    if world.is_main:
        data = tensor.detach().to(world.device, kind).contiguous()
    else:
        data = torch.empty(tensor.shape, dtype=kind, device=world.device)
    dist.broadcast(data, src=0)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data, requires_grad=tensor.requires_grad)
    return data


def blocks(model: nn.Module) -> list[nn.Module]:
    """What is whole at a time in forward and backward passes: the repeated part of a model.

    Of all classes with several instances, the one that leaves most parameters in shards while its
    largest instance is whole: a transformer's layers, not their linear maps (single layers are not
    looked at: their owners may use the weights by themselves), nor its encoder and decoder.
    """
    best: list[nn.Module] = []
    most = 0
    for kind in dict.fromkeys(type(module) for module in model.modules()):
        found = [m for m in _outermost(model, kind) if m is not model and not _is_tied(m, model)]
        sizes = [sum(p.numel() for p in module.parameters()) for module in found]
        if len(found) > 1 and _can_be_cut(kind, found) and sum(sizes) - max(sizes) > most:
            best, most = found, sum(sizes) - max(sizes)
    return best


def _can_be_cut(kind: type[nn.Module], found: list[nn.Module]) -> bool:
    """Whether its own forward is surely called: a container's parts may be called one by one."""
    is_container = kind is nn.Sequential or kind.forward is nn.Module.forward
    return not is_container and all(list(module.children()) for module in found)


def _outermost(module: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    """Instances that lie in no other one, each once."""
    if type(module) is kind:
        return [module]
    found = [inner for child in module.children() for inner in _outermost(child, kind)]
    return list(dict.fromkeys(found))


def _is_tied(module: nn.Module, model: nn.Module) -> bool:
    """Whether parameters of a part are used outside of it, too: they must be whole together."""
    inside = {id(m) for m in module.modules()}
    own = {id(p) for p in module.parameters()}
    outside = (m for m in model.modules() if id(m) not in inside)
    return any(id(p) in own for m in outside for p in m.parameters(recurse=False))


# --- training ------------------------------------------------------------------------------------


def clip_gradients(model: nn.Module, most: float, world: World) -> Tensor:
    """Scales gradients down to a global L2 norm of at most `most`; returns what it was."""
    params = [param for param in model.parameters() if param.grad is not None]
    if not any(map(is_shard, params)):
        return nn.utils.clip_grad_norm_(model.parameters(), most)
    shards = [local(cast(Tensor, param.grad)) for param in params if is_shard(param)]
    plain = [cast(Tensor, param.grad) for param in params if not is_shard(param)]
    squares = world.sum(nn.utils.get_total_norm(shards).float().square())
    squares = squares / _num_copies(params)  # the same sum everywhere, so that copies stay equal
    if plain:
        squares = squares + nn.utils.get_total_norm(plain).square()
    norm = squares.sqrt()
    scale = (most / (norm + 1e-6)).clamp(max=1.0)  # as torch does
    torch._foreach_mul_([*shards, *plain], scale)  # pyright: ignore[reportPrivateImportUsage]
    return norm


def _num_copies(params: list[nn.Parameter]) -> int:
    """How many groups of processes hold the whole model (launch.strategy=hsdp)."""
    mesh = next(cast(Any, param).device_mesh for param in params if is_shard(param))
    return mesh.size(0) if mesh.ndim > 1 else 1


def unused(model: nn.Module) -> list[str]:
    """Names of trained parameters without a gradient."""
    named = model.named_parameters()
    return [name for name, param in named if param.requires_grad and param.grad is None]


# --- measuring ------------------------------------------------------------------------------------


@contextlib.contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Has all weights whole in every process, so that forward passes need no other process.

    An evaluation may give the processes unequal numbers of batches.
    """
    from torch.distributed.fsdp import FSDPModule

    cut = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in cut:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in cut:
            module.set_reshard_after_forward(module is not model, recurse=False)
            module.reshard()
