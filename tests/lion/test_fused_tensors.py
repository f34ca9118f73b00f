"""Which tensors the native CPU kernels take, and that they find what changed between steps."""

import pytest
import torch
from torch import nn

from lion import Lion, loop, native

pytestmark = pytest.mark.skipif(not native.available(), reason="needs a C++ compiler")

SHAPES = [(1000,), (257,), (256,), (3, 5), (), (0, 4), (64, 33), (1,)]


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
