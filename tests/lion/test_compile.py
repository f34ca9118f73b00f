"""torch.compile of a whole step: few compilations, no step taken twice, the values of eager."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from lion import Lion

STEPS = 50


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def schedule(step):
    return 0.02 * min((step + 1) / 10, 1 - step / STEPS)


def differences(lr, steps, backend, **flags):
    """Step a compiled Lion and an eager one; return the largest difference after each step."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 3), (), (65,)]
    params = [nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    compiled, eager = Lion(params, lr=lr, weight_decay=0.1, **flags), Lion(twins, weight_decay=0.1)
    step_compiled = torch.compile(compiled.step, backend=backend)
    found = []
    for step in range(steps):
        for param, twin in zip(params, twins, strict=True):
            param.grad = torch.randn(param.shape, generator=generator)
            twin.grad = param.grad.clone()
        eager.param_groups[0]["lr"] = schedule(step)
        if isinstance(lr, torch.Tensor):
            lr.fill_(schedule(step))
        else:
            compiled.param_groups[0]["lr"] = schedule(step)
        step_compiled()
        eager.step()
        pairs = list(zip(params, twins, strict=True))
        pairs += [(compiled.state[p]["exp_avg"], eager.state[q]["exp_avg"]) for p, q in pairs]
        found.append(max((x.detach() - y.detach()).abs().max().item() for x, y in pairs))
    return found


@pytest.mark.parametrize("foreach", [None, True])
def test_tensor_lr_compiles_once_and_is_followed(foreach):
    counter = CompileCounterWithBackend("aot_eager")
    found = differences(torch.tensor(0.0), STEPS, counter, foreach=foreach)
    assert max(found) < 5e-6, "a second step at the first call would be off by 0.002"
    assert counter.frame_count <= 2


def test_float_lr_is_followed_past_the_limit_of_recompilations():
    counter = CompileCounterWithBackend("aot_eager")
    with torch._dynamo.config.patch(recompile_limit=4):
        assert max(differences(0.0, 12, counter)) < 5e-6
    assert counter.frame_count < 12, "in the end it runs eagerly"


@pytest.mark.slow
@pytest.mark.parametrize("lr, steps", [(torch.tensor(0.0), STEPS), (0.0, 5)], ids=str)
def test_inductor(lr, steps):
    """torch 2.14 alone would freeze a float lr at its second value, from the third change on."""
    counter = CompileCounterWithBackend("inductor")
    assert max(differences(lr, steps, counter)) < 5e-6
    assert counter.frame_count <= 2 or not isinstance(lr, torch.Tensor)
