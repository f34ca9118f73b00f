"""Optimizers that remember something in an attribute: SGD whose steps grow shorter."""

from __future__ import annotations

from typing import Any

import torch


class Counting(torch.optim.Optimizer):
    """Divides the k-th step by k; `how` says where k stands."""

    def __init__(
        self, params: Any, lr: float = 0.1, weight_decay: float = 0.0, how: str = "number"
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._how = how
        self.count: Any = {"tensor": torch.zeros(()), "list": [0]}.get(how, 0)
        self._table: torch.Tensor | None = None
        self._is_told = False

    def _next(self) -> int:
        if self._how == "tensor":
            self.count += 1  # in place
        elif self._how == "list":
            self.count[0] += 1
        elif self._how == "state":  # beside those of the parameters
            self.state["count"] = self.state.get("count", 0) + 1  # type: ignore[index]
            return self.state["count"]  # type: ignore[index,return-value]
        elif self._how == "groups":
            group = self.param_groups[0]
            group["count"] = group.get("count", 0) + 1
            return group["count"]
        else:
            self.count = self.count + 1
        return int(self.count[0] if self._how == "list" else self.count)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        number = self._next()
        self._is_told = True
        if self._table is None:
            self._table = torch.arange(3)
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.sub_(param.grad, alpha=group["lr"] / number)

    def state_dict(self) -> dict[str, Any]:
        found = super().state_dict()
        return {**found, "count": self.count} if self._how == "state_dict" else found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._how == "state_dict":
            self.count = state_dict["count"]
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "count"})


class Wrapping(torch.optim.Optimizer):
    """Hands its steps to an optimizer within, whose state nobody saves unless it is `shared`."""

    def __init__(
        self, params: Any, lr: float = 0.1, weight_decay: float = 0.0, shared: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.inner = torch.optim.AdamW(self.param_groups, lr=lr)
        self.weights = [param for group in self.param_groups for param in group["params"]]
        if shared:
            self.param_groups, self.state = self.inner.param_groups, self.inner.state

    def step(self, closure: Any = None) -> Any:
        return self.inner.step(closure)
