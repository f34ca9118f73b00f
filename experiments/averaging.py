"""Averaged weights of a run (Polyak averaging), of whole models and of models in shards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from experiments.config import RunConfig
from experiments.distributed import World, local
from experiments.sharded_state import fill_all, gathered_all, like
from experiments.sharding import is_wanted


class ShardedAverage:
    """Polyak averaging of shards: what torch's `AveragedModel` keeps, as it keeps it.

    Each process averages its own shards; an evaluation has the averages in the model's place.
    """

    def __init__(self, model: nn.Module, update: Callable[..., None]) -> None:
        """Begins with the present weights.

        Args:
            model: In shards.
            update: See `moving_average`.
        """
        self._model, self._update = model, update
        self._shards = {name: shard.clone() for name, shard in self._current().items()}
        self._num_averaged = torch.zeros((), dtype=torch.long)

    def _current(self) -> dict[str, Tensor]:
        """This process's part of each tensor; what is tied, once."""
        state = self._model.state_dict(keep_vars=True)
        once = {id(tensor): name for name, tensor in reversed(state.items())}
        return {name: local(state[name]).detach() for name in reversed(once.values())}

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Takes the present weights in; the first ones are the average."""
        current = self._current()
        for kind in {shard.dtype for shard in current.values()}:
            names = [name for name, shard in current.items() if shard.dtype == kind]
            ours, new = [self._shards[n] for n in names], [current[n] for n in names]
            if self._num_averaged:
                self._update(ours, new, self._num_averaged)
            else:
                torch._foreach_copy_(ours, new)  # pyright: ignore[reportPrivateImportUsage]
        self._num_averaged += 1

    @contextlib.contextmanager
    def in_place(self) -> Iterator[nn.Module]:
        """The model with the averages as its weights, which it gets back afterwards."""
        self._swap()
        try:
            yield self._model
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, shard in self._current().items():
            kept = shard.clone()
            shard.copy_(self._shards[name])
            self._shards[name].copy_(kept)

    def state(self) -> dict[str, Tensor]:
        """As `AveragedModel` gives it, in shards that share the memory; what is tied is one."""
        state = self._model.state_dict(keep_vars=True)
        first = {id(tensor): name for name, tensor in reversed(state.items())}
        views = {n: like(state[n], shard) for n, shard in self._shards.items()}
        averages = {f"module.{n}": views[first[id(tensor)]] for n, tensor in state.items()}
        return {"n_averaged": self._num_averaged, **averages}

    def whole_state(self, world: World) -> dict[str, Tensor]:
        """As `AveragedModel` gives it, in the main process. All must call it."""
        return {**gathered_all(self.state(), world), "n_averaged": self._num_averaged.clone()}

    def load_whole_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes this process's shards of what `AveragedModel` or this class has saved."""
        fill_all(self.state(), state)


class RunningAverage(AveragedModel):
    """torch's `AveragedModel`, whose counter stays on the host: no step waits for a GPU."""

    def __init__(self, model: nn.Module, update: Callable[..., None]) -> None:
        super().__init__(model, multi_avg_fn=update, use_buffers=True)
        self._update = update

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Takes the present weights in; the first ones are the average."""
        if not self.n_averaged:
            return super().update_parameters(model)
        kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for ours, new in zip(_tensors(self.module), _tensors(model), strict=True):
            averages, current = kinds.setdefault(ours.dtype, ([], []))
            averages.append(ours.detach())
            current.append(new.detach())
        for averages, current in kinds.values():
            self._update(averages, current, self.n_averaged)
        self.n_averaged += 1


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


Average = AveragedModel | ShardedAverage


def moving_average(decay: float) -> Callable[..., None]:
    """torch's average of tensors of one type, but for whole numbers, which are taken as they are.

    torch averages those, too, and cuts off what is behind the point: an index of relative positions
    may become the one before, for good.
    """
    average = get_ema_multi_avg_fn(decay)

    def update(ours: list[Tensor], new: list[Tensor], count: Tensor) -> None:
        if ours[0].is_floating_point() or ours[0].is_complex():
            average(ours, new, count)
        else:
            torch._foreach_copy_(ours, new)  # pyright: ignore[reportPrivateImportUsage]

    return update


def build_average(config: RunConfig, model: nn.Module, world: World) -> Average | None:
    """The averages that a run asks for."""
    if config.train.ema_decay is None:
        return None
    update = moving_average(config.train.ema_decay)
    if is_wanted(config.launch, world):
        return ShardedAverage(model, update)
    return RunningAverage(model, update)


@contextlib.contextmanager
def averaged(average: Average) -> Iterator[nn.Module]:
    """The model with averaged weights."""
    if isinstance(average, AveragedModel):
        yield average.module
    else:
        with average.in_place() as module:
            yield module
