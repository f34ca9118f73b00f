"""The Triton path: proved in the interpreter and in compiled code; on a GPU where there is one."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from lion import Lion, backends, device_tables, fused_cuda

ROOT = Path(__file__).resolve().parents[2]
NUM_VALUES = fused_cuda.BLOCK // (32 * fused_cuda.NUM_WARPS)  # of each tensor, in a thread
FLOATS = ["float32", "bfloat16"]

needs_triton = pytest.mark.skipif(
    not fused_cuda.is_installed(), reason="needs Triton, which comes with torch's CUDA builds"
)


@needs_triton
def test_kernel_in_the_interpreter():
    """Runs interpreted.py; see there for what is compared."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "tests/lion/interpreted.py"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted and int(counted[1]) >= 28 and "skipped" not in done.stdout


# --- the code that a GPU would run, compiled without one ---------------------------------------


def ptx_of(param, momentum, capability, *, lr_on_device=False, aligned=True, fuse=False):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lion.triton_kernel import lion_step

    constants = {"PARAM": param, "MOMENTUM": momentum, "BLOCK": fused_cuda.BLOCK}
    constants |= {"LR_ON_DEVICE": lr_on_device, "ALIGNED": aligned}
    types = dict.fromkeys(lion_step.arg_names, "fp32") | dict.fromkeys(constants, "constexpr")
    types |= {"addresses": "*i64", "layout": "*i64", "lr_pointer": "*fp32"}
    types |= {"num_tensors": "i32", "weight_decay_bits": "i64"}
    return triton.compile(
        ASTSource(lion_step, types, constants),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": fused_cuda.NUM_WARPS, "enable_fp_fusion": fuse},
    ).asm["ptx"]


def count(ptx, instruction):
    return len(re.findall(rf"(?m)^\s*(?:@\S+ )?{re.escape(instruction)}\s", ptx))


@pytest.fixture
def fresh_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("momentum", [*FLOATS, "int8"])
@pytest.mark.parametrize("param", FLOATS)
def test_compiled_code_rounds_as_the_loop(param, momentum, capability, fresh_cache):
    """Every product and sum is an instruction that rounds; one fma a value, for the momentum.

    `.rn` forbids the assembler to contract. The body is there twice: whole blocks and a tensor's
    end. m * beta1, g * gain1, p * decay and m * beta2 are products; int8 adds scale, 1 / scale
    and the noise.
    """
    ptx = ptx_of(param, momentum, capability)
    bodies = 2 * NUM_VALUES
    int8 = momentum == "int8"
    assert count(ptx, "fma.rn.f32") == bodies
    assert count(ptx, "mul.rn.f32") == bodies * (7 if int8 else 4)
    assert count(ptx, "add.rn.f32") == bodies * (2 if int8 else 1)
    assert count(ptx, "sub.rn.f32") == bodies
    for unsafe in ("mul.f32", "add.f32", "sub.f32", "fma.f32", "div.full.f32", "div.approx.f32"):
        assert count(ptx, unsafe) == 0, unsafe
    assert ".ftz" not in ptx, "subnormal numbers are kept"
    assert "ld.global.v4.b32" in ptx and "st.global.v4.b32" in ptx


@needs_triton
def test_the_counts_would_show_a_contraction(fresh_cache):
    ptx = ptx_of("float32", "float32", 80, fuse=True)
    assert count(ptx, "mul.rn.f32") != 8 * NUM_VALUES


@needs_triton
def test_lr_on_the_device_is_used_in_double(fresh_cache):
    ptx = ptx_of("float32", "float32", 90, lr_on_device=True)
    assert count(ptx, "mul.rn.f64") == 1 and count(ptx, "fma.rn.f64") == 0


@needs_triton
def test_unaligned_tensors_are_read_value_by_value(fresh_cache):
    assert ".global.v" not in ptx_of("float32", "float32", 80, aligned=False)


@needs_triton
def test_no_value_of_a_number_compiles_anew():
    """Triton makes a variant for integers that are 1 or divisible by 16, unless told not to."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend
    from triton.runtime.jit import create_function_from_signature

    from lion.triton_kernel import lion_step

    backend = make_backend(GPUTarget("cuda", 80, 32))
    bind = create_function_from_signature(lion_step.signature, lion_step.params, backend)
    table = torch.zeros(8, dtype=torch.int64)

    def variant(number, rate):
        bits = fused_cuda.bits_of(rate)
        floats = (rate,) * 6
        constants = ("float32", "float32", False, True, 2048)
        arguments = (table, table, table, number, *floats[:2], bits, *floats[2:], *constants)
        return str(bind(*arguments)[1])

    variants = {variant(number, rate) for number in (1, 7, 16) for rate in (0.0, 1.0, 0.1, 5e-324)}
    assert len(variants) == 1


# --- how it is chosen ----------------------------------------------------------------------------


class OnCuda(nn.Parameter):
    """Looks like a parameter on a GPU, as far as the choice looks."""

    device = torch.device("cuda", 0)
    is_cpu = False


@pytest.mark.parametrize("works", [True, False])
def test_choice_on_a_gpu(monkeypatch, works):
    monkeypatch.setattr(fused_cuda, "available", lambda device: works)
    monkeypatch.setattr(backends, "_is_plain", lambda param: True)
    params = [OnCuda(torch.ones(1))]
    assert backends.choose(params, foreach=None) == ("fused_cuda" if works else "foreach")
    assert backends.choose(params, foreach=None, fused=True) == "fused_cuda"
    assert backends.choose(params, foreach=None, fused=False) == "foreach"
    assert backends.choose(params, foreach=True) == "foreach"
    assert backends.choose(params, foreach=False) == "loop"
    mixed = [*params, nn.Parameter(torch.ones(1))]
    assert backends.choose(mixed, foreach=None) != "fused_cuda"
    assert backends.load("fused_cuda") is fused_cuda.update


def test_a_gpu_where_triton_fails_is_told_once(monkeypatch):
    device = torch.device("cuda", 7)
    monkeypatch.setattr(fused_cuda, "_works", {})
    monkeypatch.setattr(device_tables, "is_capturing", lambda device: False)
    monkeypatch.setattr(fused_cuda, "is_installed", lambda: False)
    with pytest.warns(RuntimeWarning, match="slower path on cuda:7: .*pip install triton, or use"):
        assert not fused_cuda.available(device)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not fused_cuda.available(device)
    monkeypatch.setattr(device_tables, "is_capturing", lambda device: True)
    assert not fused_cuda.available(torch.device("cuda", 8))
    assert list(fused_cuda._works) == [device], "nothing is tried while a graph is captured"


# --- on a GPU ------------------------------------------------------------------------------------

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def trained(steps, store, dtype, **flags):
    generator = torch.Generator().manual_seed(0)
    sizes = [(2048, 3), (), (257,), (0,), (4096,)]
    params = [nn.Parameter(torch.randn(s, generator=generator).cuda().to(dtype)) for s in sizes]
    optimizer = Lion(params, lr=0.0, weight_decay=0.3, momentum_dtype=store, **flags)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + step % 5)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator).cuda().to(dtype)
        optimizer.step()
    return params, [optimizer.state[p] for p in params]


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("store", [*FLOATS, "int8"])
def test_gpu_equals_the_loop_to_the_bit(store, dtype):
    ours, theirs = trained(20, store, dtype, fused=True), trained(20, store, dtype, foreach=False)
    for x, y in zip(ours[0], theirs[0], strict=True):
        assert torch.equal(x, y)
    for state, expected in zip(ours[1], theirs[1], strict=True):
        assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.gpu
@on_gpu
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
