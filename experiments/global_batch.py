"""One step of a loss that couples the global batch, with several micro-batches to a process.

Embeds every micro-batch without a graph, takes the loss of all embeddings and its gradients by
them, then goes through the micro-batches again and hands each its share. Exact: the same random
numbers in both passes, the same loss as with one large micro-batch; it costs one more forward pass.

Source: Gao et al., arXiv:2101.06983 (GradCache).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from experiments.config import ConfigError, RunConfig
from experiments.distributed import World
from experiments.tasks.task import Batch, GlobalTask, Loss, Task


def accumulate(
    task: GlobalTask,
    model: nn.Module,
    micro_batches: Sequence[Batch],
    world: World,
    before: Callable[[int], None],
    cast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Tensor:
    """Adds this process's gradients of the global batch's loss to the parameters'.

    Args:
        task: Gives embeddings, and the loss from them.
        model: The plain module: gradients of other processes are not added here.
        micro_batches: Of this process, on the device.
        world: The processes.
        before: Called with the number of a micro-batch before each of its two passes, to set the
            random numbers.
        cast: Gives the precision of forward passes. Backward passes stay outside, where each
            operation has the precision of its forward: within, what was float32 would be rounded.

    Returns:
        This process's part of the loss, detached: its mean over the processes is the loss.
    """
    statistics = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.no_grad():
        rows = []
        for number, batch in enumerate(micro_batches):
            before(number)
            with cast():
                rows.append(task.encode(model, batch))
        for buffer, before_it in statistics:  # batch norm takes each micro-batch once, below
            buffer.copy_(before_it)
    encoded = tuple(torch.cat(parts).requires_grad_() for parts in zip(*rows, strict=True))
    with cast():
        loss = _share_of(task.couple(model, encoded, world), world)
    loss.backward()
    sizes = [len(parts[0]) for parts in rows]
    shares = zip(*(torch.split(_gradient(e), sizes) for e in encoded), strict=True)
    for number, (batch, share) in enumerate(zip(micro_batches, shares, strict=True)):
        before(number)
        with cast():
            again = task.encode(model, batch)
        wanted = [(e, g) for e, g in zip(again, share, strict=True) if e.requires_grad]
        torch.autograd.backward([e for e, _ in wanted], [g for _, g in wanted])
    return loss.detach()


def _share_of(loss: Loss, world: World) -> Tensor:
    """What averages over the processes to the loss of all, each by its weight."""
    if loss.weight is None:
        return loss.mean
    weight = loss.weight.detach().float()
    whole = world.sum(weight.clone()).clamp_min(torch.finfo(torch.float32).tiny)
    return loss.counted() * weight * world.size / whole


def _gradient(encoded: Tensor) -> Tensor:
    return torch.zeros_like(encoded) if encoded.grad is None else encoded.grad


def can_couple(task: Task) -> TypeGuard[GlobalTask]:
    """Whether a task's loss can be had from embeddings."""
    return hasattr(task, "encode") and hasattr(task, "couple")


def check_coupling(
    task: Task, config: RunConfig, micro_batch_size: int, num_processes: int
) -> None:
    """Refuses micro-batches that would change the loss without a word.

    Raises:
        ConfigError: names the setting that keeps the loss.
    """
    batch = config.train.batch_size
    if task.coupling == "none" or micro_batch_size == batch:
        return
    name = type(task).__name__
    if task.coupling == "micro-batch" and config.train.micro_batch_size is None:
        raise ConfigError(
            f"the loss of {name} depends on what a micro-batch holds, and {num_processes} "
            f"processes would make them smaller: say train.micro_batch_size={micro_batch_size} "
            "(another run than with one process), or launch.num_processes=1"
        )
    is_one_each = micro_batch_size * num_processes == batch
    if task.coupling == "global batch" and not is_one_each and not can_couple(task):
        raise ConfigError(
            f"the loss of {name} couples the global batch, so train.micro_batch_size="
            f"{micro_batch_size} would change it: set train.micro_batch_size=null, or give the "
            "task encode and couple (experiments.tasks.task.GlobalTask)"
        )
