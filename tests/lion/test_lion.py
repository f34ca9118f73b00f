"""Lion as a torch optimizer: conventions, flags, and errors that name the remedy."""

import copy
import pickle
from unittest import mock

import pytest
import torch
from torch import nn

from lion import Lion, backends, foreach, loop, native

FLAGS = [{"fused": False}, {"foreach": True}, {"fused": True}]
PATHS = pytest.mark.parametrize("flags", FLAGS, ids=str)


def with_grad(data, grad):
    param = nn.Parameter(data)
    param.grad = grad
    return param


# --- torch.optim's conventions -----------------------------------------------------------------


@PATHS
def test_missing_gradient_leaves_weight_and_state_untouched(flags):
    trained, idle = with_grad(torch.ones(3), torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = Lion([trained, idle], lr=0.1, weight_decay=0.1, **flags)
    optimizer.step()
    assert torch.equal(idle, torch.ones(3)) and idle not in optimizer.state
    trained.grad, idle.grad = None, torch.ones(3)
    before = optimizer.state[trained]["exp_avg"].clone()
    optimizer.step()
    assert torch.equal(optimizer.state[trained]["exp_avg"], before)
    assert not torch.equal(idle, torch.ones(3))


@PATHS
def test_no_gradients_at_all_is_a_no_op(flags):
    param = nn.Parameter(torch.ones(3))
    assert Lion([param], **flags).step() is None
    assert torch.equal(param, torch.ones(3))


@PATHS
def test_zero_gradient_only_decays(flags):
    """sign(0) = 0, and a zero gradient is not a missing one."""
    param = with_grad(torch.full((3,), 2.0), torch.zeros(3))
    Lion([param], lr=0.1, weight_decay=0.5, **flags).step()
    assert torch.allclose(param, torch.full((3,), 2.0 * 0.95))


def test_closure_runs_with_gradients_and_its_loss_is_returned():
    param = nn.Parameter(torch.tensor([3.0, -4.0]))
    optimizer = Lion([param], lr=0.5)

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = param.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 25.0
    assert param.tolist() == [2.5, -3.5]


@PATHS
def test_maximize_is_minimize_of_the_negative(flags):
    grads = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    up, down = nn.Parameter(torch.ones(7)), nn.Parameter(torch.ones(7))
    optimizers = [Lion([up], maximize=True, **flags), Lion([down], **flags)]
    for grad in grads:
        up.grad, down.grad = grad.clone(), -grad
        for optimizer in optimizers:
            optimizer.step()
        assert torch.equal(up.grad, grad)  # gradients are only read
    assert torch.equal(up, down)
    assert torch.equal(optimizers[0].state[up]["exp_avg"], optimizers[1].state[down]["exp_avg"])


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=["number", "tensor"])
@pytest.mark.parametrize("name, is_cpu", [("loop", []), ("foreach", []), ("foreach", [True])])
def test_lists_of_an_accelerator_climb_in_every_dtype(name, is_cpu, lr, monkeypatch):
    """Tried on the CPU; where a list has tensors of both, those of the CPU are left to the loop."""
    generator = torch.Generator().manual_seed(0)
    dtypes = (torch.bfloat16, torch.float64, torch.float32)
    columns = [[torch.randn(9, generator=generator).to(d) for d in dtypes] for _ in range(3)]
    options = {"lr": lr, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
    expected = [[x.clone() for x in column] for column in columns]
    for param, grad, exp_avg in zip(*expected, strict=True):
        loop.update([param], [-grad], [exp_avg], maximize=False, **options)
    is_without = mock.MagicMock()  # first all devices are asked for, then that of each bucket
    is_without.__contains__.side_effect = [False] * 3 + (is_cpu or [False]) * 3
    monkeypatch.setattr(foreach, "WITHOUT_KERNELS", is_without)
    backends.load(name)(*columns, maximize=True, **options)
    for k in (0, 2):
        assert all(map(torch.equal, columns[k], expected[k]))


def test_groups_override_every_hyper_parameter():
    first, second = (with_grad(torch.ones(2), torch.tensor([1.0, -1.0])) for _ in range(2))
    groups = [{"params": [first]}]
    optimizer = Lion(groups, lr=0.1)
    override = {"params": [second], "lr": 0.5, "betas": [0.0, 0.5], "weight_decay": 1.0}
    optimizer.add_param_group({**override, "maximize": True, "foreach": True})
    optimizer.step()
    assert first.tolist() == pytest.approx([0.9, 1.1])
    assert second.tolist() == [1.0, 0.0]
    assert optimizer.state[second]["exp_avg"].tolist() == [-0.5, 0.5]
    assert groups == [{"params": [first]}], "the caller's dicts are left alone"


def test_named_parameters_and_hooks_and_schedulers_work():
    model = nn.Linear(2, 2)
    optimizer = Lion(model.named_parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("pre"))
    optimizer.register_step_post_hook(lambda *_: seen.append("post"))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler.step()
    assert seen == ["pre", "post"]
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]


def test_pickle_and_deepcopy():
    param = with_grad(torch.ones(2), torch.ones(2))
    optimizer = Lion([param], lr=0.1)
    optimizer.step()
    for clone in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        (twin,) = clone.param_groups[0]["params"]
        twin.grad = torch.ones(2)
        clone.step()
        assert torch.allclose(twin, torch.full((2,), 0.8))


def test_repr_and_defaults_are_the_papers():
    group = Lion([nn.Parameter(torch.ones(1))]).param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.9, 0.99), 0.0)


# --- learning rates as tensors, backends, flags ---------------------------------------------------


@PATHS
@pytest.mark.parametrize("shape", [(), (1,)])
def test_tensor_lr_is_followed_in_place(flags, shape):
    lr = torch.full(shape, 0.5)
    params = [
        with_grad(torch.zeros(2), torch.ones(2)),
        with_grad(torch.tensor(0.0), torch.tensor(1.0)),
    ]
    optimizer = Lion(params, lr=lr, **flags)
    optimizer.step()
    lr.fill_(0.25)
    optimizer.step()
    assert [p.tolist() for p in params] == [[-0.75, -0.75], -0.75]


@pytest.mark.parametrize("has_kernels", [True, False])
def test_backend_choice(monkeypatch, has_kernels):
    monkeypatch.setattr(native, "available", lambda: has_kernels)
    param = [nn.Parameter(torch.ones(1))]
    assert backends.choose(param, foreach=None) == ("fused" if has_kernels else "loop")
    assert backends.choose(param, foreach=None, fused=True) == "fused"
    assert backends.choose(param, foreach=None, fused=False) == "loop"
    assert backends.choose(param, foreach=False, fused=False) == "loop"
    assert backends.choose(param, foreach=True, differentiable=False) == "foreach"
    assert backends.choose(param, foreach=None, differentiable=True) == "differentiable"
    assert backends.load("foreach") is foreach.update
    with pytest.raises(AssertionError, match="nonesuch"):
        backends.load("nonesuch")


@pytest.mark.parametrize(
    "flags, in_loop", [({"foreach": False}, 3), ({"fused": False}, 3), ({}, 0)]
)
def test_the_choice_holds_for_every_step(flags, in_loop, monkeypatch):
    """From the second step on a whole group may be stepped at once: by the same choice."""
    native.available()
    seen, real = [], loop.update
    monkeypatch.setattr(loop, "update", lambda *a, **k: (seen.append(1), real(*a, **k)))
    optimizer = Lion([with_grad(torch.ones(3), torch.ones(3))], **flags)
    for _ in range(3):
        optimizer.step()
    assert len(seen) == (in_loop if native.available() else 3)


def test_differentiable_gives_hyper_gradients():
    """d theta_t / d lr = -(sign(c) + wd * theta), d theta_t / d theta_{t-1} = 1 - lr * wd."""
    start = torch.tensor([2.0, -3.0], dtype=torch.float64, requires_grad=True)
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    param = start.clone()
    optimizer = Lion([param], lr=lr, weight_decay=0.5, differentiable=True)
    for _ in range(2):
        param.grad = torch.tensor([1.0, -1.0], dtype=torch.float64)
        optimizer.step()
    by_lr, by_start = torch.autograd.grad(param.sum(), [lr, start])
    shrink, signs = 1 - 0.1 * 0.5, torch.tensor([1.0, -1.0])
    first = start.detach() * shrink - 0.1 * signs
    d_first = -(signs + 0.5 * start.detach())
    expected = (shrink * d_first - (signs + 0.5 * first)).sum()
    assert torch.isclose(by_lr, expected)
    assert torch.allclose(by_start, torch.full((2,), shrink**2, dtype=torch.float64))


def test_graph_capture_needs_the_flag_and_an_lr_on_the_device(monkeypatch):
    captured = [True]  # there may be no GPU here
    monkeypatch.setattr("lion.lion._is_captured", lambda params: captured[-1])
    params = [with_grad(torch.ones(2), torch.ones(2))]
    with pytest.raises(RuntimeError, match=r"use Lion\(capturable=True\)"):
        Lion(params).step()
    elsewhere = torch.tensor(0.1, device="meta")
    with pytest.raises(ValueError, match="freeze the value of lr, a tensor on meta: move it"):
        Lion(params, lr=elsewhere, capturable=True).step()
    assert torch.equal(params[0], torch.ones(2))
    optimizer = Lion(params, lr=0.25, capturable=True)
    with pytest.raises(RuntimeError, match="momentum of 0: take one step before"):
        optimizer.step()
    captured.append(False)
    optimizer.step()
    captured.append(True)
    optimizer.step()
    assert params[0].tolist() == [0.5, 0.5]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_captured_graph_follows_the_lr():
    param = nn.Parameter(torch.zeros(3, device="cuda"))
    param.grad = torch.ones_like(param)
    lr = torch.tensor(1.0, device="cuda")
    optimizer = Lion([param], lr=lr, capturable=True)
    optimizer.step()  # makes the state
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    lr.fill_(0.5)
    graph.replay()
    assert param.tolist() == [-1.5] * 3


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"lr": -1.0}, r"lr must be finite and >= 0, got -1.0: .*3-10x less"),
        ({"lr": float("nan")}, "lr must be finite and >= 0, got nan"),
        ({"lr": float("inf")}, "lr must be finite and >= 0, got inf"),
        ({"lr": "1e-4"}, "lr must be a number, got '1e-4' .*YAML"),
        ({"lr": None}, "lr must be a number, got None"),
        ({"lr": torch.ones(2)}, r"a tensor lr must have 1 element, got shape \(2,\)"),
        ({"lr": torch.tensor(-1.0)}, "lr must be finite and >= 0, got -1.0"),
        ({"betas": (1.0, 0.99)}, r"betas\[0\] must be in \[0, 1\), got 1.0: .*0.95, 0.98"),
        ({"betas": (0.9, -0.1)}, r"betas\[1\] must be in \[0, 1\), got -0.1"),
        ({"betas": (0.9, float("nan"))}, r"betas\[1\] must be in \[0, 1\), got nan"),
        ({"betas": 0.9}, "betas must be a pair of numbers, got 0.9"),
        ({"betas": (0.9, 0.99, 0.999)}, "betas must be a pair"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and >= 0, got -0.1"),
        ({"differentiable": True, "foreach": True}, "leave foreach=None"),
        ({"differentiable": True, "capturable": True}, "capturable=False"),
    ],
    ids=str,
)
def test_bad_hyper_parameters_are_named(bad, message):
    param = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match=message):
        Lion([param], **bad)
    with pytest.raises(ValueError, match=message):
        Lion([{"params": [param], **bad}])
    optimizer = Lion([param])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], **bad})
    assert len(optimizer.param_groups) == 1


def test_params_that_torch_refuses_are_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        Lion([])
    with pytest.raises(TypeError, match="must be a dict"):
        Lion([nn.Parameter(torch.ones(1))]).add_param_group([1])


@pytest.mark.slow
def test_compiled_step_follows_a_changing_lr_without_recompiling():
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(7, 3)), nn.Parameter(torch.randn(()))]
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    lr = torch.tensor(0.0)
    compiled, eager = Lion(params, lr=lr, weight_decay=0.1), Lion(twins, weight_decay=0.1)
    step = torch.compile(compiled.step)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for t in range(1, 7):
        lr.fill_(0.01 * t)
        eager.param_groups[0]["lr"] = 0.01 * t
        for param, twin in zip(params, twins, strict=True):
            param.grad = torch.randn_like(param)
            twin.grad = param.grad.clone()
        step()
        eager.step()
    for param, twin in zip(params, twins, strict=True):
        torch.testing.assert_close(param, twin, rtol=1e-6, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
