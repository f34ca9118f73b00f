"""The Triton path, proved in the interpreter and in compiled code; test_on_gpu.py runs it."""

import itertools
import os
import re
import subprocess
import sys
import warnings
from array import array
from pathlib import Path

import pytest
import torch
from torch import nn

from lion import backends, device_tables, fused, fused_cuda, kinds, native

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
        [sys.executable, "-m", "pytest", "-q", "-x", "--assert=plain", "tests/lion/interpreted.py"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted and int(counted[1]) >= 28 and "skipped" not in done.stdout


# --- the code that a GPU would run, compiled without one ---------------------------------------


def ptx_of(
    param,
    momentum,
    capability,
    *,
    compensated=False,
    lr_on_device=False,
    aligned=True,
    grad_aligned=True,
    fuse=False,
):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lion.triton_kernel import lion_step

    constants = {"PARAM": param, "MOMENTUM": momentum, "BLOCK": fused_cuda.BLOCK}
    constants |= {"LR_ON_DEVICE": lr_on_device, "COMPENSATED": compensated}
    constants |= {"ALIGNED": aligned, "GRAD_ALIGNED": grad_aligned}
    types = dict.fromkeys(lion_step.arg_names, "fp32") | dict.fromkeys(constants, "constexpr")
    types |= {"addresses": "*i64", "layout": "*i64", "lr_pointer": "*fp32"}
    types |= {"num_tensors": "i32", "weight_decay_bits": "i64"}
    return triton.compile(
        ASTSource(lion_step, types, constants),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": fused_cuda.NUM_WARPS, "enable_fp_fusion": fuse},
    ).asm["ptx"]


def count(ptx, instruction):
    """How many values it is done to: Blackwell's `.f32x2` does it to two, each rounded."""
    one, two = (
        len(re.findall(rf"(?m)^\s*(?:@\S+ )?{re.escape(name)}\s", ptx))
        for name in (instruction, f"{instruction}x2")
    )
    return one + 2 * two


def sums(ptx):
    """Of sums and differences: either may be made of the other."""
    return count(ptx, "add.rn.f32") + count(ptx, "sub.rn.f32")


@pytest.fixture
def fresh_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@needs_triton
@pytest.mark.parametrize(
    ("capability", "param", "momentum"),
    [
        *itertools.product((80, 90), (*FLOATS, "compensated"), (*FLOATS, "int8")),
        *((100, "float32", "int8"), (100, "compensated", "bfloat16"), (120, "bfloat16", "float32")),
    ],
)
def test_compiled_code_rounds_as_the_loop(capability, param, momentum, fresh_cache):
    """Every product and sum is an instruction that rounds; one fma a value, for the momentum.

    `.rn` forbids the assembler to contract. The body is there twice: whole blocks and a tensor's
    end. m * beta1, g * gain1, p * decay and m * beta2 are products; int8 adds scale, 1 / scale
    and the noise; a compensated weight adds its residual and takes what rounding left.
    """
    compensated = param == "compensated"
    param = "bfloat16" if compensated else param
    ptx = ptx_of(param, momentum, capability, compensated=compensated)
    bodies = 2 * NUM_VALUES
    int8 = momentum == "int8"
    assert count(ptx, "fma.rn.f32") == bodies
    assert count(ptx, "mul.rn.f32") == bodies * (7 if int8 else 4)
    # Triton before 3.7 negates lr by subtracting it from 0, once in each body, which is exact; on
    # Blackwell its pairs may have a half that nothing reads.
    extra = sums(ptx) - bodies * (2 + int8 + 2 * compensated)
    assert extra in (0, 2) or (capability >= 100 and 0 < extra < bodies)
    for unsafe in ("mul.f32", "add.f32", "sub.f32", "fma.f32", "div.full.f32", "div.approx.f32"):
        assert count(ptx, unsafe) == 0, unsafe
    # Triton 3.5 takes div.rn.ftz; what is divided in int8, and what comes out, is never subnormal
    assert ".ftz" not in ptx.replace("div.rn.ftz.f32", ""), "subnormal numbers are kept"
    for way in ("ld", "st"):  # 16 bytes at a time, or 32
        assert re.search(rf"{way}\.global\.v(4\.b32|8\.b32|4\.b64|2\.b64)", ptx)


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
    assert ".global.v" not in ptx_of("float32", "float32", 80, aligned=False, grad_aligned=False)


@needs_triton
def test_gradients_alone_may_be_unaligned(fresh_cache):
    """As DDP's are: the rest is read and written in wide words still."""
    ptx = ptx_of("float32", "float32", 80, grad_aligned=False)
    wide = "ld.global.v4.b32"
    assert 0 < count(ptx, wide) < count(ptx_of("float32", "float32", 80), wide)
    assert "st.global.v4.b32" in ptx


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

    def variant(number, rate, lr=table):
        bits = fused_cuda.bits_of(rate)
        floats = (rate,) * 6
        constants = ("float32", "float32", False, False, True, True, 2048)
        arguments = (table, table, lr, number, *floats[:2], bits, *floats[2:], *constants)
        return str(bind(*arguments)[1])

    variants = {variant(number, rate) for number in (1, 7, 16) for rate in (0.0, 1.0, 0.1, 5e-324)}
    assert len(variants) == 1
    rates = torch.zeros(3)
    assert variant(1, 0.1, rates[0]) == variant(1, 0.1, rates[1]), "one of several, unaligned"


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
    with pytest.warns(
        RuntimeWarning, match="slower path on cuda:7 for .*pip install triton, or use"
    ):
        assert not fused_cuda.available(device)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not fused_cuda.available(device)
    monkeypatch.setattr(device_tables, "is_capturing", lambda device: True)
    assert not fused_cuda.available(torch.device("cuda", 8))
    assert [kind.device for kind, _ in fused_cuda._works] == [device], (
        "nothing is tried while a graph is captured"
    )


def test_a_kind_that_fails_takes_the_slower_path_alone(monkeypatch):
    device = torch.device("cuda", 7)
    monkeypatch.setattr(fused_cuda, "_works", {})
    monkeypatch.setattr(device_tables, "is_capturing", lambda device: False)
    monkeypatch.setattr(fused_cuda, "is_installed", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)

    def launch(kind, lr_dtype):
        if kind.momentum == "int8" or lr_dtype:
            raise RuntimeError("no such instruction")

    monkeypatch.setattr(fused_cuda, "_launch_on_scratch", launch)
    assert fused_cuda.available(device)
    with pytest.warns(RuntimeWarning, match="float32 with int8 momenta: .*no such instruction"):
        assert not fused_cuda._kind_works(kinds.Kind(device, "float32", "int8"))
    assert fused_cuda.available(device)
    plain = kinds.Kind(device, "float32", "float32")
    with monkeypatch.context() as capturing:
        capturing.setattr(device_tables, "is_capturing", lambda device: True)
        assert fused_cuda._kind_works(plain, 0.5)
        assert not fused_cuda._kind_works(plain, torch.tensor(0.5)), "it would be compiled there"
    with pytest.warns(RuntimeWarning, match="no such instruction"):
        assert not fused_cuda._kind_works(plain, torch.tensor(0.5))


# --- native code and Python tell the same of a tensor --------------------------------------------


def odd_rows():
    """(parameter, gradient, momentum, rest of the state); the names are of what is odd."""
    memory = torch.zeros(64)
    memory = memory[(-memory.data_ptr() // 4) % 4 :]
    plain = torch.ones(4, 6)
    yield "plain", (plain, plain, plain, {})
    yield "unaligned", (memory[1:9], memory[20:28], memory[32:40], {})
    yield "unaligned gradient", (memory[:8], memory[21:29], memory[32:40], {})
    yield "gaps", (plain[:, ::2], plain[:, ::2], plain[:, ::2], {})
    yield "transposed", (plain.t(), plain.t(), plain.t(), {})
    yield "other layout", (plain, torch.ones(6, 4).t(), plain, {})
    yield "expanded", (plain, torch.ones(1).expand(4, 6), plain, {})
    yield "float64", (plain.double(), plain.double(), plain.double(), {})
    yield "other dtype", (plain, plain, plain.bfloat16(), {})
    yield "negated", (plain, torch.ones(4, 6, dtype=torch.complex64).conj().imag, plain, {})
    yield "meta", (plain.to("meta"), plain.to("meta"), plain.to("meta"), {})
    half, codes = plain.bfloat16(), plain.to(torch.int8)
    yield "half", (half, half, half, {})
    yield "compensated", (half, half, plain, {"kahan_comp": half})
    yield "residual of float32", (plain, plain, plain, {"kahan_comp": plain})
    yield "int8", (half, half, codes, {"exp_avg_scale": torch.zeros(1)})
    yield "int8 without scale", (half, half, codes, {})
    yield "scales too few", (plain, plain, codes, {"exp_avg_scale": torch.zeros(0)})
    with torch.inference_mode():
        made = torch.ones(4, 6)
    yield "inference", (plain, plain, made, {})
    yield "inference gradient", (plain, made, plain, {})


@pytest.mark.skipif(native.optional() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize(
    "name, row", list(odd_rows()), ids=lambda x: x if isinstance(x, str) else ""
)
def test_native_code_and_python_agree_on_a_tensor(name, row, monkeypatch):
    monkeypatch.setattr(kinds, "DEVICE", "cpu")
    param, grad, exp_avg, rest = row
    expected = kinds.kind_of(param, grad, exp_avg, rest, 0.1)
    param = nn.Parameter(param.detach())
    param.grad = grad
    group = {"params": [param], "momentum_dtype": "int8", "kahan_sum": True}
    handles = fused.group_handles(group, {param: {"exp_avg": exp_avg, **rest}})
    table = array("q", bytes(8 * 256))
    addresses = [x.buffer_info()[0] for x in (handles, table)]
    length = native.library().lion_table(1, addresses[0], False, 0, addresses[1])
    device = torch.device("cpu")
    found = [kind for kind, *_ in kinds.kinds_of(memoryview(table)[: max(length, 0)], device)]
    assert found == ([] if expected is None else [expected])
    assert (length < 0) == (expected is None)
