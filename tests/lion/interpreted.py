"""The Triton kernel on the CPU, in Triton's interpreter: run by test_fused_cuda.py, in a process
of its own with TRITON_INTERPRET=1, since Triton decides at its import.

The interpreter multiplies and adds in two roundings where a GPU's `fma` has one, so here it gets
an exact one. With that, the kernel must equal the CPU's kernel and the loop to the bit.
"""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lion import Lion, backends, device_tables, fused_cuda, kinds, loop, momentum, native, rule

SIZES = (255, 513)  # an end alone; a whole program and an end of one element
STEPS = 20
BETAS = (0.9, 0.99)
STORES = ["float32", "bfloat16", "int8"]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def exact_fma(self, x, y, z):
    """a * b + c in one rounding: the product is exact in double, the sum is rounded to odd."""
    from triton.runtime.interpreter import TensorHandle

    a, b, c = (operand.data.astype(np.float64) for operand in (x, y, z))
    with np.errstate(all="ignore"):
        product = a * b
        total = product + c
        rest = total - product
        error = (product - (total - rest)) + (c - rest)  # of the sum, exactly (Knuth)
        bits = total.view(np.int64)
        inexact = (error != 0) & np.isfinite(error) & (bits & 1 == 0)
        bits = np.where(inexact, bits + np.where((error > 0) == (total > 0), 1, -1), bits)
        return TensorHandle(bits.view(np.float64).astype(np.float32), z.dtype.scalar)


def patch_once(patch_builtin, is_builtin):
    """Triton's patching of its language, left out where a call within a kernel finds it done."""
    examples = {}

    def patch(package, builder, *scope):  # Triton 3.5 gives none
        if package not in examples:
            names = [name for name in dir(package) if is_builtin(getattr(package, name))]
            examples[package] = names[0] if names else None
        example = examples[package]
        if example and is_builtin(getattr(package, example)):
            patch_builtin(package, builder, *scope)

    return patch


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Let the backend take tensors on the CPU, in programs of 512 elements."""
    import triton
    from triton.runtime import interpreter

    assert triton.knobs.runtime.interpret, "run me through tests/lion/test_fused_cuda.py"
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_fma", exact_fma)
    quick = patch_once(interpreter._patch_builtin, triton.language.core.is_builtin)
    monkeypatch.setattr(interpreter, "_patch_builtin", quick)
    monkeypatch.setattr(kinds, "DEVICE", "cpu")
    monkeypatch.setattr(fused_cuda, "BLOCK", 512)
    for cache in (device_tables._uploaded, kinds.overlapping):
        cache.cache_clear()
    device_tables._layouts.clear()
    device_tables._captured.clear()


@pytest.fixture
def launches(monkeypatch):
    """Count the launches."""
    calls = []
    run = fused_cuda._run
    monkeypatch.setattr(fused_cuda, "_run", lambda *a, **k: (calls.append(a[0]), run(*a, **k)))
    return calls


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Let Lion itself take the backend, as it does for parameters on a GPU."""
    choose = backends.choose

    def chosen(params, *, foreach, fused=None, differentiable=False):
        named = choose(params, foreach=foreach, fused=fused, differentiable=differentiable)
        return "fused_cuda" if fused else named

    monkeypatch.setattr(backends, "choose", chosen)
    monkeypatch.setattr(Lion, "_step_at_once", lambda self, group, before: False)


def state_of(params, store, kahan_sum=False):
    states = [momentum.zeros(p, store, kahan_sum) for p in params]
    return [s["exp_avg"] for s in states], states


def tensors(dtype, sizes=SIZES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, generator=generator).to(dtype) for n in sizes]


def padded(columns):
    """Zeros up to a multiple of 64: torch's CPU kernels round the ends of bfloat16 otherwise."""
    return [nn.functional.pad(x, (0, -x.numel() % 64)) for x in columns]


def bits(x):
    return x.view({1: torch.int8, 2: torch.int16, 4: torch.int32}[x.element_size()])


def assert_same(columns, others):
    for column, other in zip(columns, others, strict=True):
        for x, y in zip(column, other, strict=True):
            assert torch.equal(bits(x), bits(y))


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "compensated"])
def test_trajectory_equals_the_loop_to_the_bit(kind, store, launches):
    """Every second step with lr as a tensor that only the kernel reads; decay and sign change."""
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    compensated = kind == "compensated"
    ours = tensors(dtype)
    theirs = padded(ours)
    state, expected = state_of(ours, store, compensated), state_of(theirs, store, compensated)
    for step in range(STEPS):
        grads, lr = tensors(dtype, seed=1 + step), 0.01 * (1 + step % 5)
        grads[-1][::3] = 0.0
        options = {"beta1": BETAS[0], "beta2": BETAS[1], "maximize": step % 7 == 3}
        options["weight_decay"] = 0.3 if step % 3 else 0.0
        device_lr = torch.tensor(lr, dtype=torch.float64)
        fused_cuda.update(ours, grads, *state, lr=device_lr if step % 2 else lr, **options)
        momentum.update(loop.update, theirs, padded(grads), *expected, lr=lr, **options)
        theirs_cut = [p[: x.numel()] for p, x in zip(theirs, ours, strict=True)]
        assert_same([ours], [theirs_cut])
        for mine, other, p in zip(state[1], expected[1], ours, strict=True):
            ends = {
                key: x if key == "exp_avg_scale" else x[: p.numel()] for key, x in other.items()
            }
            assert_same([mine.values()], [ends.values()])
    names = {(x.param, x.momentum, x.compensated) for x in launches}
    assert names == {(str(dtype).removeprefix("torch."), store, compensated)}, "the kernel did it"
    assert STEPS <= len(launches) <= 2 * STEPS  # aligned tensors, and those that are not


def test_trajectory_equals_the_rule_to_the_bit():
    ours = tensors(torch.float32)
    expected = [(p.clone(), torch.zeros_like(p)) for p in ours]
    exp_avgs, states = state_of(ours, None)
    options = {"beta1": BETAS[0], "beta2": BETAS[1], "weight_decay": 0.3}
    for step in range(STEPS):
        grads, lr = tensors(torch.float32, seed=1 + step), 0.01 * (1 + step % 5)
        fused_cuda.update(ours, grads, exp_avgs, states, lr=lr, maximize=False, **options)
        pairs = zip(expected, grads, strict=True)
        expected = [rule.lion(p, g, m, lr=lr, **options) for (p, m), g in pairs]
        assert_same((ours, exp_avgs), zip(*expected, strict=True))


@pytest.mark.parametrize("lr_dtype", [torch.float32, torch.bfloat16])
def test_lr_on_the_device_is_its_value_as_a_float(lr_dtype):
    lr = torch.tensor(0.07, dtype=lr_dtype)
    results = []
    for rate in (lr, lr.item()):
        params = tensors(torch.float32)
        options = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.37, "maximize": False}
        fused_cuda.update(params, params, *state_of(params, None), lr=rate, **options)
        results.append(params)
    assert_same([results[0]], [results[1]])


@pytest.mark.parametrize("store", STORES)
def test_first_call_and_first_after_loading_step_once(store, as_on_cuda, launches):
    """A kernel that is tuned by trying it steps several times at its first call."""
    param = nn.Parameter(torch.zeros(600))
    optimizer = Lion([param], lr=0.5, fused=True, momentum_dtype=store)
    param.grad = torch.ones(600)
    optimizer.step()
    assert len(launches) == 1 and torch.equal(param, torch.full((600,), -0.5))
    saved = copy.deepcopy(optimizer.state_dict())
    twin = nn.Parameter(param.detach().clone())
    other = Lion([twin], lr=0.5, fused=True, momentum_dtype=store)
    other.load_state_dict(saved)
    for one, opt in ((param, optimizer), (twin, other)):
        one.grad = torch.full((600,), 0.25)
        opt.step()
        assert torch.equal(one, torch.full((600,), -1.0))
    for key, value in optimizer.state[param].items():
        assert torch.equal(value, other.state[twin][key])
    full = momentum.decode(*(optimizer.state[param].get(k) for k in KEYS), torch.float32)
    tolerance = {"float32": 1e-7, "bfloat16": 1e-4, "int8": 2e-4}[store]
    torch.testing.assert_close(full, torch.full((600,), 0.0124), rtol=0, atol=tolerance)


KEYS = ("exp_avg", "exp_avg_scale")


def test_nan_infinity_and_zero():
    grad = torch.ones(70)
    grad[3], grad[5], grad[6], grad[7] = float("nan"), float("inf"), -float("inf"), 0.0
    for store in STORES:
        param = torch.zeros(70)
        state = state_of([param], store)
        options = {"lr": 1.0, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0, "maximize": False}
        fused_cuda.update([param], [grad], *state, **options)
        assert param.isnan().nonzero().flatten().tolist() == [3]
        assert param[5] == -1 and param[6] == 1 and param[7] == 0 and param[0] == -1
        kept = momentum.decode(state[0][0], state[1][0].get("exp_avg_scale"), torch.float32)
        odd = (~kept.isfinite()).nonzero().flatten().tolist()
        assert odd == [3, 5, 6], "their neighbours keep their momentum"
        torch.testing.assert_close(kept[8:], torch.full((62,), 0.01), rtol=0.01, atol=0)
        fused_cuda.update([param], [torch.zeros(70)], *state, **options)
        assert param.isnan()[[5, 6]].all() == (store == "int8")


class Odd(torch.Tensor):
    pass


def test_what_it_cannot_serve_takes_another_path(launches):
    """Only the first is the kernel's; the others are stepped as by the loop, once."""
    torch.manual_seed(0)
    base = torch.randn(30)

    def make():
        flat = base.clone()
        return [
            torch.arange(5.0),
            torch.ones(4, 6)[:, ::2],  # gaps in memory
            torch.ones(3, dtype=torch.float64),
            torch.ones(3).as_subclass(Odd),
            torch.ones(64).view(8, 8).t(),  # its gradient has another layout
            flat[:20],
            flat[12:],  # memory in common
            torch.ones(0),
        ]

    params, expected = make(), make()
    grads = [torch.ones(p.shape, dtype=p.dtype) for p in params]
    momenta, others = ([torch.zeros_like(p) for p in params] for _ in range(2))
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "maximize": False}
    fused_cuda.update(params, grads, momenta, **options)
    loop.update(expected, grads, others, **options)
    for x, y in zip(params + momenta, expected + others, strict=True):
        assert torch.equal(x, y)
    assert len(launches) == 1, "one tensor of its own kind"


@pytest.mark.parametrize("store", STORES)
def test_a_group_through_the_native_table_equals_the_tensors_one_by_one(store, launches):
    """The same launches, with the same results, whether native code or Python looks at them."""
    if native.optional() is None:
        return
    sets = []
    for step in (fused_cuda.step_group, None):
        params = [nn.Parameter(x) for x in tensors(torch.bfloat16, (300, 0, 5))]
        params.insert(1, nn.Parameter(torch.ones(3)))  # has no gradient
        lr = torch.tensor(0.25, dtype=torch.float64)
        optimizer = Lion(params, lr=lr, weight_decay=0.1, momentum_dtype=store, kahan_sum=True)
        for p in (params[0], *params[2:]):
            p.grad = torch.full_like(p, -1.0)
            optimizer.state[p] = momentum.zeros(p, store, True)
        rows = [(p.detach(), p.grad, s["exp_avg"], s) for p, s in optimizer.state.items()]
        version = params[0]._version
        for _ in range(3):
            if step:
                assert step(optimizer.param_groups[0], optimizer.state)
            else:
                rule = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "maximize": False}
                fused_cuda.update(*zip(*rows, strict=True), lr=0.25, **rule)
        assert params[0]._version == version + 3
        sets.append([x for row in rows for x in (row[0], *row[3].values())])
    assert_same([sets[0]], [sets[1]])
    half = len(launches) // 2
    assert launches[:half] == launches[half:]


def test_channels_last_is_served_in_memory_order(launches):
    def make():
        torch.manual_seed(0)
        return [torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last) for _ in range(2)]

    (param, grad), (expected, _) = make(), make()
    state, other = state_of([param], "int8"), state_of([param], "int8")
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "maximize": False}
    fused_cuda.update([param], [grad], *state, **options)
    momentum.update(loop.update, [expected], [grad], *other, **options)
    assert torch.equal(param, expected) and torch.equal(state[0][0], other[0][0])
    assert len(launches) == 1


@pytest.mark.parametrize("offset", [0, 1])
def test_unaligned_views_are_not_loaded_in_wide_words(offset, launches):
    memory = torch.zeros(1025)
    memory = memory[(-memory.data_ptr() // 4) % 4 :]  # from 16 bytes on
    param = memory[offset : offset + 600]
    options = {"lr": 0.5, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0, "maximize": False}
    grad, exp_avg = torch.ones(640)[:600], torch.zeros(600)
    fused_cuda.update([param], [grad], [exp_avg], **options)
    assert launches[0].aligned == (not any(x.data_ptr() % 16 for x in (param, exp_avg)))
    assert offset == 0 or not launches[0].aligned
    assert torch.equal(param, torch.full((600,), -0.5)) and memory[offset + 600] == 0


def test_tables_follow_the_addresses_and_are_made_once(as_on_cuda):
    """Replaced data, state and gradients are found; nothing is uploaded while nothing moves."""
    param = nn.Parameter(torch.zeros(40))
    optimizer = Lion([param], lr=1.0, fused=True)
    param.grad = torch.ones(40)
    for _ in range(3):
        optimizer.step()
    assert device_tables._uploaded.cache_info().misses == 1
    old_data, old_grad = param.data, param.grad
    param.data, param.grad = torch.full((40,), 5.0), -torch.ones(40)
    optimizer.state[param]["exp_avg"] = torch.zeros(40)
    optimizer.step()
    assert device_tables._uploaded.cache_info().misses == 2
    assert torch.equal(param, torch.full((40,), 6.0))
    assert torch.equal(old_data, torch.full((40,), -3.0)) and torch.equal(old_grad, torch.ones(40))


def test_table_of_a_captured_step_is_the_uploaded_one(monkeypatch):
    """In a graph the table is written by kernels: the same numbers, large ones, too."""
    from array import array

    addresses = array("q", [2**47 - 8, 0, 2**62 + 2**20 + 1, 512])
    eager = device_tables.table(addresses, torch.device("cpu"))
    monkeypatch.setattr(device_tables, "is_capturing", lambda device: True)
    assert torch.equal(device_tables.table(addresses, torch.device("cpu")), eager)


def test_unknown_sizes_in_a_capture_take_another_path(monkeypatch, launches):
    monkeypatch.setattr(device_tables, "is_capturing", lambda device: True)
    param, grad, exp_avg = torch.zeros(9), torch.ones(9), torch.zeros(9)
    options = {"lr": 0.5, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0, "maximize": False}
    fused_cuda.update([param], [grad], [exp_avg], **options)
    assert not launches and torch.equal(param, torch.full((9,), -0.5))


def test_layouts_of_changing_tensors_do_not_pile_up(monkeypatch):
    """Other tensors have gradients at each step (experts, dropped layers); graphs keep theirs."""

    def layout(size):
        return device_tables.layout(np.int64(size).tobytes(), 512, torch.device("cpu"))

    first = layout(1)
    with monkeypatch.context() as capturing:
        capturing.setattr(device_tables, "is_capturing", lambda device: True)
        assert layout(1) is first and layout(2) is None
    for size in range(2, 3 * device_tables.MAX_LAYOUTS):
        layout(2), layout(size)
    assert len(device_tables._layouts) == device_tables.MAX_LAYOUTS
    assert layout(2) is layout(2) and layout(1) is not first
    monkeypatch.setattr(device_tables, "is_capturing", lambda device: True)
    assert layout(1) is first, "what a graph reads is neither dropped nor replaced"


def test_autograd_notices(as_on_cuda):
    weight = nn.Parameter(torch.ones(3))
    loss = weight.square().sum()
    weight.grad = torch.ones(3)
    Lion([weight], lr=0.1, fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_complex_parameters_through_the_optimizer(as_on_cuda, launches):
    torch.manual_seed(0)
    data, grad = torch.randn(2, 9, dtype=torch.complex64)
    params = [nn.Parameter(data.clone()) for _ in range(2)]
    optimizers = [Lion([params[0]], 0.1, fused=True), Lion([params[1]], 0.1, fused=False)]
    for param, optimizer in zip(params, optimizers, strict=True):
        param.grad = grad
        optimizer.step()
    assert torch.equal(*params) and len(launches) == 1
