"""What an optimizer does to the weights, measured now and then while a run goes on.

Every `tracking.telemetry_every_steps` steps one step is looked at, and the one before it, for the
signs. Nothing of the training changes. `experiments.doctor` reads the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

SPLIT = "telemetry"
"""Split of its rows in the ledger."""


class Telemetry:
    """Looks at some steps.

    Args:
        model: Whose weights.
        optimizer: That moves them.
        every_steps: Between two looks, >= 1.
        clip_norm: The norm at which gradients are clipped; None: they are not.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        every_steps: int,
        clip_norm: float | None,
    ) -> None:
        self._optimizer, self._every, self._clip_norm = optimizer, every_steps, clip_norm
        self._groups = _kinds(model, optimizer)
        self._signs: dict[str, Tensor] = {}  # of the last update, by group
        self._before: dict[str, Tensor] = {}
        self._norm: Tensor | None = None
        self._norms: list[Tensor] = []  # since the last look; compared there, all at once
        self._found: dict[str, Tensor | float] = {}

    def is_due(self, done: int) -> bool:
        """Whether the step with this number, counted from 1, is looked at."""
        return done % self._every == 0

    def before(self, done: int, norm: Tensor | None) -> None:
        """To be called before the optimizer's step.

        Args:
            done: Steps when it is done.
            norm: Of the gradients before they were clipped, where they are.
        """
        if norm is not None and self._clip_norm is not None:
            self._norms.append(norm.detach())
        if self.is_due(done):
            params = (p for group in self._groups.values() for p in group)
            grads = [p.grad for p in params if p.grad is not None]
            self._norm = torch.nn.utils.get_total_norm(grads) if norm is None else norm
        if self.is_due(done) or self.is_due(done + 1):
            self._before = {name: _flat(params) for name, params in self._groups.items()}

    @torch.no_grad()
    def after(self, done: int) -> None:
        """To be called after it."""
        if not self._before:
            return
        earlier, self._signs = self._signs, {}
        found = self._of_optimizer() if self.is_due(done) else {}
        for name, params in self._groups.items():
            weights = _flat(params)
            size = _rms(weights) if self.is_due(done) else None
            update = weights.sub_(self._before.pop(name))
            signs = update.sign().nan_to_num_(0.0).to(torch.int8)
            if self.is_due(done + 1):
                self._signs[name] = signs
            if size is not None:
                of_group = self._of_group(params, size, update, signs, earlier.get(name))
                found |= {f"{key}/{name}": value for key, value in of_group.items()}
        self._found = found or self._found

    def take(self) -> Iterator[tuple[str, float]]:
        """Name and value of what was found at the last look."""
        tensors = [v.double() for v in self._found.values() if isinstance(v, Tensor)]
        measured = iter(torch.stack(tensors).tolist() if tensors else [])  # waits once for a GPU
        for name, value in self._found.items():
            yield name, next(measured) if isinstance(value, Tensor) else value
        self._found = {}

    def _of_optimizer(self) -> dict[str, Tensor | float]:
        found: dict[str, Tensor | float] = {}
        if self._norm is not None:
            found["grad_norm"] = self._norm
        if self._norms and self._clip_norm is not None:
            norms = torch.stack(self._norms)
            found["clip_share"] = (norms > self._clip_norm).count_nonzero() / len(norms)
            self._norms.clear()
        for group in self._optimizer.param_groups:
            decay = group.get("weight_decay", 0.0)
            found[f"lr/{group.get('name', 'all')}"] = float(group["lr"])
            found[f"lr_times_weight_decay/{group.get('name', 'all')}"] = float(group["lr"] * decay)
        return found

    def _of_group(
        self,
        params: list[nn.Parameter],
        weight: Tensor,
        update: Tensor,
        signs: Tensor,
        earlier: Tensor | None,
    ) -> dict[str, Tensor | float]:
        size = _rms(update)
        found: dict[str, Tensor | float] = {
            "weight_rms": weight,
            "update_rms": size,
            "update_ratio": size / weight.clamp_min(torch.finfo(torch.float32).tiny),
            "zero_updates": 1 - update.count_nonzero() / update.numel(),
        }
        if earlier is not None:
            found["sign_flips"] = (signs * earlier < 0).count_nonzero() / signs.numel()
        states = [self._optimizer.state.get(p, {}).get("exp_avg") for p in params]
        momenta = [s for s in states if isinstance(s, Tensor) and s.is_floating_point()]
        if len(momenta) == len(params):
            found["momentum_rms"] = _rms(_flat(momenta))
        return found


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """A copy of their elements, one after another: few large operations in place of many."""
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def _rms(flat: Tensor) -> Tensor:
    return (flat.float().square().sum() / flat.numel()).sqrt()


def _kinds(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, list[nn.Parameter]]:
    """The trained parameters: scalars, embeddings, and the rest by their group."""
    embedded = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    found: dict[str, list[nn.Parameter]] = {}
    for group in optimizer.param_groups:
        for param in group["params"]:
            name = str(group.get("name", "all"))
            if param.numel() == 1:
                name = "scalars"
            elif id(param) in embedded:
                name = "embeddings"
            found.setdefault(name, []).append(param)
    return found


def of(config: Any, model: nn.Module, optimizer: torch.optim.Optimizer) -> Telemetry | None:
    """As the configuration of a run asks; None where it does not."""
    every = config.tracking.telemetry_every_steps
    if every is None:
        return None
    return Telemetry(model, optimizer, every, config.train.grad_clip_norm)
