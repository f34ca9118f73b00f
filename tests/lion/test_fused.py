"""The native CPU kernels: the loop to the bit; tensors that they cannot serve get there."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lion import Lion, fused, loop, momentum, native

pytestmark = pytest.mark.skipif(not native.available(), reason="needs a C++ compiler")

RULE = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
SHAPES = [(1000,), (257,), (256,), (3, 5), (), (0, 4), (64, 33), (1,)]


def draw(shapes, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def make_states(params, momentum_dtype=None, kahan_sum=False):
    return [momentum.zeros(p, momentum_dtype, kahan_sum) for p in params]


def both(params, states, num_steps=20, maximize=False, schedule=lambda t: 0.01 / (1 + t % 3)):
    """Step copies through the kernels and through the loop; return the two sets of tensors."""
    results = []
    for path in (fused.update, lambda *c, **o: momentum.update(loop.update, *c, **o)):
        mine, kept = [p.clone() for p in params], copy.deepcopy(states)
        for t in range(num_steps):
            grads = draw([p.shape for p in mine], params[0].dtype, seed=t)
            if t % 4 == 2:
                grads = [g * 0 for g in grads]
            columns = (mine, grads, [state["exp_avg"] for state in kept], kept)
            path(*columns, lr=schedule(t), maximize=maximize, **RULE)
        results.append([*mine, *(x for state in kept for x in state.values())])
    return results


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("momentum_dtype", [None, "bfloat16", "int8"])
def test_float32_is_the_loop_to_the_bit(momentum_dtype, maximize):
    params = draw(SHAPES, torch.float32, seed=9)
    for x, y in zip(
        *both(params, make_states(params, momentum_dtype), maximize=maximize), strict=True
    ):
        assert torch.equal(x, y)


@pytest.mark.parametrize("momentum_dtype", [None, "float32", "int8"])
@pytest.mark.parametrize("kahan_sum", [False, True])
def test_bfloat16_is_the_loop_to_the_bit(momentum_dtype, kahan_sum):
    # Whole vectors: in tails torch's own kernels round in another way, see below.
    params = draw([(32,), (64, 32), (4096,)], torch.bfloat16, seed=9)
    states = make_states(params, momentum_dtype, kahan_sum)
    for x, y in zip(*both(params, states), strict=True):
        assert torch.equal(x, y)


def test_bfloat16_tails_of_torch_differ_by_a_rounding_of_the_momentum():
    params = draw([(31,), (1000,)], torch.bfloat16, seed=9)
    states = make_states(params)
    ours, loops = both(params, states, num_steps=1)
    eps = torch.finfo(torch.bfloat16).eps
    for x, y in zip(ours, loops, strict=True):
        assert torch.all((x.float() - y.float()).abs() <= 2 * eps * y.float().abs())
    num_vectors = 1000 // 32 * 32
    assert torch.equal(ours[3][:num_vectors], loops[3][:num_vectors])


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=9),
    threads=st.integers(1, 5),
    momentum_dtype=st.sampled_from([None, "bfloat16", "int8"]),
    large=st.sampled_from([0, 600_000, 1_100_000]),
)
def test_every_split_over_threads_is_the_loop(sizes, threads, momentum_dtype, large):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        params = draw([(s,) for s in [*sizes, large]], torch.float32)
        states = make_states(params, momentum_dtype)
        for x, y in zip(*both(params, states, num_steps=2), strict=True):
            assert torch.equal(x, y)
    finally:
        torch.set_num_threads(before)


SPECIAL = [0.0, -0.0, 1e-45, -1e-40, 1e-38, 3e38, -3e38, float("inf"), -float("inf"), float("nan")]


@pytest.mark.parametrize("momentum_dtype", [None, "bfloat16", "int8"])
def test_special_values_are_the_loops(momentum_dtype):
    values = torch.tensor(SPECIAL * 6)
    params = [values.flip(0).clone(), torch.ones(60)]
    for exp_avg in (torch.zeros(60), values.roll(3)):
        states = make_states(params, momentum_dtype)
        for state in states:
            momentum.encode_(exp_avg, state["exp_avg"], state.get(momentum.SCALE))
        outcomes = []
        for path in (fused.update, lambda *c, **o: momentum.update(loop.update, *c, **o)):
            mine, kept = [p.clone() for p in params], copy.deepcopy(states)
            columns = (mine, [values, values], [s["exp_avg"] for s in kept], kept)
            path(*columns, lr=0.01, maximize=False, **RULE)
            outcomes.append([*mine, *(x for state in kept for x in state.values())])
        for x, y in zip(*outcomes, strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


def served(monkeypatch, params, **options):
    """Step twice; return how many tensors the loop had to step at the second."""
    counts = []
    real = loop.update

    def counting(tensors, *args, **kwargs):
        counts.append(len(tensors))
        real(tensors, *args, **kwargs)

    optimizer = Lion(params, lr=0.1, weight_decay=0.1, **options)
    optimizer.step()
    monkeypatch.setattr(loop, "update", counting)
    optimizer.step()
    monkeypatch.undo()
    return sum(counts)


def with_grad(data, grad=None):
    param = nn.Parameter(data)
    param.grad = torch.randn_like(param) if grad is None else grad
    return param


def test_ordinary_tensors_never_reach_the_loop(monkeypatch):
    channels_last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    params = [with_grad(torch.randn(shape)) for shape in SHAPES]
    params += [with_grad(torch.randn(4, 6).t()), with_grad(channels_last)]
    params += [with_grad(torch.randn(7).bfloat16())]
    assert served(monkeypatch, params) == 0
    assert served(monkeypatch, params, momentum_dtype="int8") == 0
    assert served(monkeypatch, params, momentum_dtype="bfloat16", kahan_sum=True) == 0


def strided_gradient():
    return [with_grad(torch.randn(3, 5), torch.randn(5, 3).t())]


def expanded_gradient():
    return [with_grad(torch.randn(3, 5), torch.randn(1).expand(3, 5))]


def strided_parameter():
    return [with_grad(torch.randn(6, 8)[:, ::2], torch.randn(6, 4))]


def float64():
    return [with_grad(torch.randn(5, dtype=torch.float64)), with_grad(torch.ones(3))]


def overlap():
    base = torch.zeros(8)
    return [with_grad(base[:5]), with_grad(base[3:]), with_grad(torch.ones(2))]


def complex_numbers():
    return [with_grad(torch.randn(5, dtype=torch.complex64))]


def lazily_negated_gradient():
    return [with_grad(torch.randn(5), torch.randn(5, dtype=torch.complex64).conj().imag)]


@pytest.mark.parametrize(
    "make, in_loop",
    [
        (strided_gradient, 1),
        (expanded_gradient, 1),
        (strided_parameter, 1),
        (float64, 1),
        (overlap, 2),
        (complex_numbers, 0),  # as a view of pairs of real numbers it can be served
        (lazily_negated_gradient, 1),
    ],
)
def test_tensors_it_cannot_serve_take_the_loop_and_step_like_it(monkeypatch, make, in_loop):
    torch.manual_seed(0)
    params = make()
    torch.manual_seed(0)
    twins = make()
    assert served(monkeypatch, params) == in_loop
    slow = Lion(twins, lr=0.1, weight_decay=0.1, fused=False)
    for _ in range(2):
        slow.step()
    for twin, param in zip(twins, params, strict=True):
        assert torch.equal(twin, param)


def test_a_parameter_that_is_there_twice_through_views_is_stepped_twice():
    data = torch.ones(8)
    params = [with_grad(data[:8], torch.ones(8)), with_grad(data[:8], torch.ones(8))]
    Lion(params, lr=0.25).step()
    assert data.tolist() == [0.5] * 8


def test_replaced_data_gradient_and_state_are_found():
    param = with_grad(torch.zeros(300), torch.ones(300))
    optimizer = Lion([param], lr=0.5)
    optimizer.step()
    optimizer.step()
    old = param.data
    param.data = torch.full((300,), 8.0)
    param.grad = -torch.ones(300)
    optimizer.state[param] = {"exp_avg": torch.zeros(300)}
    optimizer.step()
    assert old.eq(-1.0).all() and param.eq(8.5).all()
    other = optimizer.state[param]["exp_avg"]
    torch.testing.assert_close(other, torch.full((300,), -0.01))
    param.data, param.grad = torch.zeros(2, 2), torch.ones(2, 2)
    optimizer.state[param] = {}
    optimizer.step()
    assert param.eq(-0.5).all()


def test_swapped_tensors_are_found():
    param = with_grad(torch.zeros(4), torch.ones(4))
    optimizer = Lion([param], lr=0.5)
    optimizer.step()
    other = with_grad(torch.ones(4), torch.ones(4))
    torch.utils.swap_tensors(param, other)
    del other
    optimizer.step()
    assert param.eq(0.5).all()


def test_the_step_is_seen_by_autograd():
    param = with_grad(torch.ones(3), torch.ones(3))
    optimizer = Lion([param], lr=0.5)
    for _ in range(2):  # the first step takes another way in than the rest
        loss = (param * param).sum()
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_missing_gradients_are_passed_over_and_state_comes_when_they_do():
    first, second = with_grad(torch.zeros(3), torch.ones(3)), nn.Parameter(torch.zeros(3))
    optimizer = Lion([first, second], lr=1.0)
    optimizer.step()
    optimizer.step()
    assert second.eq(0).all() and second not in optimizer.state
    second.grad = torch.ones(3)
    optimizer.step()
    assert second.eq(-1).all() and first.eq(-3).all()
    first.grad = None
    optimizer.step()
    assert second.eq(-2).all() and first.eq(-3).all()


def test_groups_with_their_own_settings_and_a_tensor_lr():
    first, second = (with_grad(torch.zeros(3), torch.ones(3)) for _ in range(2))
    lr = torch.tensor(1.0, dtype=torch.float64)
    optimizer = Lion([{"params": [first]}, {"params": [second], "lr": 0.25}], lr=lr)
    for _ in range(3):
        optimizer.step()
        lr.mul_(0.5)
    assert first.eq(-1.75).all() and second.eq(-0.75).all()


def test_meta_and_cpu_parameters_in_one_group():
    cpu, meta = with_grad(torch.zeros(3), torch.ones(3)), with_grad(torch.ones(2, device="meta"))
    optimizer = Lion([cpu, meta], lr=1.0)
    for _ in range(2):
        optimizer.step()
    assert cpu.eq(-2).all()
    assert optimizer.state[meta]["exp_avg"].is_meta


def test_fused_is_exclusive_with_foreach():
    with pytest.raises(ValueError, match="exclude each other"):
        Lion([nn.Parameter(torch.ones(1))], fused=True, foreach=True)


ROWS = {
    "lr": [0.01, 0.02, 0.0],
    "beta1": [0.9, 0.8, 0.95],
    "beta2": [0.99, 0.9, 0.98],
    "weight_decay": [0.1, 0.0, 1.0],
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_row_is_stepped_by_its_own_settings(dtype, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    tensors = draw([(3, 100_003)] * 3, dtype)  # rows that begin between the blocks of a thread
    wanted = [x.clone() for x in tensors]
    for row in range(3):
        own = {key: values[row] for key, values in ROWS.items()}
        fused.update(*([x[row]] for x in wanted), **own, maximize=False)
    version = tensors[0]._version
    assert fused.update_rows(*tensors, **ROWS)
    assert all(torch.equal(x, y) for x, y in zip(tensors, wanted, strict=True))
    assert tensors[0]._version > version


@pytest.mark.parametrize(
    "changed",
    [
        lambda p, g, m: (p, g.t().contiguous().t(), m),
        lambda p, g, m: (p, g.double(), m),
        lambda p, g, m: (p, g, m.to(torch.int8)),
        lambda p, g, m: (p[:2], g[:2], m[:2]),
        lambda p, g, m: (p.flatten(), g.flatten(), m.flatten()),
        lambda p, g, m: (p, g[:, :4], m),
    ],
)
def test_rows_that_cannot_be_served_are_left_alone(changed):
    tensors = changed(*draw([(3, 5)] * 3, torch.float32))
    before = [x.clone() for x in tensors]
    assert not fused.update_rows(*tensors, **ROWS)
    assert all(torch.equal(x, y) for x, y in zip(tensors, before, strict=True))
