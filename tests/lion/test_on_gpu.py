"""The Triton path on a GPU, where there is one: against the CPU, and in a CUDA graph."""

import pytest
import torch
from torch import nn

from lion import Lion, device_tables, fused_cuda, native

FLOATS = ["float32", "bfloat16"]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


def trained(steps, store, dtype, device="cuda", **flags):
    generator = torch.Generator().manual_seed(0)
    sizes = [(2048, 3), (), (257,), (0,), (4096,)]
    params = [nn.Parameter(torch.randn(s, generator=generator).to(device, dtype)) for s in sizes]
    optimizer = Lion(params, lr=0.0, weight_decay=0.3, momentum_dtype=store, **flags)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + step % 5)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator).to(device, dtype)
        optimizer.step()
    return params, [optimizer.state[p] for p in params]


def assert_equal(ours, theirs):
    for x, y in zip(ours[0], theirs[0], strict=True):
        assert torch.equal(x.cpu(), y.cpu())
    for state, expected in zip(ours[1], theirs[1], strict=True):
        assert all(torch.equal(state[key].cpu(), expected[key].cpu()) for key in expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("store", [*FLOATS, "int8"])
@pytest.mark.parametrize("kahan_sum", [False, True])
def test_gpu_equals_the_cpu_to_the_bit(store, dtype, kahan_sum, monkeypatch):
    """In float32 the loop; in bfloat16 the CPU's kernel, as torch's own round it in other ways."""
    if dtype == torch.bfloat16 and native.optional() is None:
        pytest.skip("needs a C++ compiler")
    at_once = []
    real = fused_cuda.step_group
    monkeypatch.setattr(
        fused_cuda, "step_group", lambda *a: at_once.append(real(*a)) or at_once[-1]
    )
    ours = trained(20, store, dtype, fused=True, kahan_sum=kahan_sum)
    assert native.optional() is None or at_once == [False, *[True] * 19]
    loop = {} if dtype == torch.bfloat16 else {"foreach": False, "fused": False}
    assert_equal(ours, trained(20, store, dtype, "cpu", kahan_sum=kahan_sum, **loop))


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("store", [*FLOATS, "int8"])
def test_other_paths_on_a_gpu_are_equal_in_float32(store, foreach):
    """Where Triton does not work, or a graph meets sizes that are new, these go on with a state."""
    ours = trained(20, store, torch.float32, fused=True)
    assert_equal(ours, trained(20, store, torch.float32, foreach=foreach, fused=False))


@pytest.mark.parametrize("new_grads", [False, True])
def test_gpu_graph_follows_lr_and_outlives_the_tables(new_grads):
    """Gradients from before the capture, and gradients that only the graph has."""
    param = nn.Parameter(torch.zeros(3000, device="cuda"))
    lr = torch.tensor(1.0, device="cuda")
    optimizer = Lion([param], lr=lr, capturable=True, fused=True)
    param.grad = torch.ones_like(param)
    optimizer.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        if new_grads:
            param.grad = torch.ones_like(param)
        optimizer.step()
    assert torch.equal(param, torch.full_like(param, -1.0)), "capturing steps nothing"
    device_tables._uploaded.cache_clear()
    for rate in (0.5, 0.25):
        lr.fill_(rate)
        graph.replay()
    assert torch.equal(param, torch.full_like(param, -1.75))
