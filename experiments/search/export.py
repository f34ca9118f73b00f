"""A program as a torch optimizer, so that what a search finds runs wherever Lion and AdamW do.

python run.py experiment=vit_proxy optimizer=program optimizer.path=found.txt optimizer.lr=1e-3
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from experiments.config import UserError
from experiments.pages import shipped
from experiments.search import library, liveness, stacking, types
from experiments.search.language import Program
from experiments.search.operations import ARRAY
from experiments.search.torch_rules import RULES, guard
from lion.checks import check_lr, check_number
from lion.stacked import StackedRule

Leaves = list[Any]
"""A value, for each weight tensor: a tensor of its shape, or the same scalar for all."""


class ProgramOptimizer(Optimizer):
    """Steps as a program says: w <- w - update, with the buffers that it needs and no others.

    Norms and inner products that the language calls global run over all parameters that have a
    gradient; `norm` is that of one parameter.

    Args:
        params: Parameters or groups.
        lr: What the program calls lr, >= 0; a schedule may change it.
        path: File with a program's text, or the name of one of the library (e.g. adamw).
        weight_decay: Decoupled decay besides the program's own: w <- w - lr weight_decay w.
        digest: First 12 digits of the file's SHA-256; another file is refused. `run.py` fills it
            in, so that a run's identity is that of the program, not of the file's name.

    Raises:
        UserError: no such file, or no valid program in it.
        ValueError: a setting is out of range, or the file is another.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        *,
        path: str,
        weight_decay: float = 0.0,
        digest: str | None = None,
    ) -> None:
        check_lr(lr)
        check_number("weight_decay", weight_decay)
        if not isinstance(path, str | Path) or not str(path):
            raise UserError(
                "optimizer.path: name a file with a program's text, or one of the library, "
                f"e.g. {', '.join(library.names()[:3])}"
            )
        if digest is not None and digest != file_digest(path):
            raise ValueError(f"{path} is not the file that it was (digest {digest})")
        self.program = liveness.prune(library.read_file(path))
        defaults = {"lr": lr, "weight_decay": weight_decay, "program": self.program.id}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, whose settings are checked like the defaults.

        Args:
            param_group: "params", and lr and weight_decay if they are others.

        Raises:
            ValueError: a setting is out of range.
        """
        if isinstance(param_group, dict):  # otherwise torch raises, with its own message
            check_lr(param_group.get("lr", self.defaults["lr"]))
            check_number("weight_decay", param_group.get("weight_decay", 0.0))
        super().add_param_group(param_group)

    def stacked_rule(self, settings: Mapping[str, Any]) -> StackedRule:
        """How it moves the weights of many models at once; see `lion.stacked`.

        Raises:
            NoStackedRule: the program is not elementwise.
        """
        return stacking.stacked_rule(self.program)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "program": self.program}  # type: ignore[misc]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads buffers that this program has written.

        Raises:
            ValueError: they are those of another program.
        """
        for group in state_dict["param_groups"]:
            if group.get("program") != self.program.id:
                raise ValueError(
                    f"the checkpoint is of program {group.get('program')}, and this is "
                    f"{self.program.id}: give optimizer.path the program it was trained with"
                )
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step.

        Args:
            closure: Evaluates the model again and returns the loss.

        Returns:
            What the closure returns; None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params, lrs, decays = [], [], []
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    params.append(param)
                    lrs.append(group["lr"])
                    decays.append(group["weight_decay"])
        if params:
            self._move(params, lrs, decays)
        return loss

    def _move(self, params: list[Tensor], lrs: Leaves, decays: list[float]) -> None:
        states = liveness.analyse(self.program).states
        for param in params:
            for name in states:
                if name not in self.state[param]:
                    self.state[param][name] = torch.zeros_like(param)
        gradients = [p.grad for p in params]
        if any(g.is_sparse or g.is_complex() for g in gradients if g is not None):
            raise ValueError("programs have rules for dense real gradients only")
        inputs: dict[str, Leaves] = {"w": list(params), "g": gradients, "lr": lrs}
        for name in ("m", "v"):  # a buffer that does not matter is always read as zeros, or never
            inputs[name] = [self.state[p].get(name, 0.0) for p in params]
        with np.errstate(all="ignore"):  # of numbers; the loss shows what is not finite
            values = run(self.program, inputs)
        for i, (param, lr, decay) in enumerate(zip(params, lrs, decays, strict=True)):
            if decay:
                param.mul_(1 - lr * decay)
            param.sub_(values["update"][i])
            for name in states:
                self.state[param][name].copy_(values[name][i])


def run(program: Program, inputs: dict[str, Leaves]) -> dict[str, Leaves]:
    """All values of one step over several weight tensors, each of a shape of its own.

    Args:
        program: A program of valid types.
        inputs: w, g, m, v, lr, for each tensor.

    Returns:
        The variables at the end of the step.
    """
    values = dict(inputs)
    kinds = types.INPUT_KINDS.copy()
    count = range(len(inputs["w"]))
    for statement in program.statements:
        target, function, arguments = statement
        read = [values[a] if isinstance(a, str) else [a for _ in count] for a in arguments]
        is_array = any(isinstance(a, str) and kinds[a] is ARRAY for a in arguments[:1])
        rule = _OF_ALL.get(function) if is_array else None
        if rule is not None:
            values[target] = rule(*read)
        elif function == "norm":
            values[target] = [_norm(x) for x in read[0]]
        elif not arguments:
            values[target] = [RULES[function]() for _ in count]
        else:
            values[target] = [RULES[function](*leaf) for leaf in zip(*read, strict=True)]
        kinds[target] = types.result_kind(statement, kinds)
    return values


def file_digest(path: str | Path) -> str:
    """First 12 hexadecimal digits of a file's SHA-256; "" if there is no such file."""
    path = Path(shipped(str(path)))
    return sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""


def _norm(x: Any) -> Any:
    if not isinstance(x, Tensor) or not x.ndim:  # a scalar
        return abs(x)
    return torch.linalg.vector_norm(_wide(x)).to(x.dtype).expand_as(x)


def _wide(x: Tensor) -> Tensor:
    """At least float32: in float16 the square of a norm above 256 is infinite."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _dot(x: Leaves, y: Leaves) -> Leaves:
    parts = [(_wide(a) * _wide(b)).sum() for a, b in zip(x, y, strict=True)]
    total = torch.stack([part.to(parts[0].device) for part in parts]).sum()
    return [total.to(part.device) for part in parts]


def _global_norm(x: Leaves) -> Leaves:
    return [square.sqrt() for square in _dot(x, x)]


def _cosine_sim(x: Leaves, y: Leaves) -> Leaves:
    norms = zip(_dot(x, y), _global_norm(x), _global_norm(y), strict=True)
    return [dot / guard(a * b) for dot, a, b in norms]


def _clip(x: Leaves, limits: Leaves) -> Leaves:
    shares = zip(limits, _global_norm(x), x, strict=True)
    return [(limit / guard(norm)).clamp_max(1.0) * leaf for limit, norm, leaf in shares]


_OF_ALL: dict[str, Callable[..., Leaves]] = {
    "dot": _dot,
    "global_norm": _global_norm,
    "cosine_sim": _cosine_sim,
    "clip_by_global_norm": _clip,
}
"""Functions of all weight tensors together."""
