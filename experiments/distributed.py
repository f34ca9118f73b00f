"""Several processes as one run: the only file that knows ranks.

Works under `torchrun`, under `launch.num_processes=N`, and alone. One process group serves both
devices: gloo for tensors on the CPU, NCCL for tensors on GPUs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from experiments import inherited
from experiments.config import ConfigError, LaunchConfig, UserError
from experiments.files import say
from experiments.launch import STORE_VARIABLE
from experiments.left_alone import understood
from experiments.processor import limit_threads

WAIT_SECONDS = 30.0
"""How long a process waits for the others without a word."""


@dataclass(frozen=True)
class World:
    """This process among the processes of a run."""

    rank: int
    size: int
    device: torch.device
    timeout: timedelta | None = None  # how long others are waited for; None: torch's own

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and speaks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def group(self, ranks: Sequence[int] | None = None, backend: str | None = None) -> Any:
        """Some of the processes, which wait for each other as long as all do. All must call it."""
        return dist.new_group(ranks, self.timeout, backend)

    def share(self, value: Any) -> Any:
        """The main process's value, in every process. Plain Python data only."""
        if self.size == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0)
        return holder[0]

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all processes, in the order of the ranks, with gradients.

        Args:
            rows: (n, ...); n may differ between processes where no gradient is asked for.

        Returns:
            (sum of n, ...). The gradient of a loss that every process computes from it, averaged
            over the processes as gradients are, is that of one process with all rows.
        """
        if self.size == 1:
            return rows
        if torch.is_grad_enabled() and rows.requires_grad:
            return cast(Tensor, _Gather.apply(rows, self.rank, self.size))
        return _gather_unequal(rows, self.size)

    def copy_buffers(self, module: nn.Module) -> None:
        """Gives every process the main one's buffers (running statistics of batch norm).

        They differ between processes while training; an evaluation must use one version.
        """
        if self.size == 1:
            return
        buffers = list(module.buffers())
        for kind in dict.fromkeys(buffer.dtype for buffer in buffers):
            same = [buffer for buffer in buffers if buffer.dtype == kind]
            flat = torch.cat([buffer.reshape(-1) for buffer in same])
            dist.broadcast(flat, src=0)
            for buffer, part in zip(same, flat.split([b.numel() for b in same]), strict=True):
                buffer.copy_(part.view_as(buffer))


class _Gather(torch.autograd.Function):
    """Rows of all processes; the gradients that all of them have for a row add up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, size: int) -> Tensor:  # type: ignore[override]
        ctx.rank, ctx.count = rank, len(rows)
        parts = [torch.empty_like(rows) for _ in range(size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad[ctx.rank * ctx.count : (ctx.rank + 1) * ctx.count], None, None


def _gather_unequal(rows: Tensor, size: int) -> Tensor:
    """Without gradients; shorter parts are filled up for the exchange."""
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(size)]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    longest = max(int(count) for count in counts)
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


@contextlib.contextmanager
def joined(launch: LaunchConfig) -> Iterator[World]:
    """Joins the processes of this run; at the end they wait for the main one, and leave together.

    The main process may have a checkpoint to write, and whoever has started them takes one that
    left long before for one that was lost.

    Raises:
        ConfigError: where the wanted device is not there.
        UserError: where the others cannot be met, or one of them has ended or does not answer.
    """
    rank, size = inherited.place()
    device = _choose_device(launch.device)
    limit_threads(launch.num_threads)
    if size == 1:
        yield World(0, 1, device)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    minutes = launch.timeout_minutes
    world = World(rank, size, device, timedelta(minutes=minutes) if minutes else None)
    _meet(backend, world)
    try:
        yield world
    except BaseException as error:
        _leave_alone(device)
        if (meant := understood(error)) is not error:
            raise meant from error
        raise
    with contextlib.suppress(RuntimeError):  # the main one has failed, and says so itself
        world.share(None)
    dist.destroy_process_group()


def _meet(backend: str, world: World) -> None:
    """Waits for all processes; says for whom, if it takes long."""
    place: dict[str, Any] = {"rank": world.rank, "world_size": world.size, "timeout": world.timeout}
    if store := os.environ.get(STORE_VARIABLE):  # not as a URL: it may hold any letter
        meeting = dist.FileStore(store, world.size)  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(backend, store=meeting, **place)
        return
    where = " port ".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
    whom = f"process {world.rank} of {world.size} (RANK, WORLD_SIZE): the others, at {where}"
    remedy = "start all of them, or unset RANK and WORLD_SIZE for a run of one process"
    timer = threading.Timer(WAIT_SECONDS, say, (f"{whom}, are waited for: {remedy}\n", sys.stderr))
    timer.daemon = True
    timer.start()
    try:
        dist.init_process_group(backend, init_method="env://", **place)
    except (ValueError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0][:200]
        raise UserError(f"{whom}, are not met: {remedy}. {first}") from error
    finally:
        timer.cancel()


def _leave_alone(device: torch.device) -> None:
    """Leaves processes that may still wait for this one, which has failed."""
    if device.type != "cuda":
        dist.destroy_process_group()
        return
    # NCCL's goodbye waits for all processes, and the others wait in what this one will not do: its
    # error would be said only when they give up, after half an hour.
    with contextlib.suppress(Exception):
        dist.distributed_c10d._abort_process_group()


def _choose_device(wanted: str) -> torch.device:
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError("launch.device=cuda: no GPU is visible here; set launch.device=cpu")
    if wanted == "cpu" or not available:
        return torch.device("cpu")
    device = torch.device("cuda", _gpu_number(torch.cuda.device_count()))
    torch.cuda.set_device(device)
    # Else convolutions, alone of all, would round float32 to 10 bits: fp32 is fp32 on a GPU, too.
    torch.backends.cudnn.allow_tf32 = False
    return device


def _gpu_number(count: int) -> int:
    """Which of the GPUs that this process sees is its own."""
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if count == 1 and STORE_VARIABLE not in os.environ:
        return 0  # launchers may show each process its own one (SLURM: --gpus-per-task=1)
    if number >= count:
        raise ConfigError(
            f"no GPU for process {number + 1} of this machine: {count} are visible; start as many "
            "processes as GPUs (launch.num_processes), or set launch.device=cpu"
        )
    return number


def check_same_run(world: World, run_id: str) -> None:
    """Refuses processes that were started for several runs: their gradients would be mixed.

    Raises:
        UserError: in every process.
    """
    main = world.share(run_id)
    if others := int(world.sum(torch.tensor(int(run_id != main)))):
        raise UserError(
            f"{others} of {world.size} processes would train another run than {main}, that of the "
            "main one: start all with the same command, pages and files"
        )


def is_shard(tensor: Tensor) -> bool:
    """Whether a process holds a part of a tensor only; see `experiments.sharding`."""
    return type(tensor).__name__ == "DTensor"  # importing the class takes a second


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor: its shard, which shares the memory, or all of it."""
    return cast(Any, tensor).to_local() if is_shard(tensor) else tensor


def wrap(model: nn.Module, world: World) -> nn.Module:
    """The module to call while training: averages gradients over the processes.

    Shards do so by themselves.
    """
    if world.size == 1 or any(map(is_shard, model.parameters())):
        return model
    ids = [world.device.index] if world.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)


def without_sync(model: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Keeps gradients local for all but the last micro-batch of a step."""
    no_sync = getattr(model, "no_sync", None)  # DDP has it, and a compiled DDP hands it on
    return contextlib.nullcontext() if last or no_sync is None else no_sync()


def average_gradients(model: nn.Module, world: World) -> None:
    """Averages gradients over the processes, where nothing else does: shards are averaged."""
    if world.size == 1:
        return
    grads = [p.grad for p in model.parameters() if p.grad is not None and not is_shard(p)]
    for kind in dict.fromkeys(grad.dtype for grad in grads):  # in one order in all processes
        same = [grad for grad in grads if grad.dtype == kind]
        flat = torch.cat([grad.reshape(-1) for grad in same]).div_(world.size)
        world.sum(flat)
        for grad, part in zip(same, flat.split([g.numel() for g in same]), strict=True):
            grad.copy_(part.view_as(grad))


class Agreement:
    """Lets all processes act on the highest wish of any, without making any step wait.

    Each step starts a reduction of the local wishes, and reads the one that the step before
    started; so every process sees the same answer at the same step.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._pending: tuple[Any, Tensor] | None = None

    def highest(self, wish: int) -> int:
        """The highest wish of any process; the same in every process at the same call."""
        if self.world.size == 1:
            return wish
        agreed = 0
        if self._pending is not None:
            work, shared = self._pending
            work.wait()
            agreed = int(shared.item())
        shared = torch.tensor([wish])
        self._pending = (dist.all_reduce(shared, dist.ReduceOp.MAX, async_op=True), shared)
        return agreed

    def close(self) -> None:
        """Waits for the last reduction, which nobody reads."""
        if self._pending is not None:
            self._pending[0].wait()
