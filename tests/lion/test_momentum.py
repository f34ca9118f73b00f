"""Lean state: momenta in bfloat16 and int8, compensated weights, and the ways between them."""

import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lion import Lion, foreach, momentum
from tests import reference
from tests.lion.test_checkpoint import GooglePort, take_steps

STORAGES = [None, "float32", "bfloat16", "int8"]
PATHS = [{"fused": False}, {"foreach": True}, {}]


@pytest.fixture(autouse=True)
def lists_on_the_cpu(monkeypatch):
    """Let foreach=True step lists, as on a GPU, and not go to the loop."""
    monkeypatch.setattr(foreach, "WITHOUT_KERNELS", frozenset())


def fresh(dtype=torch.float32, sizes=(700, 33)):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(n, generator=generator).to(dtype)) for n in sizes]


def stepped(num_steps, dtype=torch.float32, **options):
    optimizer = Lion(fresh(dtype), weight_decay=0.1, **options)
    take_steps(optimizer, 0, num_steps)
    return optimizer


def tensors(optimizer):
    params = optimizer.param_groups[0]["params"]
    return [*params, *(x for p in params for _, x in sorted(optimizer.state[p].items()))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("momentum_dtype", STORAGES)
def test_storage_is_as_told_whatever_the_parameter(momentum_dtype, dtype):
    optimizer = stepped(2, dtype, momentum_dtype=momentum_dtype)
    for param in optimizer.param_groups[0]["params"]:
        state = optimizer.state[param]
        assert state["exp_avg"].dtype == (getattr(torch, momentum_dtype or "_", dtype))
        assert ("exp_avg_scale" in state) == (momentum_dtype == "int8")


@pytest.mark.parametrize("name, bytes_per_weight", [("float32", 4), ("bfloat16", 2), ("int8", 1.1)])
def test_bytes_of_state_per_weight(name, bytes_per_weight):
    optimizer = Lion(fresh(sizes=(10_000,)), momentum_dtype=name)
    take_steps(optimizer, 0, 1)
    (state,) = optimizer.state.values()
    assert sum(x.nbytes for x in state.values()) <= bytes_per_weight * 10_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("momentum_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("flags", PATHS, ids=str)
def test_each_step_is_the_reference_from_the_stored_state(flags, momentum_dtype, dtype):
    """The momentum is off by one rounding of its storage; the signs follow from what was stored."""
    optimizer = Lion(fresh(dtype), weight_decay=0.1, momentum_dtype=momentum_dtype, **flags)
    param = optimizer.param_groups[0]["params"][0]
    take_steps(optimizer, 0, 1)
    for t in range(1, 21):
        before, state = param.detach().double().numpy().copy(), optimizer.state[param]
        stored = momentum.decode(state["exp_avg"], state.get("exp_avg_scale"), torch.float64)
        take_steps(optimizer, t, t + 1)
        theta, m = reference.lion(
            before,
            param.grad.double().numpy(),
            stored.numpy(),
            lr=0.01 * (1 + t % 5),
            beta1=0.9,
            beta2=0.99,
            weight_decay=0.1,
        )
        np.testing.assert_allclose(param.detach().double().numpy(), theta, rtol=0, atol=1e-6)
        after = momentum.decode(state["exp_avg"], state.get("exp_avg_scale"), torch.float64)
        if momentum_dtype == "int8":
            steps = state["exp_avg_scale"].repeat_interleave(256)[: len(m)].double().numpy()
            assert np.all(np.abs(after.numpy() - m) <= 1.001 * steps)
        else:
            np.testing.assert_allclose(after.numpy(), m, rtol=2**-8, atol=0)


def test_int8_rounding_is_unbiased_and_does_not_freeze_a_momentum():
    """With gradient 0 the momentum decays by 0.99 a step; rounding to nearest would hold it."""
    param = nn.Parameter(torch.zeros(256 * 40))
    optimizer = Lion([param], lr=0.0, momentum_dtype="int8")
    generator = torch.Generator().manual_seed(1)
    param.grad = torch.randn(param.shape, generator=generator)
    optimizer.step()
    state = optimizer.state[param]
    start = momentum.decode(state["exp_avg"], state["exp_avg_scale"], torch.float32).clone()
    largest = (
        start.view(-1, 256).abs().amax(1, keepdim=True).expand(-1, 256).flatten() == start.abs()
    )
    param.grad = torch.zeros_like(param)
    for _ in range(30):
        optimizer.step()
    end = momentum.decode(state["exp_avg"], state["exp_avg_scale"], torch.float32)
    ratio = (end * start.sign())[~largest].sum() / start[~largest].abs().sum()
    assert abs(ratio - 0.99**30) < 0.005


def test_int8_zero_blocks_and_huge_values():
    full = torch.cat(
        [torch.zeros(256), torch.full((256,), 3e38), torch.tensor([float("nan"), 1.0])]
    )
    state = momentum.zeros(full, "int8")
    momentum.encode_(full, state["exp_avg"], state["exp_avg_scale"])
    back = momentum.decode(state["exp_avg"], state["exp_avg_scale"], torch.float32)
    assert back[:256].eq(0).all()
    torch.testing.assert_close(back[256:512], full[256:512], rtol=0.01, atol=0)
    assert back[512].isnan() and abs(back[513] - 1) < 0.01


@pytest.mark.parametrize("flags", PATHS, ids=str)
@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan")])
def test_int8_one_bad_gradient_shows_and_leaves_its_neighbours_alone(flags, bad):
    """As with AdamW that weight is NaN for ever after; the other 255 of its block never notice."""
    ends = []
    for odd in (bad, 1.0):
        param = nn.Parameter(torch.zeros(300))
        optimizer = Lion([param], lr=0.01, momentum_dtype="int8", **flags)
        for t in range(12):
            param.grad = torch.randn(300, generator=torch.Generator().manual_seed(t))
            if t == 3:
                param.grad[7] = odd
            optimizer.step()
        ends.append((param.detach(), *optimizer.state[param].values()))
    (ours, codes, scales), (expected, others, _) = ends
    assert ours.isnan().nonzero().flatten().tolist() == [7]
    assert codes[7] == momentum.NAN_CODE and scales.isfinite().all()
    apart = torch.arange(300) != 7
    assert (ours[apart] != expected[apart]).float().mean() < 0.1, "but for roundings"
    assert (codes[apart].int() - others[apart].int()).abs().max() <= 3
    assert torch.equal(ours[256:], expected[256:])


@pytest.mark.parametrize("layout", ["channels_last", "transposed"])
def test_int8_blocks_follow_the_memory_of_the_parameter(layout):
    data = torch.randn(8, 16, 4, 4)
    if layout == "channels_last":
        data = data.to(memory_format=torch.channels_last)
    else:
        data = data.transpose(0, 3)
    param = nn.Parameter(data)
    results = []
    for flags in ({"fused": False}, {}):
        twin = nn.Parameter(param.detach().clone(memory_format=torch.preserve_format))
        optimizer = Lion([twin], lr=0.1, momentum_dtype="int8", **flags)
        for t in range(3):
            twin.grad = torch.randn(param.shape, generator=torch.Generator().manual_seed(t))
            twin.grad = twin.grad.to(memory_format=torch.preserve_format)
            optimizer.step()
        results.append([twin.detach(), *optimizer.state[twin].values()])
    for x, y in zip(*results, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("first", STORAGES)
@pytest.mark.parametrize("second", STORAGES)
def test_a_checkpoint_moves_between_storages(first, second):
    saved = stepped(5, momentum_dtype=first)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    other = Lion(fresh(), momentum_dtype=second)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.param_groups[0]["momentum_dtype"] == second
    assert other.param_groups[0]["weight_decay"] == 0.1
    for mine, theirs in zip(other.state.values(), saved.state.values(), strict=True):
        x, y = (
            momentum.decode(s["exp_avg"], s.get("exp_avg_scale"), torch.float32)
            for s in (mine, theirs)
        )
        tolerance = {None: 0, "float32": 0, "bfloat16": 2**-8, "int8": 1 / 127}[second]
        assert (x - y).abs().max() <= tolerance * y.abs().max()
    take_steps(other, 5, 7)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("flags", PATHS, ids=str)
@pytest.mark.parametrize("kahan_sum", [False, True])
def test_resume_is_bitwise(flags, storage, kahan_sum):
    options = {**flags, "momentum_dtype": storage, "kahan_sum": kahan_sum}
    straight = stepped(12, torch.bfloat16, **options)
    first = stepped(5, torch.bfloat16, **options)
    file = io.BytesIO()
    torch.save([first.param_groups[0]["params"], first.state_dict()], file)
    file.seek(0)
    params, state = torch.load(file, weights_only=True)
    second = Lion(params, weight_decay=0.1, **options)
    second.load_state_dict(state)
    take_steps(second, 5, 12)
    for x, y in zip(tensors(second), tensors(straight), strict=True):
        assert x.dtype == y.dtype and torch.equal(x, y)


def test_an_int8_run_can_be_handed_to_googles_lion():
    saved = stepped(5, momentum_dtype="int8")
    bridge = Lion(fresh())
    bridge.load_state_dict(saved.state_dict())
    google = GooglePort(saved.param_groups[0]["params"])
    google.load_state_dict(bridge.state_dict())
    for state in google.state.values():
        assert state["exp_avg"].dtype == torch.float32
    take_steps(google, 5, 6)


def test_a_step_never_changes_the_dtype_of_a_parameter_or_gradient():
    for dtype in (torch.bfloat16, torch.float16):
        optimizer = stepped(2, dtype, momentum_dtype="int8", kahan_sum=True)
        for param in optimizer.param_groups[0]["params"]:
            assert param.dtype == param.grad.dtype == dtype
            assert optimizer.state[param]["kahan_comp"].dtype == dtype


@pytest.mark.parametrize("flags", PATHS, ids=str)
def test_compensated_bfloat16_weights_follow_float32_where_plain_ones_stand_still(flags):
    """A step of 1e-3 is below half a unit in the last place of bfloat16 at 1: it is lost."""
    ends = {}
    for name, dtype, kahan_sum in [
        ("float32", torch.float32, False),
        ("plain", torch.bfloat16, False),
        ("compensated", torch.bfloat16, True),
    ]:
        param = nn.Parameter(torch.ones(64, dtype=dtype))
        optimizer = Lion([param], lr=1e-3, weight_decay=0.1, kahan_sum=kahan_sum, **flags)
        for _ in range(100):
            param.grad = torch.ones_like(param)
            optimizer.step()
        ends[name] = param.float()
    assert ends["plain"].eq(1).all()
    assert (ends["compensated"] - ends["float32"]).abs().max() < 0.004  # one rounding, not 100
    assert ends["float32"].lt(0.9).all()


def test_compensation_does_nothing_to_float32():
    assert all(map(torch.equal, tensors(stepped(3)), tensors(stepped(3, kahan_sum=True))))


def test_unknown_storages_are_refused():
    with pytest.raises(ValueError, match="one of float32, bfloat16"):
        Lion(fresh(), momentum_dtype="int4")
    param = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    with pytest.raises(ValueError, match="momentum_dtype=None"):
        Lion([param], momentum_dtype="bfloat16").step()


class Divisions(TorchDispatchMode):
    """Counts divisions by tensors, and what rounds twice on a GPU or comes from the host."""

    def __init__(self):
        super().__init__()
        self.count, self.wrong = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        is_division = name in ("div", "div_")
        is_exact = is_division and all(isinstance(x, torch.Tensor) for x in args)
        self.count += is_exact
        if (is_division and not is_exact) or name in ("reciprocal", "lift_fresh", "detach_"):
            self.wrong.append(name)
        return func(*args, **(kwargs or {}))


def test_scales_are_divided_alike_on_every_device():
    """By a number torch divides on a GPU as it multiplies by 1 / number, with two roundings.

    Nothing comes from the host either: a step must not wait, and may be in a CUDA graph.
    """
    state = momentum.zeros(torch.zeros(700), "int8")
    full = torch.randn(700, generator=torch.Generator().manual_seed(0))
    with Divisions() as seen:
        momentum.encode_(full, state["exp_avg"], state["exp_avg_scale"])
    assert seen.count == 2 and not seen.wrong
    with Divisions() as seen:
        (127.0 / full, full / 127.0, full.new_tensor(127.0))
    assert seen.wrong[:2] == ["reciprocal", "div"] and len(seen.wrong) > 2, "it would be seen"
