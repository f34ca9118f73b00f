"""What a traced graph is made of, and what was seen when it ran; for those who rewrite it."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

aten = torch.ops.aten
VIEWS = (aten.view.default, aten._unsafe_view.default)


class Given(NamedTuple):
    """What an operation gives."""

    shape: torch.Size
    dtype: torch.dtype
    is_contiguous: bool
    is_cpu: bool


Found = Mapping[fx.Node, Given]


def look(traced: fx.GraphModule, arguments: Sequence[Tensor]) -> dict[fx.Node, Given]:
    """Runs it; what each operation gives that gives one tensor."""
    found: dict[fx.Node, Given] = {}

    class Looker(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            x = super().run_node(n)
            if isinstance(x, Tensor):
                found[n] = Given(x.shape, x.dtype, x.is_contiguous(), x.is_cpu)
            return x

    Looker(traced).run(*arguments)
    return found


def is_view(node: fx.Node) -> bool:
    """Whether it shows the memory of what it is given."""
    if node.target is operator.getitem:
        return isinstance(node.args[0], fx.Node) and is_view(node.args[0])
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return all(one.alias_info is not None for one in node.target._schema.returns)


def do(graph: fx.Graph, operation: Any, *arguments: Any) -> fx.Node:
    """A new operation, where the graph is being added to."""
    return graph.call_function(operation, arguments)


def in_order(graph: fx.Graph, node: Any) -> fx.Node:
    """A contiguous copy."""
    return graph.create_node(
        "call_function", aten.clone.default, (node,), {"memory_format": torch.contiguous_format}
    )


def is_in_order(node: fx.Node) -> bool:
    """Whether it is a copy in order."""
    is_copy = node.target is aten.clone.default
    return is_copy and node.kwargs.get("memory_format") is torch.contiguous_format


def first(node: fx.Node) -> fx.Node | None:
    """The tensor that an operation begins with."""
    given = node.args[0] if node.args else None
    return given if isinstance(given, fx.Node) else None
