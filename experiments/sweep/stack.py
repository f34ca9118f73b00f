"""The weights and optimizer states of several runs as one: row k of every tensor is run k.

Gradients come from `torch.func` (`vmap` over the models), the update from the stacked rule of the
optimizer. The step is traced once into a plain graph of tensor operations, which saves the cost of
the transforms (a third of a small model's step); `compile` fuses that graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from experiments.parts import Parts
from experiments.sweep.traced import FollowsData, Traced
from experiments.tasks.task import Batch
from lion.stacked import NoStackedRule, Settings, StackedRule, State, rule_for


class CannotStack(Exception):
    """These runs cannot be trained together; the message says why."""


@dataclass
class _Group:
    """A param group of the optimizer, for all runs: weights side by side in one (K, n) tensor."""

    names: list[str]
    shapes: list[torch.Size]
    rule: StackedRule
    settings: dict[str, Any]  # see lion.stacked.Settings; without lr and step
    peak_lrs: Tensor  # (K, 1) float64
    weights: Tensor  # (K, n)
    state: State = field(default_factory=dict)  # each (K, n)

    def move(self, found: Tensor | tuple[Tensor, State], settings: Settings) -> None:
        """Takes what a step found: new weights and state, or the gradient (K, n) to move by."""
        if isinstance(found, tuple):
            self.weights, self.state = found
            return
        assert self.rule.in_place is not None
        if not self.rule.in_place(self.weights, found, self.state, settings):
            self.weights, self.state = self.rule.update(self.weights, found, self.state, settings)

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of a (K, n) tensor, or of one row (n,), shaped like the parameters."""
        sizes = [shape.numel() for shape in self.shapes]
        parts = flat.split(sizes, -1)
        rows = flat.shape[:-1]
        return {
            name: part.view((*rows, *shape))
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }


class Stack:
    """Several runs of the same model at the same step.

    Args:
        members: Their parts; `copy_back` brings these up to date.
        unused: Names of parameters that the loss does not depend on: an optimizer leaves them.
    """

    def __init__(self, members: Sequence[Parts], unused: frozenset[str] = frozenset()) -> None:
        self.members = list(members)
        self.steps = 0  # optimizer steps done
        self._task = members[0].task
        self._model = members[0].model
        self._world = members[0].world
        self._groups = self._stack_groups(unused)
        trained = {name for group in self._groups for name in group.names}
        self._fixed = self._stack_fixed(trained)
        self._step: Callable[..., Any] | None = None
        self.is_compiled = False

    def __len__(self) -> int:
        return len(self.members)

    def _stack_groups(self, unused: frozenset[str]) -> list[_Group]:
        groups = []
        names = {id(p): name for name, p in self._model.named_parameters()}
        optimizers = [member.optimizer for member in self.members]
        for number, first in enumerate(optimizers[0].param_groups):
            places = [n for n, p in enumerate(first["params"]) if names[id(p)] not in unused]
            if not places:
                continue
            try:
                rule = rule_for(optimizers[0], first)
            except NoStackedRule as error:
                raise CannotStack(str(error)) from error
            same = [optimizer.param_groups[number] for optimizer in optimizers]
            params = [[group["params"][n] for n in places] for group in same]
            group = _Group(
                names=[names[id(p)] for p in params[0]],
                shapes=[p.shape for p in params[0]],
                rule=rule,
                settings=_settings(same),
                peak_lrs=_column([member.peak_lrs[number] for member in self.members]),
                weights=_flat(params),
            )
            for key in rule.state:
                group.state[key] = _flat(
                    [_states(o, p, key) for o, p in zip(optimizers, params, strict=True)]
                )
            if rule.counts_steps and (saved := optimizers[0].state.get(params[0][0])):
                self.steps = int(saved["step"])
            groups.append(group)
        return groups

    def _stack_fixed(self, trained: set[str]) -> dict[str, Tensor]:
        """Frozen and unused parameters, and buffers: (K, ...)."""
        stacked = {}
        for name, _ in [*self._model.named_parameters(), *self._model.named_buffers()]:
            if name not in trained:
                values = [_named(member.model, name).detach() for member in self.members]
                stacked[name] = torch.stack(values)
        return stacked

    def gradients(self, batch: Batch, is_shared: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients by parameter name, (K, ...) each, and losses (K,), without any step."""
        weights = [group.weights for group in self._groups]
        return self._differentiate(weights, self._fixed, batch, is_shared)

    def step(self, batch: Batch, is_shared: bool, lr_factor: float) -> Tensor:
        """One optimizer step of all runs.

        Args:
            batch: Tensors (B, ...) that all runs share, or (K, B, ...).
            is_shared: Which of the two.
            lr_factor: Of the schedule.

        Returns:
            The losses before the step, (K,).
        """
        lrs = [group.peak_lrs * lr_factor for group in self._groups]
        number = torch.full((1, 1), self.steps + 1, dtype=torch.float64)
        weights = [group.weights for group in self._groups]
        states = [group.state for group in self._groups]
        arguments = (self._fixed, weights, states, batch, lrs, number)
        with torch.no_grad():
            if self._step is None:
                self._step = self._traced(is_shared, arguments)
            moved, losses = self._step(arguments)
            for group, found, lr in zip(self._groups, moved, lrs, strict=True):
                group.move(found, {**group.settings, "lr": lr, "step": number})
        self.steps += 1
        return losses

    def compile(self) -> None:
        """Fuses the step; the next `step` takes the time of compiling (10 to 40 s)."""
        self._step, self.is_compiled = None, True

    def _traced(self, is_shared: bool, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        leaves, spec = pytree.tree_flatten(arguments)
        found: list[Any] = []  # how its results are put together

        def advance(*traced: Tensor) -> list[Tensor]:
            given = pytree.tree_unflatten(traced, spec)
            results, form = pytree.tree_flatten(self._advance(is_shared, *given))
            found[:] = [form]
            return results

        num_fixed, num_weights = len(self._fixed), len(self._groups)
        num_lasting = num_fixed + num_weights
        try:
            step = Traced(advance, leaves, num_fixed, num_lasting, self.is_compiled)
        except FollowsData as error:
            raise CannotStack(str(error)) from error
        return lambda given: pytree.tree_unflatten(step(*pytree.tree_leaves(given)), found[0])

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other rows; the next step is traced anew."""
        self.members = [self.members[row] for row in rows]
        chosen = torch.tensor(rows)
        for group in self._groups:
            group.weights = group.weights[chosen]
            group.state = {key: value[chosen] for key, value in group.state.items()}
            group.peak_lrs = group.peak_lrs[chosen]
            for key, value in group.settings.items():
                if isinstance(value, Tensor):
                    group.settings[key] = value[chosen]
        self._fixed = {name: value[chosen] for name, value in self._fixed.items()}
        self._step, self.is_compiled = None, False

    @torch.no_grad()
    def copy_back(self, row: int, lr_factor: float) -> None:
        """Brings the model and the optimizer of one run up to date, as if it had run alone."""
        member = self.members[row]
        for group in self._groups:
            weights = group.split(group.weights[row])
            state = {key: group.split(value[row]) for key, value in group.state.items()}
            for name in group.names:
                param = _named(member.model, name)
                param.copy_(weights[name])
                kept = {key: state[key][name].clone() for key in group.rule.state}
                if group.rule.counts_steps:
                    kept["step"] = torch.tensor(float(self.steps))
                member.optimizer.state[param] = kept
        for settings, peak in zip(member.optimizer.param_groups, member.peak_lrs, strict=True):
            settings["lr"] = peak * lr_factor

    def _advance(
        self,
        is_shared: bool,
        fixed: dict[str, Tensor],
        weights: list[Tensor],
        states: list[State],
        batch: Batch,
        lrs: list[Tensor],
        number: Tensor,
    ) -> tuple[list[Tensor | tuple[Tensor, State]], Tensor]:
        """One step as a pure function of tensors; see `_Group.move` for what it returns."""
        grads, losses = self._differentiate(weights, fixed, batch, is_shared)
        flat = [
            torch.cat([grads[n].reshape(len(losses), -1) for n in g.names], 1) for g in self._groups
        ]
        limit = self.members[0].config.train.grad_clip_norm
        if limit is not None:
            norm = torch.stack([x.square().sum(1) for x in flat]).sum(0).sqrt()
            scale = (limit / (norm + 1e-6)).clamp(max=1.0)[:, None]  # as nn.utils.clip_grad_norm_
            flat = [x * scale for x in flat]
        moved: list[Tensor | tuple[Tensor, State]] = []
        for group, weight, grad, state, lr in zip(
            self._groups, weights, flat, states, lrs, strict=True
        ):
            if group.rule.in_place is not None and not self.is_compiled:
                moved.append(grad)  # a rule that is compiled is one pass with the backward one
                continue
            settings: Settings = {**group.settings, "lr": lr, "step": number}
            moved.append(group.rule.update(weight, grad, state, settings))
        return moved, losses

    def _differentiate(
        self, weights: list[Tensor], fixed: dict[str, Tensor], batch: Batch, is_shared: bool
    ) -> tuple[dict[str, Tensor], Tensor]:
        named: dict[str, Tensor] = {}
        for group, flat in zip(self._groups, weights, strict=True):
            named |= group.split(flat)

        def loss(trained: dict[str, Tensor], others: dict[str, Tensor], inputs: Batch) -> Tensor:
            def model(*arguments: Any, **named: Any) -> Any:
                return functional_call(self._model, {**trained, **others}, arguments, named)

            return self._task.loss(cast(nn.Module, model), inputs, self._world).counted()

        over = vmap(grad_and_value(loss), in_dims=(0, 0, None if is_shared else 0))
        # The fused attention of a CPU has no rule for vmap and would run model by model.
        with sdpa_kernel(SDPBackend.MATH):
            return over(named, fixed, batch)


def _named(model: nn.Module, name: str) -> Tensor:
    """A parameter or buffer."""
    owner, _, last = name.rpartition(".")
    return getattr(model.get_submodule(owner), last)


def _flat(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Per run a list of tensors; (K, n), a copy."""
    return torch.stack([torch.cat([x.detach().flatten() for x in row]) for row in rows])


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)[:, None]


def _states(optimizer: torch.optim.Optimizer, params: list[Tensor], key: str) -> list[Tensor]:
    """What an optimizer keeps of its parameters; zeros before its first step."""
    kept = [optimizer.state.get(p, {}).get(key) for p in params]
    return [torch.zeros_like(p) if k is None else k for k, p in zip(kept, params, strict=True)]


def _settings(groups: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One param group of all runs: a number where they agree, else a (K, 1) tensor."""
    columns = {key: [group[key] for group in groups] for key in groups[0]}
    if "betas" in columns:
        columns["beta1"], columns["beta2"] = map(list, zip(*columns.pop("betas"), strict=True))
    settings: dict[str, Any] = {}
    for key, values in columns.items():
        if key in ("lr", "params", "name"):
            continue
        settings[key] = values[0] if all(v == values[0] for v in values) else _column(values)
    return settings
