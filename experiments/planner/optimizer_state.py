"""Bytes of an optimizer's state, from the optimizer itself: it takes a step without data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from experiments import schedule_free
from experiments.build import build, explained
from experiments.config import RunConfig
from experiments.pages import CONF
from experiments.planner.live_bytes import LiveBytes
from experiments.planner.model_facts import num_bytes
from experiments.planner.trial import Blank, freeze

ONE_PASS = "lion."
"""Optimizers of this package update in place, in one pass over memory: a step holds nothing."""


@dataclass(frozen=True)
class OptimizerBytes:
    """What an optimizer holds."""

    state: int  # between steps
    step: int  # in the course of a step, beside that
    shows_others: bool  # a checkpoint then holds both the weights trained and those shown


def measure(section: dict[str, Any], config: RunConfig, blank: Blank) -> OptimizerBytes:
    """Two steps: the first makes the state.

    Args:
        section: Of an optimizer, with its `_target_`.
        config: Of the run: which parameters decay, and which are not trained.
        blank: The model.

    Raises:
        ConfigError: where the optimizer refuses its settings or the model.
    """
    is_ours = section["_target_"].startswith(ONE_PASS)
    with explained(f"optimizer: {section['_target_']} cannot be counted"):
        groups = freeze(blank.plain, config)
        optimizer: torch.optim.Optimizer = build(section, "optimizer", groups)
        _avoid_native_code(optimizer, is_ours, blank.on_gpu)
        schedule_free.train(optimizer)
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad = torch.empty_like(param)
        optimizer.step()
        live = LiveBytes(blank.plain)
        with live:
            optimizer.step()
        live.close()
        optimizer.zero_grad(set_to_none=True)
    return OptimizerBytes(
        state=state_bytes(optimizer),
        step=0 if is_ours else live.peak,
        shows_others=schedule_free.is_schedule_free(optimizer),
    )


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of what an optimizer holds beside parameters, per parameter and per group."""
    of_groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    held = tree_leaves((dict(optimizer.state), of_groups))
    return num_bytes(leaf for leaf in held if isinstance(leaf, Tensor))


def _avoid_native_code(optimizer: torch.optim.Optimizer, is_ours: bool, on_gpu: bool) -> None:
    """Tensors without data have no address for native code; on GPUs torch takes many at a time."""
    for group in optimizer.param_groups:
        if "foreach" in group and group["foreach"] is None and not group.get("fused"):
            group["foreach"] = is_ours or on_gpu
        if group.get("fused"):
            group["fused"], group["foreach"] = None, True


@cache
def side_by_side() -> dict[str, dict[str, Any]]:
    """The optimizers that a plan compares: sections by name, from `conf/plan.yaml`."""
    import yaml

    sections = {}
    for name, asked in settings()["optimizers"].items():
        page = yaml.safe_load((CONF / "optimizer" / f"{asked['page']}.yaml").read_text())
        changes = {key: value for key, value in asked.items() if key != "page"}
        sections[name] = _with_numbers({**page, **changes})
    return sections


def _with_numbers(section: dict[str, Any]) -> dict[str, Any]:
    """YAML reads 1e-3 as text; Hydra as a number."""
    return {
        key: float(value) if isinstance(value, str) and value[:1].isdigit() else value
        for key, value in section.items()
    }


@cache
def settings() -> dict[str, Any]:
    """`conf/plan.yaml`."""
    import yaml

    return yaml.safe_load((CONF / "plan.yaml").read_text())
