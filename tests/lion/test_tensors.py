"""Lion on odd tensors: shapes, layouts, dtypes, complex, sparse, NaN."""

import pytest
import torch
from torch import nn

from lion import Lion, foreach, loop, passes, rule

FLAGS = [{"fused": False}, {"foreach": True}, {"fused": True}]
PATHS = pytest.mark.parametrize("flags", FLAGS, ids=str)
NO_LR = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
OPTIONS = {"lr": 0.1, **NO_LR}


@pytest.fixture(autouse=True)
def lists_on_the_cpu(monkeypatch):
    """Let foreach=True step lists, as on a GPU, and not go to the loop."""
    monkeypatch.setattr(foreach, "WITHOUT_KERNELS", frozenset())


def with_grad(data, grad):
    param = nn.Parameter(data)
    param.grad = grad
    return param


def assert_steps_like_rule(params, **flags):
    """Two steps with the gradients in place equal two of the rule, to the bit."""
    optimizer = Lion(params, lr=0.1, weight_decay=0.1, **flags)
    for _ in range(2):
        expected = [
            rule.lion(
                p.detach(), p.grad, optimizer.state[p].get("exp_avg", 0 * p.detach()), **OPTIONS
            )
            for p in params
        ]
        optimizer.step()
        for param, (new_param, new_exp_avg) in zip(params, expected, strict=True):
            assert torch.equal(param, new_param)
            assert torch.equal(optimizer.state[param]["exp_avg"], new_exp_avg)


@PATHS
def test_parameters_that_share_memory_are_stepped_one_after_the_other(flags):
    def stepped(together):
        data = torch.linspace(-1, 1, 8)
        params = [with_grad(data[:6], torch.ones(6)), with_grad(data[2:], -torch.ones(6))]
        groups = [params] if together else [[param] for param in params]
        optimizers = [Lion(group, lr=0.1, weight_decay=0.5, **flags) for group in groups]
        for optimizer in 3 * optimizers:
            optimizer.step()
        return data

    assert torch.equal(stepped(together=True), stepped(together=False))


@PATHS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_odd_shapes_and_layouts_equal_the_rule(flags, dtype):
    torch.manual_seed(0)

    def pair(make_param, make_grad=torch.randn_like):
        param = nn.Parameter(make_param.to(dtype))
        param.grad = make_grad(param).detach()
        return param

    channels_last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    params = [
        pair(torch.randn(())),
        pair(torch.randn(0, 3)),
        pair(torch.randn(0)),
        pair(torch.randn(1)),
        pair(channels_last.clone()),
        pair(torch.randn(4, 6).t()),
        pair(torch.randn(4, 6), lambda p: torch.randn(6, 4, dtype=dtype).t()),
        pair(channels_last.clone(), lambda p: torch.randn(p.shape, dtype=dtype)),
        pair(torch.randn(3, 5), lambda p: torch.randn((), dtype=dtype).expand(3, 5)),
        nn.Parameter(torch.randn(6, 8, dtype=dtype)[:, ::2]),
    ]
    params[-1].grad = torch.randn(6, 4, dtype=dtype)
    assert_steps_like_rule(params, **flags)


def test_state_keeps_the_memory_format():
    param = nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
    param.grad = torch.randn_like(param)
    optimizer = Lion([param])
    optimizer.step()
    exp_avg = optimizer.state[param]["exp_avg"]
    assert exp_avg.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("calm", [0, 1000])
def test_blocks_of_a_large_tensor_equal_the_whole(calm, monkeypatch):
    monkeypatch.setattr(passes, "CALM", calm)
    monkeypatch.setattr(passes, "TORCH_GRAIN", 40)  # pieces of a bucket that one thread steps
    monkeypatch.setattr(loop, "BLOCK", 64)
    monkeypatch.setattr(passes, "LARGE", 64)
    monkeypatch.setattr(passes, "SMALL", 70)
    monkeypatch.setattr(passes, "TOGETHER", 130)
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(*shape)) for shape in [(64,), (65,), (13, 29), (7, 64)]]
    params.append(nn.Parameter(torch.randn(29, 13).t()))
    for param in params:
        param.grad = torch.randn_like(param)
    assert_steps_like_rule(params, fused=False)


@pytest.fixture
def threads(monkeypatch):
    """Set torch's threads and the size of the loop's pieces."""
    before = torch.get_num_threads()

    def choose(number, piece):
        torch.set_num_threads(number)
        monkeypatch.setattr(passes, "LARGE", piece)

    yield choose
    torch.set_num_threads(before)


SPECIAL = [0.0, -0.0, 1e-45, -1e-40, 1e-38, 3e38, -3e38, float("inf"), -float("inf"), float("nan")]


@pytest.mark.parametrize("flags", [*FLAGS, {"foreach": False, "fused": False}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size, piece", [(700, 1 << 13), (20_000, 1 << 13), (115_200, 1 << 20)])
def test_sums_that_cancel_and_special_numbers_equal_the_rule(flags, dtype, size, piece, threads):
    """0.9 m + 0.1 g is 0 for every fourth weight, to the last bit: a product that is not rounded
    before it is added, or a sign that takes tiny numbers for 0, would show. In pieces and whole."""
    threads(3, piece)
    generator = torch.Generator().manual_seed(0)
    exp_avg = torch.randn(size, generator=generator, dtype=dtype)
    grad = -(exp_avg * 0.9) / (1 - 0.9)
    special = torch.tensor(SPECIAL, dtype=dtype)
    grad[:100], exp_avg[:100] = special.repeat(10), special.repeat_interleave(10)
    cancel = (exp_avg * 0.9 + grad * (1 - 0.9)).eq(0)
    fused_sum = torch.add(exp_avg * 0.9, grad, alpha=1 - 0.9)
    assert (cancel & fused_sum.ne(0)).sum() > size / 20, "else this proves nothing"
    param = with_grad(torch.randn(size, generator=generator, dtype=dtype), grad)
    expected = rule.lion(param.detach().clone(), grad, exp_avg, **OPTIONS)
    on_device = [[x.detach().clone()] for x in (param, grad, exp_avg)]  # as with an lr on a device
    lr = torch.tensor(0.1, dtype=torch.float64)
    loop.update(*on_device, lr=lr, maximize=False, **NO_LR)
    torch.testing.assert_close(on_device[0][0], expected[0], rtol=0, atol=0, equal_nan=True)
    optimizer = Lion([param], lr=0.1, weight_decay=0.1, **flags)
    optimizer.state[param]["exp_avg"] = exp_avg.clone()
    optimizer.step()
    torch.testing.assert_close(param.detach(), expected[0], rtol=0, atol=0, equal_nan=True)
    after = optimizer.state[param]["exp_avg"]
    torch.testing.assert_close(after, expected[1], rtol=0, atol=0, equal_nan=True)


def test_nothing_but_empty_tensors():
    params = [with_grad(torch.ones(shape), torch.ones(shape)) for shape in [(0,), (0, 3)]]
    assert_steps_like_rule(params, fused=False)


@pytest.mark.parametrize("rounds", [True, False])
def test_without_the_outer_product_the_steps_are_the_same(rounds, monkeypatch):
    if rounds and not passes._outer_product_is_rounded(torch.float32):
        pytest.skip("does not round here, as on Arm")
    monkeypatch.setattr(passes, "_outer_product_is_rounded", lambda dtype: rounds)
    used, real = [], torch.addr
    monkeypatch.setattr(torch, "addr", lambda *a, **k: (used.append(1), real(*a, **k))[1])
    generator = torch.Generator().manual_seed(0)
    columns = [torch.randn(1 << 15, generator=generator) for _ in range(3)]
    expected = rule.lion(*columns, **OPTIONS)
    assert passes.update([tuple(columns)], lr=0.1, maximize=False, **NO_LR) == []
    assert torch.equal(columns[0], expected[0]) and torch.equal(columns[2], expected[1])
    assert len(used) == rounds


def test_a_kernel_that_rounds_once_is_noticed(monkeypatch):
    """Where torch's addcmul is a fused multiply-add, the loop takes its longer way."""
    real = torch.addcmul
    monkeypatch.setattr(torch, "addcmul", lambda a, b, c, value: real(a, b, c, value=value) + 1e-9)
    passes._product_is_rounded.cache_clear()
    row = tuple(torch.ones(3) for _ in range(3))
    assert len(passes.update([row], lr=0.1, maximize=False, **NO_LR)) == 1
    monkeypatch.undo()
    passes._product_is_rounded.cache_clear()
    assert passes.update([row], lr=0.1, maximize=False, **NO_LR) == []
    assert len(passes.update([row], lr=1e31, maximize=False, **NO_LR)) == 1


@PATHS
def test_mixed_dtypes_in_one_group(flags):
    dtypes = (torch.float32, torch.bfloat16, torch.float64, torch.float16)
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(9).to(dtype)) for dtype in dtypes]
    for param in params:
        param.grad = torch.randn_like(param)
    alone = [nn.Parameter(p.detach().clone()) for p in params]
    together, apart = Lion(params, lr=0.1, **flags), [Lion([p], lr=0.1) for p in alone]
    for _ in range(3):
        together.step()
        for twin, param, optimizer in zip(alone, params, apart, strict=True):
            twin.grad = param.grad
            optimizer.step()
            assert torch.equal(twin, param)
            assert together.state[param]["exp_avg"].dtype == param.dtype


@PATHS
def test_complex_is_a_pair_of_reals(flags):
    torch.manual_seed(0)
    data, grad = torch.randn(5, dtype=torch.complex64), torch.randn(5, dtype=torch.complex64)
    param, real = with_grad(data, grad), with_grad(torch.view_as_real(data.clone()), None)
    optimizers = (
        Lion([param], lr=0.1, weight_decay=0.1, **flags),
        Lion([real], 0.1, (0.9, 0.99), 0.1),
    )
    for conj in (False, True):  # conj() is lazy: a view that view_as_real refuses
        param.grad = grad.conj() if conj else grad
        real.grad = torch.view_as_real(param.grad.resolve_conj())
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(torch.view_as_real(param.detach()), real)
    assert optimizers[0].state[param]["exp_avg"].dtype == torch.complex64


@PATHS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_nan_is_seen_and_stays_where_it_is(flags, dtype):
    """torch.sign(nan) is 0: without care the weight would freeze for ever and nothing show it."""
    grad = torch.ones(70, dtype=dtype)
    grad[[3, 69]] = float("nan")
    grad[5], grad[6] = float("inf"), -float("inf")
    param = with_grad(torch.zeros(70, dtype=dtype), grad)
    Lion([param], lr=1.0, **flags).step()
    assert param.isnan().nonzero().flatten().tolist() == [3, 69]
    assert param[5] == -1 and param[6] == 1 and param[0] == -1


def test_sparse_gradient_is_refused_before_anything_changes():
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    optimizer = Lion(embedding.parameters())
    with pytest.raises(RuntimeError, match="sparse=False"):
        optimizer.step()
    assert not optimizer.state
