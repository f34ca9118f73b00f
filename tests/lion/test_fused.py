"""The native CPU kernels: the loop to the bit, on every instruction set that they know."""

import copy
import functools
import platform

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lion import Lion, fused, loop, momentum, native

pytestmark = pytest.mark.skipif(not native.available(), reason="needs a C++ compiler")

RULE = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
SHAPES = [(1000,), (257,), (256,), (3, 5), (), (0, 4), (64, 33), (1,)]


LESSER = {"all": [], "avx2": ["-mno-avx512f"], "portable": ["-mno-avx512f", "-mno-avx2"]}
"""What a compiler is told to leave out of a processor's instructions."""


@functools.cache
def built(instructions):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "FLAGS", [*native.FLAGS, *LESSER[instructions]])
        return native._loaded(native.source_text())


@pytest.fixture(params=LESSER)
def kernels(request, monkeypatch):
    """Those of this machine, and as a lesser one of its kind would have them."""
    if LESSER[request.param] and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("has no AVX")
    monkeypatch.setattr(native, "library", lambda: built(request.param))


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
def test_float32_is_the_loop_to_the_bit(kernels, momentum_dtype, maximize):
    params = draw(SHAPES, torch.float32, seed=9)
    for x, y in zip(
        *both(params, make_states(params, momentum_dtype), maximize=maximize), strict=True
    ):
        assert torch.equal(x, y)


@pytest.mark.parametrize("momentum_dtype", [None, "float32", "int8"])
@pytest.mark.parametrize("kahan_sum", [False, True])
def test_bfloat16_is_the_loop_to_the_bit(kernels, momentum_dtype, kahan_sum):
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
def test_special_values_are_the_loops(kernels, momentum_dtype):
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


@pytest.mark.parametrize("momentum_dtype", [None, "int8"])
@pytest.mark.parametrize("order", ["as made", "reversed", "late", "one more", "without one"])
def test_states_may_lie_in_any_order(order, momentum_dtype):
    """As a rule they lie as the parameters do, group by group, and then none is looked up."""

    def optimizer(**options):
        params = [torch.nn.Parameter(x) for x in draw(SHAPES, torch.float32, seed=4)]
        groups = [{"params": params[:3]}, {"params": params[3:], "weight_decay": 0.5}]
        return params, Lion(groups, lr=0.01, momentum_dtype=momentum_dtype, **options)

    (params, ours), (others, reference) = optimizer(), optimizer(fused=False, foreach=False)
    for t in range(4):
        grads = draw(SHAPES, torch.float32, seed=t)
        if order == "late" and t == 0:
            grads[1] = None  # so its state comes last
        for x, y, grad in zip(params, others, grads, strict=True):
            x.grad, y.grad = grad, None if grad is None else grad.clone()
        ours.step()
        reference.step()
        if t == 1 and order == "reversed":
            kept = list(ours.state.items())[::-1]
            ours.state.clear()
            ours.state.update(kept)
        if t == 1 and order == "one more":
            kept = dict(ours.state)
            ours.state.clear()
            ours.state.update({torch.zeros(1): {}, **kept})
        if t == 1 and order == "without one":
            for params_, used in ((params, ours), (others, reference)):
                del used.state[params_[2]]
    for x, y in zip(params, others, strict=True):
        assert torch.equal(x, y)
        for key, value in reference.state[y].items():
            assert torch.equal(value, ours.state[x][key])
