"""Makes a traced step cheaper without changing what it computes, but for rounding.

For a small model, most of what `torch.func` leaves behind is bookkeeping: more than half of the
operations of a step give back the tensor that they were given, and each takes as long as a small
kernel. The rest of the time goes into passes over memory; some of them can be had for less.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from experiments.sweep import graph_products
from experiments.sweep.graph_nodes import (
    VIEWS,
    Found,
    Given,
    aten,
    do,
    first,
    in_order,
    is_in_order,
    is_view,
    look,
)

_IDENTITIES = (aten.alias.default, aten.detach.default)
_NORMS = (aten.native_layer_norm.default, aten.native_layer_norm_backward.default)
_LANES = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
"""Numbers in a vector of the CPU."""


def rewrite(traced: fx.GraphModule, arguments: Sequence[Tensor]) -> bool:
    """Rewrites the graph in place, for arguments of these shapes, dtypes and strides.

    Args:
        traced: Of `make_fx`.
        arguments: It is run five times at these.

    Returns:
        False if nothing was done, because it draws or writes: then equal operations may differ.
    """
    graph = traced.graph
    if not all(map(_is_repeatable, graph.nodes)):
        return False
    _tidy(graph, look(traced, arguments))
    graph_products.multiply_patches(graph, look(traced, arguments))
    graph_products.move_factors(graph, look(traced, arguments))
    found = look(traced, arguments)
    _tidy(graph, found)
    _lay_out_once(graph, found)
    _stack_in_order(graph)
    _turn_softmax(graph, found)
    _keep_normalised(graph)
    _tidy(graph, look(traced, arguments))
    traced.recompile()
    return True


def _is_repeatable(node: fx.Node) -> bool:
    """Whether it gives the same for the same, and changes nothing."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return True
    is_random = torch.Tag.nondeterministic_seeded in node.target.tags
    return not is_random and not node.target._schema.is_mutable


def _tidy(graph: fx.Graph, found: Found) -> None:
    """Drops what is not needed, gives back what it is given, or was done before."""
    known: dict[Hashable, fx.Node] = {}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        _skip_a_view(node)
        same = _what_it_is_given(node, found) or known.setdefault(_key(node), node)
        if same is not node:
            node.replace_all_uses_with(same)
    graph.eliminate_dead_code()


def _skip_a_view(node: fx.Node) -> None:
    """A view of a view is one of the source."""
    given = first(node)
    if node.target in VIEWS and given is not None and given.target in VIEWS:
        node.update_arg(0, given.args[0])


def _what_it_is_given(node: fx.Node, found: Found) -> fx.Node | None:
    """Of an operation without effect, where the same is to be had."""
    given = first(node)
    if given is None or given not in found or node not in found:
        return None
    before, after, more = found[given], found[node], node.args[1:]
    if node.target is aten.transpose.int:
        return first(given) if _swaps(node, after) == _swaps(given, after) else None
    if node.target is aten.permute.default:
        is_same = list(more[0]) == list(range(len(before.shape)))  # type: ignore[call-overload]
    elif node.target is aten.mul.Scalar:
        is_same = more[0] == 1 and before.dtype == after.dtype
    elif node.target is aten.clone.default:
        is_same = before.is_contiguous and after.is_contiguous
    elif node.target in (*VIEWS, aten.expand.default):
        is_same = before.shape == after.shape
    else:
        is_same = node.target in _IDENTITIES
    return given if is_same else None


def _swaps(node: fx.Node, given: Given) -> set[int] | None:
    """The dimensions that a transposition exchanges; None for any other operation."""
    dims: Any = node.args[1:]
    is_one = node.target is aten.transpose.int
    return {dim % len(given.shape) for dim in dims} if is_one else None


def _key(node: fx.Node) -> Hashable:
    """Equal for operations that give the same. 1, 1.0 and True are not the same."""

    def plain(value: Any) -> Hashable:
        if isinstance(value, list | tuple):
            return type(value), tuple(map(plain, value))
        return value if isinstance(value, fx.Node) else (type(value), repr(value))

    return node.target, plain(node.args), plain(sorted(node.kwargs.items()))


def _lay_out_once(graph: fx.Graph, found: Found) -> None:
    """Copies into order once what several operations would each copy for themselves.

    Such is, in a ViT, the sum of patches and positions, and with it every sum that follows.
    """
    for node in list(graph.nodes):
        if node not in found or found[node].is_contiguous or is_view(node):
            continue
        if sum(user.target in (*_NORMS, aten.clone.default) for user in node.users) > 1:
            with graph.inserting_after(node):
                ordered = in_order(graph, node)
            node.replace_all_uses_with(ordered, lambda user, own=ordered: user is not own)


def _stack_in_order(graph: fx.Graph) -> None:
    """Stacks at once in the order into which a copy of the stack would bring it."""
    for node in list(graph.nodes):
        turned = first(node)
        permuted = None if turned is None else _permuted_stack(turned)
        if permuted is None or not is_in_order(node):
            continue
        parts, dim, order = permuted
        within = [axis - (axis > dim) for axis in order if axis != dim]
        with graph.inserting_before(node):
            pieces = [do(graph, aten.permute.default, part, within) for part in parts]
            stack = do(graph, aten.stack.default, pieces, order.index(dim))
            node.replace_all_uses_with(in_order(graph, stack))


def _permuted_stack(turned: fx.Node) -> tuple[Sequence[Any], int, list[int]] | None:
    """Of a permuted stack: the parts, the dimension of the stack, the order of dimensions."""
    stack = first(turned)
    if stack is None or stack.target is not aten.stack.default:
        return None
    if turned.target is not aten.permute.default:
        return None
    parts, *dim = stack.args
    order: Any = turned.args[1]
    count = len(order)
    return parts, (dim or [0])[0] % count, [axis % count for axis in order]  # type: ignore


def _keep_normalised(graph: fx.Graph) -> None:
    """Takes what a layer norm has given for what its backward pass works out again from its input.

    That is (x - mean) / deviation, where the norm has no weights of its own (`vmap` puts them
    behind it).
    """
    for node in list(graph.nodes):
        centred, scale = (*node.args, None, None)[:2]
        norm = _source(scale, 2)
        if node.target is not aten.mul.Tensor or norm is None or not isinstance(centred, fx.Node):
            continue
        x, mean = (*centred.args, None, None)[:2]
        is_centred = centred.target is aten.sub.Tensor and not centred.kwargs
        is_its = x is norm.args[0] and _source(mean, 1) is norm
        if is_centred and is_its and norm.args[2:4] == (None, None):
            with graph.inserting_after(norm):
                node.replace_all_uses_with(do(graph, operator.getitem, norm, 0))


def _source(item: Any, place: int) -> fx.Node | None:
    """The layer norm that this is a result of, the one at a place."""
    if not isinstance(item, fx.Node) or item.target is not operator.getitem:
        return None
    norm = item.args[0]
    is_one = isinstance(norm, fx.Node) and norm.target is _NORMS[0] and item.args[1] == place
    return norm if is_one else None  # type: ignore[return-value]


def _turn_softmax(graph: fx.Graph, found: Found) -> None:
    """Takes a softmax over fewer numbers than a vector holds across rows, in vectors of rows.

    For attention over 8 tokens it then costs a quarter. As before, a row of minus infinity gives 0.
    """
    softmax, backward = aten._softmax.default, aten._softmax_backward_data.default
    safe = aten._safe_softmax.default
    for node in [n for n in graph.nodes if n.target in (softmax, safe, backward)]:
        num_tensors = 2 if node.target is backward else 1
        given, (dim, *more) = node.args[:num_tensors], node.args[num_tensors:]
        shape, dtype, _, is_cpu = found[node]
        is_last = len(shape) > 1 and dim in (-1, len(shape) - 1)
        if (
            not is_cpu
            or not is_last
            or shape[-1] >= _LANES
            or node.kwargs
            or more not in ([], [False], [dtype])
        ):
            continue
        with graph.inserting_before(node):
            flat = [
                do(graph, aten.view.default, in_order(graph, one), [-1, shape[-1]]) for one in given
            ]
            columns = [_turned(graph, one) for one in flat]
            if node.target is backward:
                result = do(graph, backward, *columns, 0, dtype)
            else:
                result = do(graph, softmax, *columns, 0, False)
            if node.target is safe:
                largest = do(graph, aten.amax.default, columns[0], [0], True)
                is_empty = do(graph, aten.eq.Scalar, largest, float("-inf"))
                result = do(graph, aten.masked_fill.Scalar, result, is_empty, 0.0)
            rows = _turned(graph, result)
            node.replace_all_uses_with(do(graph, aten.view.default, rows, list(shape)))


def _turned(graph: fx.Graph, node: fx.Node) -> fx.Node:
    return in_order(graph, do(graph, aten.transpose.int, node, 0, 1))
