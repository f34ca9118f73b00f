"""The rule of a program for many models at once, so that its runs are trained together.

Elementwise programs only: a norm or an inner product runs over all weights of a model, and a rule
for stacked weights sees one param group at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.search import liveness, types
from experiments.search.language import Program, Statement
from experiments.search.operations import ARRAY
from experiments.search.torch_rules import RULES
from lion.stacked import NoStackedRule, Settings, StackedRule, State

OF_WHOLE_TENSORS = ("norm", "global_norm", "dot", "cosine_sim", "clip_by_global_norm")
"""Functions that, of arrays, mix weights; of scalars they do not."""


def stacked_rule(program: Program) -> StackedRule:
    """How `export.ProgramOptimizer` moves the weights of K models.

    Args:
        program: One of valid types, without statements that do not matter.

    Raises:
        NoStackedRule: a statement is not elementwise.
    """
    states = liveness.analyse(program).states
    step = _step(program)

    def update(param: Tensor, grad: Tensor, state: State, group: Settings) -> tuple[Tensor, State]:
        lr = group["lr"]
        values = step({"w": param, "g": grad, "lr": lr, **state}, param.dtype)
        decayed = param * _cast(1 - lr * group["weight_decay"], param.dtype)
        return decayed - values["update"], {name: values[name] for name in states}

    return StackedRule(update, states)


def _step(program: Program) -> Callable[[dict[str, Any], torch.dtype], dict[str, Any]]:
    """All values of one step: arrays (K, n); scalars are floats or (K, 1), in float64."""
    kinds = types.INPUT_KINDS.copy()
    lines: list[tuple[Statement, bool]] = []
    for statement in program.statements:
        name, operands = statement.function, statement.arguments
        if name in OF_WHOLE_TENSORS and kinds.get(str(operands[0])) is ARRAY:
            raise NoStackedRule(
                "the program has no rule for stacked weights: "
                f"`{statement.text()}` is not elementwise"
            )
        kinds[statement.target] = types.result_kind(statement, kinds)
        lines.append((statement, kinds[statement.target] is ARRAY))

    def step(values: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
        for statement, is_array in lines:
            read = [values[a] if isinstance(a, str) else a for a in statement.arguments]
            if is_array:  # float64 would make the weights float64
                read = [_cast(value, dtype) for value in read]
            values[statement.target] = RULES[statement.function](*read)
        return values

    return step


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) else value
