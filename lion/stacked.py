"""Rules for many models at once: row k of every tensor is model k, with an lr and decay of its own.

`rule_for` knows the optimizers that have such a rule. Each rule is a pure function of stacked
tensors, runs under tracing and `torch.compile`, keeps the state of its optimizer under the same
names, and is tested against that optimizer over a trajectory. To add one: write the function and
give it a line in `RULES`; or, for an optimizer of one's own, give its class a method
`stacked_rule(settings)`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lion import fused, native, rule

Settings = Mapping[str, float | bool | Tensor]
"""Of a param group: a number where all models agree, else (K, 1) float64; `betas` comes as beta1
and beta2, and `step` as the number of this step, counted from 1, (1, 1) float64."""
State = dict[str, Tensor]


@dataclass(frozen=True)
class StackedRule:
    """How one optimizer moves the weights of K models."""

    update: Callable[[Tensor, Tensor, State, Settings], tuple[Tensor, State]]
    """(weights, gradients, state, settings) to new weights and state; all tensors (K, n)."""
    state: tuple[str, ...]
    """Names of the tensors of the optimizer's state that are shaped like their weight."""
    counts_steps: bool = False
    """Whether its state has a `step`, too: a 0-d float32 tensor per weight."""
    plain: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Of a rule in `RULES`: settings that must have one of these values; others make another."""
    in_place: Callable[[Tensor, Tensor, State, Settings], bool] | None = None
    """The same, written into weights and state; False where it cannot, and has done nothing."""


class NoStackedRule(ValueError):
    """An optimizer moves one model at a time; the message says why."""


def rule_for(optimizer: torch.optim.Optimizer, settings: Mapping[str, Any]) -> StackedRule:
    """The rule of an optimizer with these settings of a param group.

    A subclass may move weights otherwise, so only the class itself counts: one that is named in
    `RULES`, or that defines `stacked_rule(settings)` itself, which returns its rule or raises.

    Args:
        optimizer: Any.
        settings: A param group as the optimizer keeps it, with every default filled in.

    Raises:
        NoStackedRule: there is none.
    """
    kind = type(optimizer)
    if "stacked_rule" in vars(kind):
        return optimizer.stacked_rule(settings)  # type: ignore[attr-defined]
    found = RULES.get(f"{kind.__module__}.{kind.__qualname__}")
    if found is None or any(settings.get(key) not in ok for key, ok in found.plain.items()):
        raise NoStackedRule(f"optimizer {kind.__name__} has no rule for stacked weights")
    return found


def _lion(param: Tensor, grad: Tensor, state: State, group: Settings) -> tuple[Tensor, State]:
    settings = {key: _in(group[key], param) for key in ("lr", "beta1", "beta2", "weight_decay")}
    new_param, exp_avg = rule.lion(param, grad, state["exp_avg"], **settings)
    return new_param, {"exp_avg": exp_avg}


def _lion_in_place(param: Tensor, grad: Tensor, state: State, group: Settings) -> bool:
    """Each row by the kernels that step one model on a CPU: one pass over memory instead of ten."""
    tensors = (param, grad, state["exp_avg"])
    if not _is_for_cpu_kernels(tensors, group) or not native.available():
        return False
    keys = ("lr", "beta1", "beta2", "weight_decay")
    return fused.update_rows(*tensors, **{key: _each(group[key], len(param)) for key in keys})


def _adamw_in_place(param: Tensor, grad: Tensor, state: State, group: Settings) -> bool:
    """Each row by the kernel of `torch.optim.AdamW(fused=True)`."""
    tensors = (param, grad, state["exp_avg"], state["exp_avg_sq"])
    if not _is_for_cpu_kernels(tensors, group):
        return False
    kernel: Any = torch.ops.aten._fused_adamw_
    step = torch.tensor(float(group["step"]), dtype=torch.float32)
    keys = ("lr", "beta1", "beta2", "weight_decay", "eps")
    for settings, columns in _alike(tensors, group, keys):
        steps = [step] * len(columns[0])
        kernel(*columns, [], steps, **settings, amsgrad=False, maximize=False)
    return True


def _is_for_cpu_kernels(tensors: Sequence[Tensor], group: Settings) -> bool:
    is_asked = group.get("fused") is not False
    return is_asked and all(t.is_cpu and t.dtype == torch.float32 for t in tensors)


def _alike(
    tensors: Sequence[Tensor], group: Settings, keys: Sequence[str]
) -> Iterator[tuple[dict[str, Any], list[list[Tensor]]]]:
    """Rows of one setting at a time: the setting, and of each tensor its rows that have it."""
    columns = [_each(group[key], len(tensors[0])) for key in keys]
    alike: dict[tuple[float, ...], list[int]] = {}
    for row, own in enumerate(zip(*columns, strict=True)):
        alike.setdefault(own, []).append(row)
    views = [tensor.unbind(0) for tensor in tensors]
    for own, rows in alike.items():
        yield dict(zip(keys, own, strict=True)), [[view[row] for row in rows] for view in views]


def _each(value: Any, num_rows: int) -> list[float]:
    """A setting of each row."""
    return value.flatten().tolist() if isinstance(value, Tensor) else [value] * num_rows


def _adamw(param: Tensor, grad: Tensor, state: State, group: Settings) -> tuple[Tensor, State]:
    """Adam with decoupled decay, rounded as torch.optim rounds.

        m_t     = beta1 * m_{t-1} + (1 - beta1) * g_t
        v_t     = beta2 * v_{t-1} + (1 - beta2) * g_t^2
        theta_t = (1 - lr * weight_decay) * theta_{t-1}
                  - lr / (1 - beta1^t) * m_t / (sqrt(v_t / (1 - beta2^t)) + eps)

    Source: arXiv:1711.05101, Alg. 2; torch.optim.AdamW
    """
    lr, beta1, beta2, step = group["lr"], group["beta1"], group["beta2"], group["step"]
    exp_avg = torch.lerp(state["exp_avg"], grad, _in(1 - beta1, param))
    exp_avg_sq = _in(beta2, param) * state["exp_avg_sq"] + _in(1 - beta2, param) * grad * grad
    # In float64: 1 - beta2^t loses its digits in the first steps.
    size = _in(lr / (1 - beta1**step), param)
    scale = _in((1 - beta2**step) ** 0.5, param)
    direction = exp_avg / (exp_avg_sq.sqrt() / scale + group["eps"])
    new_param = param * _in(1 - lr * group["weight_decay"], param) - size * direction
    return new_param, {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}


def _sgd(param: Tensor, grad: Tensor, state: State, group: Settings) -> tuple[Tensor, State]:
    """SGD with momentum; its decay is the L2 kind. Without dampening a zero buffer starts it.

    b_t = momentum * b_{t-1} + g_t + weight_decay * theta_{t-1},    theta_t = theta_{t-1} - lr * b_t

    Source: torch.optim.SGD
    """
    momentum = group["momentum"]
    grad = grad + _in(group["weight_decay"], param) * param
    buffer = momentum * state["momentum_buffer"] + grad
    direction = grad + momentum * buffer if group["nesterov"] else buffer
    return param - _in(group["lr"], param) * direction, {"momentum_buffer": buffer}


def _in(value: Any, like: Tensor) -> Any:
    """A setting as a tensor like the weights; a number stays a number."""
    return value.to(like.device, like.dtype) if isinstance(value, Tensor) else value


_PLAIN = {"maximize": (False, None), "differentiable": (False, None)}
RULES = {
    "lion.lion.Lion": StackedRule(
        _lion,
        ("exp_avg",),
        False,
        {**_PLAIN, "momentum_dtype": (None,), "kahan_sum": (None, False)},
        _lion_in_place,
    ),
    "torch.optim.adamw.AdamW": StackedRule(
        _adamw,
        ("exp_avg", "exp_avg_sq"),
        True,
        {**_PLAIN, "amsgrad": (False,)},
        _adamw_in_place,
    ),
    "torch.optim.sgd.SGD": StackedRule(
        _sgd, ("momentum_buffer",), False, {**_PLAIN, "dampening": (0,)}
    ),
}
"""By the dotted path of the class."""
