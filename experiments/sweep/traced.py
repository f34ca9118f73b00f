"""A function of tensors as a flat list of operations, which costs no more than these.

What depends only on tensors that stay where they are is done once for all calls; the rest is what
`graph_rewriting` leaves of it.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from experiments.sweep import graph_memory, graph_rewriting
from experiments.sweep.graph_nodes import is_view


class FollowsData(Exception):
    """What a function does depends on the numbers it gets: its trace does not serve the next."""


class _NoReading(TorchFunctionMode):
    """Refuses what makes plain numbers of a tensor, which would stand in the trace."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in (Tensor.tolist, Tensor.numpy, Tensor.__array__):
            raise FollowsData(f"the numbers of a tensor are read ({func.__name__})")
        return func(*args, **(kwargs or {}))


TOLERANCE = 1e-3
"""Relative, of a rewritten step's results to those of the step itself; rounding stays far below."""


class Traced:
    """A function, traced at its first arguments; called with others of the same shapes.

    Args:
        function: From tensors to a list of tensors, the same for the same tensors but for rounding.
        arguments: The first ones.
        num_constant: So many at the beginning are never written into.
        num_lasting: So many at the beginning, these included, are the same objects at most calls;
            what is written into them counts, and another object is noticed.
        compile: Whether to fuse the operations instead (10 to 40 s).

    Raises:
        FollowsData: names the operation.
    """

    def __init__(
        self,
        function: Callable[..., list[Tensor]],
        arguments: Sequence[Tensor],
        num_constant: int = 0,
        num_lasting: int = 0,
        compile: bool = False,
    ) -> None:
        self._strides = [one.stride() for one in arguments]
        self._num_lasting = num_lasting
        self._lasting: Sequence[Tensor] = ()
        self._done: Sequence[Tensor] = ()
        traced = _trace(function, arguments)
        traced.graph.eliminate_dead_code()
        if compile:
            traced.recompile()
            self._first: Callable[..., Any] = lambda *_: ()
            self._rest: Callable[..., Any] = torch.compile(traced, dynamic=False)
            return
        wanted = traced(*arguments)
        if graph_rewriting.rewrite(traced, arguments):
            self._first, self._rest = _split(traced, num_constant, num_lasting, arguments)
            if _are_alike(self(*arguments), wanted):
                return
            warnings.warn("a rewritten step gives other numbers, and is not used", stacklevel=2)
            traced = make_fx(function)(*arguments)
        self._first, self._rest = _split(traced, 0, 0)

    def __call__(self, *arguments: Tensor) -> list[Tensor]:
        """What the function returns."""
        if [one.stride() for one in arguments] != self._strides:  # what was dropped relied on them
            arguments = tuple(map(_with_strides, arguments, self._strides))
        lasting = arguments[: self._num_lasting]
        if len(lasting) != len(self._lasting) or any(map(operator.is_not, lasting, self._lasting)):
            self._lasting = lasting
            self._done = self._first(*arguments)
        return self._rest(*self._done, *arguments)


def _trace(function: Callable[..., list[Tensor]], arguments: Sequence[Tensor]) -> fx.GraphModule:
    try:
        with _NoReading():
            traced = make_fx(function)(*arguments)
    except RuntimeError as error:
        if "_local_scalar_dense" not in str(error):
            raise
        raise FollowsData("the number of a tensor is read (item, bool, int or float)") from error
    for node in traced.graph.nodes:
        if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
            continue
        places = node.args[1] if node.target is torch.ops.aten.index.Tensor else None
        if places is None or any(one is not None and _is_mask(one) for one in places):
            raise FollowsData(f"the shape of {node.target} follows its data")
    return traced


def _is_mask(node: fx.Node) -> bool:
    return node.meta["val"].dtype in (torch.bool, torch.uint8)


def _are_alike(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Whether results differ by no more than rounding; what is not finite does not count."""
    pairs = []
    for one, other in zip(ours, theirs, strict=True):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        finite = other.isfinite()
        pairs.append((one[finite].double(), other[finite].double()))
    # A gradient that is 0 but for rounding is measured by the largest of all results.
    largest = max((other.norm() for _, other in pairs), default=torch.zeros(()))
    return all((a - b).norm() <= TOLERANCE * (b.norm() + TOLERANCE * largest) for a, b in pairs)


def _with_strides(tensor: Tensor, strides: tuple[int, ...]) -> Tensor:
    if tensor.stride() == strides:
        return tensor
    return torch.empty_strided(
        tensor.shape, strides, dtype=tensor.dtype, device=tensor.device
    ).copy_(tensor)


def _split(
    traced: fx.GraphModule,
    num_constant: int,
    num_lasting: int,
    arguments: Sequence[Tensor] | None = None,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What can be done once, and the rest, which gets the results of the first in front.

    At arguments like these, the rest writes over what it does not need any more.
    """
    nodes = list(traced.graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder"]
    constant, lasting = set(inputs[:num_constant]), set(inputs[:num_lasting])
    for node in nodes if num_lasting else ():
        needs = set(node.all_input_nodes)
        if node.op in ("get_attr", "call_function"):
            if needs <= constant:
                constant.add(node)
            if needs <= constant | lasting and (node in constant or is_view(node)):
                lasting.add(node)
    done = lasting - set(inputs)
    handed = [n for n in nodes if n in done and any(user not in done for user in n.users)]

    first, own = fx.Graph(), {}
    for node in nodes:
        if node in done or node in inputs:
            own[node] = first.node_copy(node, own.__getitem__)
    first.output([own[node] for node in handed])

    rest = fx.Graph()
    own = {node: rest.placeholder(f"done_{number}") for number, node in enumerate(handed)}
    for node in nodes:
        if node not in done:
            own[node] = rest.node_copy(node, own.__getitem__)
    # The functions themselves: calling a module costs as much as ten of its operations.
    at_first, at_every = (fx.GraphModule(traced, graph) for graph in (first, rest))
    if arguments is not None:
        graph_memory.reuse(at_every, [*at_first(*arguments), *arguments])
    return at_first.forward, at_every.forward
