"""A traced step computes what was traced, whatever was dropped, merged or done beforehand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.sweep import graph_rewriting
from experiments.sweep.traced import Traced

pytestmark = pytest.mark.filterwarnings("error:a rewritten step")


@pytest.fixture(autouse=True)
def as_in_a_stack() -> Iterator[None]:
    """Where autograd first runs in a trace, it forbids itself to processes that are forked then."""
    torch.ones(1, requires_grad=True).sum().backward()
    with torch.no_grad():
        yield


def operations(traced: Traced) -> list[str]:
    graph = traced._rest.__self__.graph  # type: ignore[attr-defined]
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


class Attention(nn.Module):
    """Of few tokens, in the layout that patches of images have."""

    def __init__(self, num_tokens: int = 6) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(num_tokens, 8))
        self.norm, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:  # (B, 8, tokens)
        x = x.transpose(1, 2) + self.position
        for _ in range(2):
            qkv = self.qkv(self.norm(x)).reshape(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            seen = nn.functional.scaled_dot_product_attention(q, k, v)
            x = x + self.out(self.norm2(seen.transpose(1, 2).reshape(x.shape)))
        return x.mean(1)


def gradients(model: nn.Module) -> Callable[..., list[Tensor]]:
    """Of three models at once, as a stack has them, and their losses."""
    names = [name for name, _ in model.named_parameters()]

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(model, weights, (x,)), y)

    def step(*arguments: Tensor) -> list[Tensor]:
        *weights, x, y = arguments
        with sdpa_kernel(SDPBackend.MATH):
            over = vmap(grad_and_value(loss))
            grads, losses = over(dict(zip(names, weights, strict=True)), x, y)
        return [*grads.values(), losses]

    return step


def arguments_of(model: nn.Module, *shape: int) -> list[Tensor]:
    weights = [torch.randn(3, *p.shape, dtype=p.dtype) / 4 for p in model.parameters()]
    x = torch.randn(3, 5, *shape, dtype=weights[0].dtype)
    return [*weights, x, torch.randint(8, (3, 5))]


def test_an_mlp_keeps_every_bit_with_half_of_the_operations() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.GELU(), nn.Linear(16, 8))
    given, step = arguments_of(model, 3, 4), gradients(model)
    plain = make_fx(step)(*given)
    traced = Traced(step, given, 0, len(given) - 2)
    for _ in range(2):
        assert all(map(torch.equal, traced(*given), plain(*given)))
        given[-2:] = arguments_of(model, 3, 4)[-2:]
    before = [n for n in plain.graph.nodes if n.op == "call_function"]
    assert len(operations(traced)) < len(before) / 2


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_attention_over_few_tokens_is_that_of_torch(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    model = Attention().to(dtype)
    given, step = arguments_of(model, 8, 6), gradients(model)
    traced = Traced(step, given, 0, len(given) - 2)
    found = operations(traced)
    assert "aten._safe_softmax.default" not in found and "aten.amax.default" in found
    for ours, theirs in zip(traced(*given), step(*given), strict=True):
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


class Patches(nn.Module):
    """A convolution on images of 8 x 12 pixels, and what a ViT makes of it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.embed = nn.Conv2d(2, 6, (4, 3), **settings)
        self.head = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.embed(x).flatten(2).transpose(1, 2) * 2).exp().mean(1))


@pytest.mark.parametrize(
    "settings, is_product",
    [
        ({"stride": (4, 3)}, True),
        ({"stride": (4, 3), "bias": False}, True),
        ({"stride": (4, 3), "groups": 2}, False),
        ({"stride": (2, 3)}, False),
        ({"stride": (4, 3), "padding": (0, 1)}, False),
        ({"stride": (4, 3), "dilation": (2, 1)}, False),
    ],
)
@pytest.mark.parametrize("size", [(8, 12), (9, 12)])
def test_patches_that_do_not_overlap_are_multiplied(
    settings: dict[str, Any], is_product: bool, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    model = Patches(**settings).double()
    given, step = arguments_of(model, 2, *size), gradients(model)
    traced = Traced(step, given, 0, len(given) - 2)
    has_convolution = "aten.convolution.default" in operations(traced)
    assert has_convolution is not (is_product and size == (8, 12))
    for ours, theirs in zip(traced(*given), step(*given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_an_image_that_all_models_share_is_multiplied_or_convolved() -> None:
    torch.manual_seed(0)
    model = Patches(stride=(4, 3)).double()
    *weights, x, y = arguments_of(model, 2, 8, 12)
    names = [name for name, _ in model.named_parameters()]

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(functional_call(model, weights, (x[0],)), y[0])

    def step(*weights: Tensor) -> list[Tensor]:
        grads, losses = vmap(grad_and_value(loss))(dict(zip(names, weights, strict=True)))
        return [*grads.values(), losses]

    for ours, theirs in zip(Traced(step, weights)(*weights), step(*weights), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_attention_is_scaled_where_there_are_fewest_numbers() -> None:
    torch.manual_seed(0)
    model = Attention(3).double()
    given, step = arguments_of(model, 8, 3), gradients(model)
    graph = Traced(step, given, 0, len(given) - 2)._rest.__self__.graph  # type: ignore[attr-defined]
    scalings = [n for n in graph.nodes if str(n.target) in ("aten.mul.Scalar", "aten.mul_.Scalar")]
    assert len(scalings) == 2 * 2  # of each layer's scores, and of their gradients
    assert {round(n.args[1], 12) for n in scalings} == {0.5}  # 1 / sqrt(4), not its root


def test_memory_is_used_again_only_where_nothing_looks_at_it() -> None:
    def step(x: Tensor, bias: Tensor) -> list[Tensor]:
        once = x.exp()
        shown = once.exp()
        row = shown[0]
        wide = x[:, :1].exp().expand(2, 3)
        square = x.t().mm(x)
        found = [once + bias, shown + bias, row * 1.5, bias + wide, (x + bias) * x]
        return [*found, square + square.t(), bias.exp() + x]

    x, bias = torch.randn(2, 3), torch.randn(3)
    traced = Traced(step, [x, bias])
    before = x.clone(), bias.clone()
    for _ in range(2):
        assert all(map(torch.equal, traced(x, bias), step(x, bias)))
    assert torch.equal(x, before[0]) and torch.equal(bias, before[1])
    again = [name for name in operations(traced) if name.endswith("_.Tensor")]
    # Into `once`, into `row` after the last look at `shown`, into x + bias.
    assert again == ["aten.add_.Tensor", "aten.mul_.Tensor", "aten.mul_.Tensor"]


def test_nothing_is_computed_twice_to_be_scaled_or_added() -> None:
    def step(x: Tensor, y: Tensor) -> list[Tensor]:
        wide, other = torch.bmm(x[..., :1], y[:, :1]), torch.bmm(y[..., :1], x[:, :1])
        rows, multiple = other.view(-1, 9), x * y
        return [wide, wide * 0.5, rows * 0.5, rows + 1, multiple, multiple + x]

    x, y = torch.randn(2, 3, 3), torch.randn(2, 3, 3)
    traced = Traced(step, [x, y])
    assert all(map(torch.equal, traced(x, y), step(x, y)))
    found = operations(traced)
    assert found.count("aten.bmm.default") == 2 and "aten.addcmul.default" not in found


def test_a_multiple_of_what_has_gaps_is_scaled_where_it_is() -> None:
    def step(x: Tensor) -> list[Tensor]:
        narrow = (x[..., :4] * 0.5).view(2, 2, 8)
        return [torch.bmm(narrow, narrow.transpose(1, 2)) * 2]

    x = torch.randn(2, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(Traced(step, [x])(x), step(x), rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("length", [3, 40])
def test_a_query_without_any_key_gives_zeros(length: int) -> None:
    def step(q: Tensor, mask: Tensor) -> list[Tensor]:
        with sdpa_kernel(SDPBackend.MATH):
            return [nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=mask)]

    q = torch.randn(1, 2, length, 4, dtype=torch.float64)
    mask = torch.ones(length, length, dtype=torch.bool).tril(-1)
    (found,) = Traced(step, [q, mask])(q, mask)
    assert not found[:, :, 0].any()
    torch.testing.assert_close(found, step(q, mask)[0], rtol=1e-13, atol=0.0)


def test_what_lasts_is_looked_at_once_and_followed() -> None:
    def step(table: Tensor, weight: Tensor, x: Tensor) -> list[Tensor]:
        return [x @ weight.view(3, 2) + table.exp() * torch.arange(2.0)]

    table, weight, x = torch.randn(2), torch.randn(6), torch.randn(4, 3)
    traced = Traced(step, [table, weight, x], 1, 2)
    assert operations(traced) == ["aten.mm.default", "aten.add_.Tensor"]
    for change in (lambda w: w, lambda w: w.add_(1), lambda w: w * 2, lambda w: w.t()):
        weight = change(weight)
        assert torch.equal(*traced(table, weight, x), *step(table, weight, x))
    other = torch.randn(2)
    assert torch.equal(*traced(other, weight, x), *step(other, weight, x))


def test_arguments_laid_out_otherwise_are_no_others() -> None:
    def step(x: Tensor) -> list[Tensor]:
        return [torch.ops.aten._unsafe_view(x.clone(memory_format=torch.contiguous_format), [6])]

    x = torch.randn(2, 3)
    traced = Traced(step, [x])
    crossed = torch.randn(3, 2).t()
    assert torch.equal(*traced(crossed), *step(crossed))


def test_what_writes_or_draws_is_left_as_it_is() -> None:
    def writes(x: Tensor) -> list[Tensor]:
        one, other = torch.zeros_like(x), torch.zeros_like(x)
        one.add_(x)
        return [one, other, x.view(x.shape)]

    def draws(x: Tensor) -> list[Tensor]:
        return [torch.rand_like(x), torch.rand_like(x), x * 1]

    x = torch.randn(3)
    one, other, _ = Traced(writes, [x], 0, 1)(x)
    assert torch.equal(one, x) and not other.any()
    traced = Traced(draws, [x], 0, 1)
    one, other, _ = traced(x)
    assert not torch.equal(one, other) and not torch.equal(one, traced(x)[0])


def test_numbers_that_only_compare_equal_are_not_merged() -> None:
    def step(x: Tensor) -> list[Tensor]:
        more = [x * 1, x * 1.0, x * True, torch.arange(2), torch.arange(2, dtype=torch.int8)]
        return [torch.full_like(x, v) for v in (0.0, -0.0)] + more

    x = torch.ones(2, dtype=torch.int64)
    for given in (x, x.double()):
        found = Traced(step, [given])(given)
        for ours, theirs in zip(found, step(given), strict=True):
            assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
            assert torch.equal(ours.signbit(), theirs.signbit())


def test_a_rewritten_step_that_is_another_one_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(traced: torch.fx.GraphModule, _: Any) -> bool:
        for node in traced.graph.nodes:
            if node.target is torch.ops.aten.mul.Tensor:
                node.target = torch.ops.aten.add.Tensor
        traced.recompile()
        return True

    monkeypatch.setattr(graph_rewriting, "rewrite", spoilt)
    x = torch.full((3,), 4.0)
    with pytest.warns(UserWarning, match="gives other numbers, and is not used"):
        traced = Traced(lambda x: [x * x], [x])
    assert torch.equal(*traced(x), x * x)


def random_steps(seed: int) -> Callable[..., list[Tensor]]:
    """A function of two tensors (2, 3, 4, 2): thirty operations, each on what came before."""

    def step(*given: Tensor) -> list[Tensor]:
        draw = random.Random(seed)
        known = list(given)
        shapes: list[Any] = [(2, 3, 4, 2), (4, 3, 2, 2), (2, 2, 3, 4), (6, 8), (48,), (3, 16)]
        for _ in range(30):
            x = draw.choice(known[-8:])
            axes = draw.sample(range(x.dim()), x.dim())
            dim = draw.randrange(x.dim())
            alike = [one for one in known if one.shape == x.shape]
            kind = draw.randrange(17)
            if kind == 0:
                x = x.permute(axes)
            elif kind == 1:
                x = x.transpose(dim, axes[0]).transpose(axes[0], draw.choice([dim, axes[-1]]))
            elif kind == 2 and x.numel() == 48:
                x = x.reshape(draw.choice(shapes))
            elif kind == 3 and x.numel() == 48:
                x = x.contiguous().view(draw.choice(shapes)).view(draw.choice(shapes))
            elif kind == 4:
                x = x.expand(x.shape) * draw.choice([1, 1.0, 0.5])
            elif kind == 5:
                x = torch.add(x, draw.choice(alike))
            elif kind == 6:
                x = x.softmax(dim)
            elif kind == 7:
                x = torch.ops.aten._safe_softmax(x, dim)
            elif kind == 8:
                parts = [x, draw.choice(alike)]
                whole = torch.stack(parts, dim)
                x = whole.permute(draw.sample(range(whole.dim()), whole.dim())).contiguous()
                x = x.flatten()[: x.numel() // 2]
            elif kind == 9:
                x = x.contiguous() - x.contiguous().detach() * 0.5
            elif kind == 10:
                x = x * draw.choice(alike) + draw.choice([*alike, x.sum()])
            elif kind == 11:
                x = (-x).masked_fill(draw.choice(alike) > 0.5, 0.25)
            elif kind == 12 and x.dim() > 2:
                left = (x * 0.5).flatten(0, -3)
                across = draw.choice([x, x * 0.25, -x]).flatten(0, -3).transpose(1, 2)
                x = torch.bmm(left, across * draw.choice([1, 0.5])) * 0.125
            elif kind == 13 and x.dim() > 2:
                left = x.flatten(0, -3).transpose(1, 2).contiguous()
                product = torch.bmm(left, x.flatten(0, -3)).unsqueeze(0) * 0.5
                x = product.transpose(-1, -2) * 0.125
            elif kind == 14:
                parts = list(x.unbind(dim))
                x = torch.stack([*parts[1:], parts[0] + 1], dim)
            else:
                x = nn.functional.layer_norm(x, x.shape[-1:])
            known.append(x)
        return known[-4:]

    return step


def test_thousands_of_rewritten_operations_compute_the_same() -> None:
    torch.manual_seed(0)
    given = [torch.randn(2, 3, 4, 2, dtype=torch.float64) for _ in range(2)]
    for seed in range(40):
        step = random_steps(seed)
        traced = Traced(step, given, 0, 1)
        for arguments in (
            given,
            [one.flip(0).permute(0, 2, 1, 3).reshape(2, 3, 4, 2) for one in given],
        ):
            wanted = step(*arguments)
            for ours, theirs in zip(traced(*arguments), wanted, strict=True):
                assert ours.shape == theirs.shape
                torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
            # Nothing that was given, or done once for all calls, has been written over.
            for ours, theirs in zip(traced(*arguments), wanted, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
            assert all(map(torch.equal, wanted, step(*arguments)))
