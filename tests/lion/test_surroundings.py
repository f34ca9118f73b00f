"""What torch is set to globally changes neither the state of an optimizer nor its steps."""

import contextlib

import pytest
import torch
from torch import nn

from lion import AddSign, HeroLion, Lion, PowerSign, native, passes, scratch
from tests.lion.test_checkpoint import take_steps

MAKERS = {
    "default": Lion,
    "loop": lambda p, **o: Lion(p, fused=False, **o),
    "foreach": lambda p, **o: Lion(p, foreach=True, **o),
    "int8": lambda p, **o: Lion(p, momentum_dtype="int8", **o),
    "int8 loop": lambda p, **o: Lion(p, momentum_dtype="int8", fused=False, **o),
    "kahan": lambda p, **o: Lion(p, momentum_dtype="bfloat16", kahan_sum=True, **o),
    "HeroLion": HeroLion,
    "PowerSign": PowerSign,
    "AddSign": AddSign,
}


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "default dtype": default_dtype,
    "default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast of a GPU": lambda: torch.autocast("cuda", torch.float16),
    "no grad": torch.no_grad,
    "grad": torch.enable_grad,
    "deterministic": deterministic,
    "anomaly": torch.autograd.detect_anomaly,
}
pytestmark = pytest.mark.filterwarnings("ignore:.*CUDA is not available", "ignore:Anomaly")


def trained(make, dtype, surroundings):
    """Two steps within, a checkpoint loaded within, two steps without; parameters and state."""
    generator = torch.Generator("cpu").manual_seed(0)
    start = [torch.randn(n, generator=generator).to(dtype) for n in (300, 5)]
    sets = [[nn.Parameter(x.clone()) for x in start] for _ in range(2)]
    optimizers = [make(params, weight_decay=0.1) for params in sets]
    grads = [[torch.randn(n, generator=generator).to(dtype) for n in (300, 5)] for _ in range(4)]

    def step(optimizer, t):
        for param, grad in zip(optimizer.param_groups[0]["params"], grads[t], strict=True):
            param.grad = grad.clone()
        optimizer.step()

    scratch._kept.__init__()  # so that the temporaries of the loop are made within, too
    passes._product_is_rounded.cache_clear()
    with surroundings():
        step(optimizers[0], 0)
        step(optimizers[0], 1)
        optimizers[1].load_state_dict(optimizers[0].state_dict())
    for optimizer in optimizers:
        step(optimizer, 2)
        step(optimizer, 3)
    return [
        x
        for optimizer in optimizers
        for p, state in optimizer.state.items()
        for x in (p, *state.values())
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MAKERS)
def test_nothing_follows_global_settings(name, dtype):
    """Dtypes, devices and bits are those of an undisturbed run; all of it can still be stepped."""
    native.available()
    expected = trained(MAKERS[name], dtype, contextlib.nullcontext)
    for label, surroundings in SURROUNDINGS.items():
        for x, y in zip(trained(MAKERS[name], dtype, surroundings), expected, strict=True):
            assert (x.dtype, x.device) == (y.dtype, y.device), label
            assert torch.equal(x, y) and not x.is_inference(), label


@pytest.mark.parametrize("name", MAKERS)
def test_a_checkpoint_made_in_inference_mode_can_be_gone_on_from(name):
    first, second = (nn.Parameter(torch.zeros(300)) for _ in range(2))
    optimizer, other = MAKERS[name]([first]), MAKERS[name]([second])
    take_steps(optimizer, 0, 1)
    with torch.inference_mode():
        state = optimizer.state_dict()
        for entry in state["state"].values():
            entry.update({key: x.clone() for key, x in entry.items()})
    other.load_state_dict(state)
    take_steps(other, 1, 2)
    assert not any(x.is_inference() for x in other.state[second].values())
