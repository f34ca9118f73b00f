"""Writes results over tensors that nothing needs any more: memory that a cache still holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx

from experiments.sweep.graph_nodes import aten

_IN_PLACE = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.mul.Scalar: aten.mul_.Scalar,
    aten.masked_fill.Scalar: aten.masked_fill_.Scalar,
    aten.neg.default: aten.neg_.default,
}
_SWAPPED = (aten.add.Tensor, aten.mul.Tensor)
"""Either operand may be written over."""


def reuse(traced: fx.GraphModule, arguments: Sequence[Tensor]) -> None:
    """Makes operations write over an operand, in place.

    Args:
        traced: Without operations that draw or write. Its arguments are never written over.
        arguments: It is run once at these.
    """
    memory = _Memory(traced)
    memory.run(*arguments)
    for node in list(traced.graph.nodes):
        operation = _IN_PLACE.get(node.target)
        if operation is None or node.kwargs:
            continue
        for place in (0, 1) if node.target in _SWAPPED else (0,):
            operand = node.args[place]
            if isinstance(operand, fx.Node) and memory.is_free(operand, node):
                node.target = operation
                if place:
                    node.args = node.args[::-1]
                break
    traced.recompile()


class _Memory(fx.Interpreter):
    """Which operations give the same memory, and until when it is needed."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self._place = {node: number for number, node in enumerate(traced.graph.nodes)}
        self._owner: dict[fx.Node, fx.Node] = {}
        self._shown_by: dict[fx.Node, list[fx.Node]] = {}
        self._kind: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "output":
            return super().run_node(n)
        before = {one: _addresses(self.env[one]) for one in n.all_input_nodes}
        x = super().run_node(n)
        own = _addresses(x)
        source = next((one for one, addresses in before.items() if addresses & own), None)
        self._owner[n] = n if source is None else self._owner[source]
        self._shown_by.setdefault(self._owner[n], []).append(n)
        if isinstance(x, Tensor) and x.is_contiguous():
            self._kind[n] = x.shape, x.dtype
        return x

    def is_free(self, operand: fx.Node, node: fx.Node) -> bool:
        """Whether an operation may write its result over an operand."""
        kind, owner = self._kind.get(operand), self._owner[operand]
        if kind is None or kind != self._kind.get(node) or owner.op != "call_function":
            return False
        others = [one for one in node.all_input_nodes if one is not operand]
        if any(self._owner[one] is owner for one in others):
            return False
        now = self._place[node]
        users = [user for shown in self._shown_by[owner] for user in shown.users]
        return all(self._place[user] <= now for user in users)


def _addresses(value: Any) -> set[int]:
    """Of the memory of a tensor, or of several."""
    tensors = (
        [value] if isinstance(value, Tensor) else value if isinstance(value, tuple | list) else []
    )
    found = {one.untyped_storage().data_ptr() for one in tensors if isinstance(one, Tensor)}
    return found - {0}
