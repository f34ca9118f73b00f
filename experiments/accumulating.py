"""The gradients of one global batch: micro-batches, processes, and what each of them weighs."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator

import torch
from torch import Tensor

from experiments import global_batch, sharding
from experiments.config import ConfigError, UserError
from experiments.data.order import seed_all
from experiments.distributed import average_gradients, local, without_sync
from experiments.measuring import autocast
from experiments.parts import Parts
from experiments.tasks.task import Batch


def accumulate(parts: Parts, step: int, batch: list[Batch]) -> Tensor:
    """Leaves the gradients of a global batch's mean loss in the parameters.

    Micro-batches weigh what their losses say (scored tokens, pairs), over all processes; where
    they say nothing, all weigh the same.

    Returns:
        This process's part of the loss, detached: its mean over the processes is the loss.

    Raises:
        UserError: where several processes train a model with parameters that the loss leaves out.
    """
    is_coupled = parts.task.coupling == "global batch" and len(batch) > 1
    if parts.is_sharded or is_coupled:
        parts.world.copy_buffers(parts.model)  # as DistributedDataParallel does
    if is_coupled:
        return _accumulate_coupled(parts, step, batch)
    losses, weights = [], []
    for number, micro in zip(parts.plan.micro_numbers(), _all_on_device(parts, batch), strict=True):
        seed_all(parts.plan.noise_seed(step, number))
        is_last = number == parts.plan.micro_numbers()[-1]
        with without_sync(parts.forward, is_last), _naming_unused(parts):
            with autocast(parts.config, parts.world.device):
                loss = parts.task.loss(parts.forward, micro, parts.world)
                mean = loss.mean / len(batch) if loss.weight is None else loss.counted()
            # A copy: it may be a part of the batch, whose memory the next but one takes.
            weight = None if loss.weight is None else loss.weight.detach().float().clone()
            (mean if weight is None else mean * weight).backward()
        losses.append(mean.detach().reshape(()))  # of one element, perhaps in brackets
        weights += [] if weight is None else [weight.reshape(())]
        if len(weights) not in (0, len(losses)):
            raise ConfigError(
                f"{type(parts.task).__name__}.loss gives a weight for some micro-batches and none "
                "for others: give one for all, or for none"
            )
    if parts.is_sharded:
        _check_used(sharding.unused(parts.model))
        average_gradients(parts.model, parts.world)
    if not weights:
        return functools.reduce(torch.add, losses)
    return _divide(parts, torch.stack(losses), torch.stack(weights))


def _divide(parts: Parts, means: Tensor, weights: Tensor) -> Tensor:
    """Divides the gradients of weighted losses by the weight of all micro-batches and processes."""
    world = parts.world
    whole = world.sum(weights.sum()).clamp_min(torch.finfo(torch.float32).tiny)
    share = world.size / whole  # gradients are averaged over the processes, not summed
    grads = [local(p.grad) for p in parts.model.parameters() if p.grad is not None]
    torch._foreach_mul_(grads, share)  # pyright: ignore[reportPrivateImportUsage]
    return (means.float() * weights).sum() * share


def _accumulate_coupled(parts: Parts, step: int, batch: list[Batch]) -> Tensor:
    """See `experiments.global_batch`; gradients are brought together at the end."""
    task, numbers = parts.task, parts.plan.micro_numbers()
    assert global_batch.can_couple(task), "check_coupling refuses it"

    def before(index: int) -> None:
        seed_all(parts.plan.noise_seed(step, numbers[index]))

    on_device = [_on_device(parts, micro) for micro in batch]
    cast = functools.partial(autocast, parts.config, parts.world.device)
    loss = global_batch.accumulate(task, parts.model, on_device, parts.world, before, cast)
    average_gradients(parts.model, parts.world)
    return loss


@contextlib.contextmanager
def _naming_unused(parts: Parts) -> Iterator[None]:
    """Says which parameters the loss leaves out, where DistributedDataParallel cannot go on."""
    try:
        yield
    except RuntimeError as error:
        found = re.search(r"did not receive grad for rank \d+: ([\d ]+)", str(error))
        if found is None:
            raise
        trained = [name for name, p in parts.model.named_parameters() if p.requires_grad]
        _check_used([trained[int(number)] for number in found[1].split()])
        raise


def _check_used(names: list[str]) -> None:
    """That no parameter is left out by the loss: other processes would wait for its gradient."""
    if names:
        raise UserError(
            f"the loss does not use {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}: with "
            "several processes such parameters must be frozen, "
            f"param_groups.frozen=[{','.join(names[:5])}]"
        )


def _all_on_device(parts: Parts, batch: list[Batch]) -> Iterator[Batch]:
    if parts.prefetch is not None:
        return parts.prefetch(batch)
    return (_on_device(parts, micro) for micro in batch)


def _on_device(parts: Parts, batch: Batch) -> Batch:
    device, channels_last = parts.world.device, parts.config.train.channels_last
    if device.type == "cpu" and not channels_last:
        return batch
    moved = []
    for tensor in batch:
        is_image = channels_last and tensor.dim() == 4
        layout = torch.channels_last if is_image else torch.preserve_format
        moved.append(tensor.to(device, non_blocking=True, memory_format=layout))
    return tuple(moved)
