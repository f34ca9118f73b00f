"""Runs a program's step on arrays: NumPy for the probes, torch for training.

The statements are looked up once and then run in a plain loop, which costs less than compiling
Python source for programs that live for a few steps only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.search.language import INPUTS, OUTPUTS, Program

Step = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, Any]]
"""(w, g, m, v, lr) -> (update, m, v)."""


def numpy_step(program: Program, sizes: tuple[int, ...] | None = None) -> Step:
    """The step of a program in float64 NumPy.

    Args:
        program: A program of valid types.
        sizes: Entries of each weight tensor along the last axis, for `norm`; None: one tensor.

    Returns:
        A function of (w, g, m, v, lr): arrays (..., n), and lr a float or an array (..., 1).
    """
    from experiments.search.numpy_rules import RULES

    return _step(program, RULES, sizes)


def single_step(program: Program, sizes: tuple[int, ...] | None = None) -> Step:
    """The step of a program in float32 NumPy, with the epsilon of training: its range.

    As `numpy_step`, of float32 arrays, lr too.
    """
    from experiments.search.numpy_rules import SINGLE

    return _step(program, SINGLE, sizes, np.float32)


def torch_step(program: Program, sizes: tuple[int, ...] | None = None) -> Step:
    """The step of a program on tensors; see `numpy_step`."""
    from experiments.search.torch_rules import RULES

    return _step(program, RULES, sizes)


def _step(
    program: Program,
    rules: dict[str, Callable[..., Any]],
    sizes: tuple[int, ...] | None,
    number: Callable[[float], Any] = float,
) -> Step:
    slots = {name: number for number, name in enumerate((*INPUTS, "update"))}
    constants: list[Any] = []
    code = []
    for target, function, arguments in program.statements:
        rule, read = rules[function], []
        for argument in arguments:
            if isinstance(argument, str):
                read.append(slots[argument])
            else:
                read.append(~len(constants))
                constants.append(number(argument))
        if function == "norm" and sizes is not None:
            rule = _norm_of(rule, sizes)
        code.append((rule, slots.setdefault(target, len(slots)), read))
    num_slots = len(slots)
    constants.reverse()  # so that slot ~i, counted from the end, is constant i
    empty = [None] * (num_slots - len(INPUTS))
    outputs = [slots[name] for name in OUTPUTS]

    def step(w: Any, g: Any, m: Any, v: Any, lr: Any) -> tuple[Any, Any, Any]:
        values = [w, g, m, v, lr, *empty, *constants]
        for rule, target, read in code:
            values[target] = rule(*[values[i] for i in read])
        update, new_m, new_v = (values[i] for i in outputs)
        return update, new_m, new_v

    return step


def _norm_of(rule: Callable[..., Any], sizes: tuple[int, ...]) -> Callable[..., Any]:
    return lambda x: rule(x, sizes)
