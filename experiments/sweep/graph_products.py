"""Rewrites around matrix products: patches, scales, and products that are added to.

What changes is rounding alone: sums are taken in another order, or a factor at another place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from experiments.sweep.graph_nodes import (
    VIEWS,
    Found,
    Given,
    aten,
    do,
    first,
    in_order,
    is_in_order,
)

_LAYOUTS = (*VIEWS, aten.transpose.int, aten.permute.default)
_FLOATS = (torch.float32, torch.float64)


def multiply_patches(graph: fx.Graph, found: Found) -> None:
    """Convolutions of patches that do not overlap, and their gradients, as matrix products.

    Args:
        graph: Without operations that draw or write. It is rewritten in place; what is not needed
            any more stays.
        found: What its operations give.
    """
    for node in list(graph.nodes):
        if node.target is aten.convolution.default:
            _multiply_patches(graph, found, node)
        elif node.target is aten.convolution_backward.default:
            _multiply_gradients(graph, found, node)


def move_factors(graph: fx.Graph, found: dict[fx.Node, Given]) -> None:
    """Multiplies by plain numbers where there are fewest to multiply; adds in the same pass.

    Args:
        graph: As for `multiply_patches`.
        found: What its operations give; what new ones give is added.
    """
    for node in list(graph.nodes):
        if node.target is aten.bmm.default:
            _scale_later(graph, found, node)
    for node in reversed(list(graph.nodes)):
        if _factor(node) is not None and node.users:
            _scale_less(graph, found, node)
    for node in list(graph.nodes):
        if node.target is aten.add.Tensor:
            _multiply_and_add(graph, found, node)


class _Patches:
    """A convolution of patches that do not overlap: a matrix product for each group.

    That is how a ViT embeds its patches, and how `vmap` sees it: models are groups.
    """

    def __init__(self, found: Found, x: Any, kernel: Any, settings: Sequence[Any]) -> None:
        stride, padding, _, is_transposed, _, self.groups = settings  # dilated ones give fewer
        self.x, self.kernel = x, kernel
        size, spatial = found[kernel].shape, found[x].shape[2:]
        self.side, self.is_one = list(size[2:]), False
        if len(self.side) != 2 or is_transposed or any(padding) or list(stride) != self.side:
            return
        self.counts = [whole // part for whole, part in zip(spatial, self.side, strict=True)]
        self.is_one = (
            [n * part for n, part in zip(self.counts, self.side, strict=True)] == list(spatial)
            and found[x].is_cpu
            and found[x].dtype in _FLOATS
        )
        self.batch, self.num_in = found[x].shape[0], size[1]
        self.num_out = size[0] // self.groups
        self.rows, self.depth = self.batch * math.prod(self.counts), math.prod(size[1:])
        self.shape = [self.batch, self.groups, self.num_out, *self.counts]  # of the result

    def columns(self, graph: fx.Graph) -> fx.Node:
        """(groups, patches, numbers of a patch)."""
        (rows, columns), (height, width) = self.counts, self.side
        split = [self.batch, self.groups, self.num_in, rows, height, columns, width]
        parts = do(graph, aten.view.default, in_order(graph, self.x), split)
        turned = do(graph, aten.permute.default, parts, [1, 0, 3, 5, 2, 4, 6])
        return do(
            graph, aten.view.default, in_order(graph, turned), [self.groups, self.rows, self.depth]
        )


def _multiply_patches(graph: fx.Graph, found: Found, node: fx.Node) -> None:
    x, kernel, bias, *settings = node.args
    patches = _Patches(found, x, kernel, settings)
    if not patches.is_one or bias is not None:
        return
    wanted = torch.Size(patches.shape)
    if not all(user.target in VIEWS and found[user].shape == wanted for user in node.users):
        return  # who needs all groups side by side would have to copy them there
    with graph.inserting_before(node):
        flat = [patches.groups, patches.num_out, patches.depth]
        weights = do(graph, aten.view.default, in_order(graph, kernel), flat)
        across = do(graph, aten.transpose.int, weights, 1, 2)
        product = do(graph, aten.bmm.default, patches.columns(graph), across)
        apart = [patches.groups, patches.batch, *patches.counts, patches.num_out]
        result = do(graph, aten.view.default, product, apart)
        result = do(graph, aten.permute.default, result, [1, 0, 4, 2, 3])
    for user in list(node.users):
        user.replace_all_uses_with(result)


def _multiply_gradients(graph: fx.Graph, found: Found, node: fx.Node) -> None:
    """Of the kernel of patches."""
    gradient, x, kernel, _, *settings, wanted = node.args
    patches = _Patches(found, x, kernel, settings)
    if not patches.is_one or list(wanted) != [False, True, False]:  # type: ignore[call-overload]
        return
    source: Any = gradient  # views and copies keep the order of the numbers
    while found[source].shape != torch.Size(patches.shape):
        if source.target not in VIEWS and not is_in_order(source):
            return
        source = source.args[0]
    with graph.inserting_before(node):
        apart = do(graph, aten.permute.default, source, [1, 0, 3, 4, 2])
        flat = [patches.groups, patches.rows, patches.num_out]
        rows = do(graph, aten.view.default, in_order(graph, apart), flat)
        across = do(graph, aten.transpose.int, rows, 1, 2)
        product = do(graph, aten.bmm.default, across, patches.columns(graph))
        result = do(graph, aten.view.default, product, list(found[kernel].shape))  # type: ignore
    for user in list(node.users):
        if user.args[1] == 1:
            user.replace_all_uses_with(result)


def _scale_later(graph: fx.Graph, found: dict[fx.Node, Given], node: fx.Node) -> None:
    """Takes the factor of an operand out of a product: s a b = s (a b).

    That pays where the product has fewer numbers than the operand, or is scaled all the same.
    """
    for place in (0, 1):
        scaled, chain = _scaled(found, node.args[place])
        if scaled is None or found[node].dtype not in _FLOATS:
            continue
        if found[node].shape.numel() >= found[scaled].shape.numel() and not _is_scaled(node):
            continue
        with graph.inserting_before(node):
            operand: Any = scaled.args[0]
            for link in chain:
                operand = _again(graph, found, link, operand)
            operands = [operand if at == place else node.args[at] for at in (0, 1)]
            product = do(graph, aten.bmm.default, *operands)
            result = do(graph, aten.mul.Scalar, product, _factor(scaled))
        found[product] = found[result] = found[node]
        node.replace_all_uses_with(result)
        node = product


def _scaled(found: Found, operand: Any) -> tuple[fx.Node | None, list[fx.Node]]:
    """The operand before it was only laid out, if that is a multiple, and how it was laid out."""
    chain: list[fx.Node] = []
    while operand.target in _LAYOUTS or is_in_order(operand):
        chain.insert(0, operand)
        operand = operand.args[0]
    source = first(operand)
    if _factor(operand) is None or source is None or source not in found:
        return None, []
    # A multiple of what has gaps has none; a view of it may be none of its source.
    has_gaps = not found[source].is_contiguous and bool(chain) and not is_in_order(chain[0])
    is_same = found[source].dtype == found[operand].dtype
    return (operand, chain) if is_same and not has_gaps else (None, [])


def _is_scaled(product: fx.Node) -> bool:
    """Whether a product is used to be multiplied, and for nothing else."""
    while len(product.users) == 1:
        (product,) = product.users
        if _factor(product) is not None:
            return True
        if product.target not in _LAYOUTS:
            return False
    return False


def _scale_less(graph: fx.Graph, found: dict[fx.Node, Given], node: fx.Node) -> None:
    """Takes all factors of a product at once, and before it where an operand has fewer numbers."""
    factor, count, chain = 1.0, 0, []
    source: Any = node
    while source is node or (len(source.users) == 1 and source in found):
        if (one := _factor(source)) is not None:
            factor, count = factor * one, count + 1
        elif source.target in _LAYOUTS:
            chain.insert(0, source)
        else:
            break
        source = source.args[0]
    is_product = source.target is aten.bmm.default and len(source.users) == 1
    if not is_product or found[node].dtype not in _FLOATS:
        return
    sizes = [found[one].shape.numel() for one in source.args]
    place = sizes.index(min(sizes))
    is_less = sizes[place] < found[source].shape.numel()
    if not is_less and count == 1:
        return
    with graph.inserting_before(node):
        if is_less:
            scaled = do(graph, aten.mul.Scalar, source.args[place], factor)
            found[scaled] = found[source.args[place]]
            operands = [scaled if at == place else source.args[at] for at in (0, 1)]
            result = do(graph, aten.bmm.default, *operands)
        else:
            result = do(graph, aten.mul.Scalar, source, factor)
        found[result] = found[source]
        for link in chain:
            result = _again(graph, found, link, result)
    node.replace_all_uses_with(result)


def _factor(node: fx.Node) -> float | None:
    """Of a multiplication by a plain number."""
    is_one = node.target in (aten.mul.Scalar, aten.mul.Tensor) and not node.kwargs
    factor = node.args[1] if is_one else None
    return factor if isinstance(factor, int | float) else None


def _again(graph: fx.Graph, found: dict[fx.Node, Given], link: fx.Node, of: fx.Node) -> fx.Node:
    """The same operation on another tensor of that shape."""
    made = graph.create_node("call_function", link.target, (of, *link.args[1:]), link.kwargs)  # type: ignore
    found[made] = found[link]
    return made


def _multiply_and_add(graph: fx.Graph, found: Found, node: fx.Node) -> None:
    """x w + b in one pass."""
    for product, other in (node.args, node.args[::-1]):
        if not isinstance(product, fx.Node) or not isinstance(other, fx.Node) or node.kwargs:
            continue
        if product.target is not aten.mul.Tensor or len(product.users) > 1 or product.kwargs:
            continue
        kinds = {found.get(one) and found[one].dtype for one in (*product.args, other, node)}  # type: ignore
        if found[product].shape == found[node].shape and len(kinds) == 1 and kinds <= {*_FLOATS}:
            with graph.inserting_before(node):
                node.replace_all_uses_with(do(graph, aten.addcmul.default, other, *product.args))
            return
