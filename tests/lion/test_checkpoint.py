"""Stop and resume: N steps equal k, save, load, and N - k; with google's port on either side."""

import io

import pytest
import torch
from torch import nn

from lion import AddSign, HeroLion, Lion, PowerSign

STEPS, STOP = 24, 9


class GooglePort(torch.optim.Optimizer):
    """Stands for google/automl's Lion: its state key, its param-group keys, its operations."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (beta1, beta2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                state = self.state[p]
                if len(state) == 0:
                    state["exp_avg"] = torch.zeros_like(p)
                p.mul_(1 - lr * group["weight_decay"])
                update = state["exp_avg"] * beta1 + p.grad * (1 - beta1)
                p.add_(torch.sign(update), alpha=-lr)
                state["exp_avg"].mul_(beta2).add_(p.grad, alpha=1 - beta2)


class LoopLion(Lion):
    """On the path that follows torch's kernels even where those disagree with each other."""

    def __init__(self, params, **options):
        super().__init__(params, fused=False, **options)


def fresh_params(dtype):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(n, generator=generator).to(dtype)) for n in (17, 4)]


def take_steps(optimizer, first, last):
    for t in range(first, last):
        generator = torch.Generator().manual_seed(t)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 + t % 5)
            for param in group["params"]:
                param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        optimizer.step()


def resumed(first_class, second_class, dtype, **options):
    """Run `first_class`, save everything through a file, and finish with `second_class`."""
    first = first_class(fresh_params(dtype), **options)
    take_steps(first, 0, STOP)
    file = io.BytesIO()
    torch.save([first.param_groups[0]["params"], first.state_dict()], file)
    file.seek(0)
    params, state = torch.load(file, weights_only=True)
    second = second_class(params, **options)
    second.load_state_dict(state)
    take_steps(second, STOP, STEPS)
    return params


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "first, second",
    [
        (Lion, Lion),
        (GooglePort, LoopLion),
        (LoopLion, GooglePort),
        (HeroLion, HeroLion),
        (PowerSign, PowerSign),
        (AddSign, AddSign),
    ],
    ids=lambda c: c.__name__,
)
def test_resume_is_bitwise(first, second, dtype):
    options = {"weight_decay": 0.1}
    straight = first(fresh_params(dtype), **options)
    take_steps(straight, 0, STEPS)
    params = resumed(first, second, dtype, **options)
    for param, other in zip(straight.param_groups[0]["params"], params, strict=True):
        assert torch.equal(param, other)


def test_resume_on_another_path_is_bitwise():
    params = resumed(
        lambda p, **o: Lion(p, foreach=True, **o),
        LoopLion,
        torch.float32,
    )
    straight = Lion(fresh_params(torch.float32))
    take_steps(straight, 0, STEPS)
    expected = straight.param_groups[0]["params"]
    assert all(torch.equal(p, q) for p, q in zip(expected, params, strict=True))


def test_old_checkpoint_gets_the_flags_of_the_optimizer_it_is_loaded_in():
    google, ours = (
        GooglePort(fresh_params(torch.float32)),
        Lion(fresh_params(torch.float32), maximize=True),
    )
    take_steps(google, 0, 1)
    ours.load_state_dict(google.state_dict())
    group = ours.param_groups[0]
    assert group["maximize"] is True and group["foreach"] is None
    assert group["capturable"] is False and group["differentiable"] is False


def test_old_pickle_without_the_flags_still_steps():
    optimizer = Lion(fresh_params(torch.float32))
    state = optimizer.__getstate__()
    for key in ("maximize", "foreach", "capturable", "differentiable"):
        del state["defaults"][key], state["param_groups"][0][key]
    revived = Lion.__new__(Lion)
    revived.__setstate__(state)
    take_steps(revived, 0, 1)
    assert revived.param_groups[0]["maximize"] is False


@pytest.mark.parametrize("variant", ["caution", "corrected_weight_decay"])
def test_checkpoint_of_another_rule_is_refused(variant):
    optimizer = Lion(fresh_params(torch.float32))
    state = optimizer.state_dict()
    state["param_groups"][0][variant] = True
    with pytest.raises(ValueError, match=f"{variant}=True"):
        optimizer.load_state_dict(state)


def test_a_state_without_a_momentum_is_refused():
    """bitsandbytes calls it state1: passed over, the run would go on from a momentum of 0."""
    optimizer = Lion(fresh_params(torch.float32))
    take_steps(optimizer, 0, 1)
    state = optimizer.state_dict()
    for entry in state["state"].values():
        entry["state1"] = entry.pop("exp_avg")
    with pytest.raises(ValueError, match="has 'state1' and no 'exp_avg'"):
        Lion(fresh_params(torch.float32)).load_state_dict(state)
