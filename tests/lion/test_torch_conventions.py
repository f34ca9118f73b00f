"""What PyTorch's and timm's own suites ask of an optimizer, asked of every one of ours.

The checks of pytorch's test/test_optim.py and timm's tests/test_optim.py that fit, restated.
"""

import copy
import io
import warnings

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from lion import AddSign, HeroLion, Lion, PowerSign

OPTIMIZERS = {
    "Lion": (Lion, {}),
    "Lion loop": (Lion, {"fused": False}),
    "Lion foreach": (Lion, {"foreach": True}),
    "Lion int8": (Lion, {"momentum_dtype": "int8"}),
    "Lion bfloat16": (Lion, {"momentum_dtype": "bfloat16", "kahan_sum": True}),
    "HeroLion": (HeroLion, {}),
    "PowerSign": (PowerSign, {"lr": 1e-3}),
    "AddSign": (AddSign, {"lr": 1e-3}),
}
EVERY = pytest.mark.parametrize("name", OPTIMIZERS)


def make(name, params, **options):
    optimizer_class, own = OPTIMIZERS[name]
    return optimizer_class(params, **{"lr": 1e-2, **own, **options})


class Problem:
    """A linear map to be brought to zero; its parameters may have gaps in memory."""

    def __init__(self, gaps=False):
        torch.manual_seed(0)
        weight, bias = torch.randn(10, 5, 2), torch.randn(10, 2)
        pick = (lambda x: x[..., 0]) if gaps else (lambda x: x[..., 0].contiguous())
        self.weight, self.bias = nn.Parameter(pick(weight)), nn.Parameter(pick(bias))
        self.input = torch.randn(5)

    @property
    def params(self):
        return [self.weight, self.bias]

    def closure(self, optimizer):
        def loss():
            optimizer.zero_grad()
            value = (self.weight.mv(self.input) + self.bias).square().sum()
            value.backward()
            return value

        return loss


def equal(x, y):
    if isinstance(x, torch.Tensor):
        return x.dtype == y.dtype and torch.equal(x, y)
    if isinstance(x, dict):
        return x.keys() == y.keys() and all(equal(x[key], y[key]) for key in x)
    if isinstance(x, (list, tuple)):
        return len(x) == len(y) and all(map(equal, x, y))
    return x == y


def stepped(name, num_steps=5, **options):
    problem = Problem()
    optimizer = make(name, problem.params, **options)
    for _ in range(num_steps):
        optimizer.step(problem.closure(optimizer))
    return problem, optimizer


# --- the right direction -------------------------------------------------------------------------

SCHEDULERS = {
    "none": lambda o: [],
    "step": lambda o: [lr_scheduler.StepLR(o, step_size=10, gamma=0.9)],
    "plateau": lambda o: [lr_scheduler.ReduceLROnPlateau(o)],
    "warm-up, cosine": lambda o: [
        lr_scheduler.LinearLR(o, 0.4, total_iters=4),
        lr_scheduler.CosineAnnealingLR(o, 60),
    ],
    "cycle": lambda o: [lr_scheduler.OneCycleLR(o, 0.02, 61, cycle_momentum="beta" in o.defaults)],
}


@EVERY
@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("gaps, maximize", [(False, False), (True, False), (False, True)])
def test_the_loss_goes_the_right_way(name, schedule, gaps, maximize):
    if schedule == "cycle" and "Sign" in name:
        pytest.skip("neither momentum nor betas to cycle")
    problem = Problem(gaps)
    groups = [{"params": [problem.weight]}, {"params": [problem.bias], "lr": 5e-3}]
    if "Sign" in name:
        groups[1]["lr"] = 5e-4
    optimizer = make(name, groups, maximize=maximize)
    schedulers = SCHEDULERS[schedule](optimizer)
    closure = problem.closure(optimizer)
    first = closure().item()
    for _ in range(60):
        loss = optimizer.step(closure)
        for scheduler in schedulers:
            plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*[loss.item()] * plateau)
    last = closure().item()
    assert last > first if maximize else last < first
    assert name.split()[0] in repr(optimizer) and "weight_decay" in repr(optimizer)


@EVERY
def test_down_into_the_valley_of_rosenbrock(name):
    """Its gradient comes from elsewhere than autograd, and is 1000 times steeper one way."""
    param = nn.Parameter(torch.tensor([1.5, 1.5]))
    optimizer = make(name, [param], lr=2e-4 if "Sign" in name else 1e-2)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.98)
    for _ in range(150):
        x, y = param.detach()
        by_x, by_y = -400 * x * (y - x**2) - 2 * (1 - x), 200 * (y - x**2)
        param.grad = torch.stack([by_x, by_y])
        optimizer.step()
        scheduler.step()
    x, y = param.detach().double()
    assert (1 - x) ** 2 + 100 * (y - x**2) ** 2 < 5 < 56.5, "where it started"


# --- settings ------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_tensor_lr_is_its_value(name, shape):
    lr = torch.full(shape, 0.25)
    ours, expected = stepped(name, lr=lr), stepped(name, lr=0.25)
    for param, other in zip(ours[0].params, expected[0].params, strict=True):
        assert torch.equal(param, other)
    assert torch.equal(lr, torch.full(shape, 0.25))
    assert ours[1].param_groups[0]["lr"] is lr


@EVERY
def test_groups_have_a_decay_and_an_lr_of_their_own(name):
    weight, bias, still = (nn.Parameter(torch.ones(3)) for _ in range(3))
    groups = [
        {"params": [weight], "weight_decay": 0.5},
        {"params": [bias]},
        {"params": [still], "lr": 0.0, "weight_decay": 0.5},
    ]
    optimizer = make(name, groups, lr=0.1)
    for param in (weight, bias, still):
        param.grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.95))
    assert bias.eq(1).all(), "a gradient of zero moves nothing"
    assert still.eq(1).all()


@EVERY
def test_flags_of_the_defaults_reach_groups_that_come_later(name):
    optimizer = make(name, [nn.Parameter(torch.ones(1))], weight_decay=0.125, maximize=True)
    optimizer.add_param_group({"params": nn.Parameter(torch.ones(2))})
    first, second = ({k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups)
    assert first == second and first["weight_decay"] == 0.125 and first["maximize"]


@EVERY
def test_bad_parameters_are_refused(name):
    weight = nn.Parameter(torch.ones(2))
    for bad, error in ((weight, TypeError), ([], ValueError), ([1.0], TypeError)):
        with pytest.raises(error):
            make(name, bad)
    with pytest.raises(ValueError, match="leaf"):
        make(name, [weight * 2])
    with pytest.raises(ValueError, match="more than one parameter group"):
        make(name, [{"params": [weight]}, {"params": [weight]}])
    with pytest.warns(UserWarning, match="duplicate parameters"):
        make(name, [{"params": [weight, weight]}])


# --- odd parameters ------------------------------------------------------------------------------


@EVERY
def test_complex_numbers_are_pairs(name):
    if name in ("Lion int8", "Lion bfloat16"):
        pytest.skip("refused: see test_momentum.py")
    torch.manual_seed(0)
    param = nn.Parameter(torch.randn(4, 3, dtype=torch.complex64))
    pair = nn.Parameter(torch.view_as_real(param.detach()).clone())
    parts = [nn.Parameter(x.clone()) for x in (param.detach().real, param.detach().imag)]
    optimizers = [make(name, params) for params in ([param], [pair], parts)]
    for _ in range(3):
        param.grad = torch.randn_like(param)
        pair.grad = torch.view_as_real(param.grad)
        parts[0].grad, parts[1].grad = param.grad.real.clone(), param.grad.imag.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(torch.view_as_real(param.detach()), pair)
    assert torch.equal(torch.complex(*parts).detach(), param)


@EVERY
def test_no_gradients_no_step(name):
    problem = Problem()
    optimizer = make(name, problem.params, weight_decay=0.5)
    before = [p.detach().clone() for p in problem.params]
    optimizer.step()
    optimizer.zero_grad()
    optimizer.step()
    assert all(map(torch.equal, before, problem.params)) and not optimizer.state


@EVERY
def test_a_parameter_that_gets_a_gradient_later(name):
    problem, optimizer = stepped(name, 2)
    late = nn.Parameter(torch.ones(3))
    optimizer.add_param_group({"params": [late]})
    optimizer.step()
    assert late not in optimizer.state or not optimizer.state[late]
    late.grad = torch.ones(3)
    optimizer.step()
    assert late.lt(1).all() and optimizer.state[late]


# --- hooks ---------------------------------------------------------------------------------------


@EVERY
def test_hooks_of_a_step_in_order(name):
    _, optimizer = stepped(name, 0)
    seen = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("all pre")),
        register_optimizer_step_post_hook(lambda *_: seen.append("all post")),
        optimizer.register_step_pre_hook(lambda *_: seen.append("pre")),
        optimizer.register_step_post_hook(lambda *_: seen.append("post")),
    ]
    optimizer.step()
    assert seen == ["all pre", "pre", "post", "all post"]
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert len(seen) == 4


def test_hooks_run_once_where_a_subclass_steps_in_its_own_way():
    class Noted(Lion):
        def step(self, closure=None):
            return super().step(closure)

    param, seen = torch.nn.Parameter(torch.zeros(2)), []
    param.grad = torch.ones(2)
    optimizer = Noted([param], lr=0.5)
    optimizer.register_step_pre_hook(lambda *_: seen.append("pre"))
    optimizer.register_step_post_hook(lambda *_: seen.append("post"))
    optimizer.step()
    assert seen == ["pre", "post"] and param.eq(-0.5).all()


@EVERY
def test_a_profiler_sees_the_step_by_torchs_name(name):
    _, optimizer = stepped(name)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    label = f"Optimizer.step#{type(optimizer).__name__}.step"
    assert [e.count for e in profile.key_averages() if e.key == label] == [1]


@EVERY
def test_hooks_of_a_state_dict(name):
    _, optimizer = stepped(name)
    seen = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("pre"))
    optimizer.register_state_dict_post_hook(lambda o, state: state | {"extra": 1})
    assert optimizer.state_dict()["extra"] == 1 and seen == ["pre"]


# --- state dicts ---------------------------------------------------------------------------------


@EVERY
def test_a_copy_goes_the_same_way(name):
    """Through a file that only weights may be in; neither side's state dict is changed by it."""
    problem, optimizer = stepped(name)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert equal(loaded, optimizer.state_dict())
    other = Problem()
    for mine, theirs in zip(other.params, problem.params, strict=True):
        mine.data.copy_(theirs)
    twin = make(name, other.params)
    kept = copy.deepcopy(loaded)
    twin.load_state_dict(loaded)
    assert equal(kept, loaded)
    for _ in range(5):
        optimizer.step(problem.closure(optimizer))
        twin.step(other.closure(twin))
        assert all(map(torch.equal, problem.params, other.params))
    assert equal(optimizer.state_dict(), twin.state_dict())
    twin.param_groups.extend(twin.param_groups)
    assert equal(twin.state_dict()["param_groups"][0], twin.state_dict()["param_groups"][-1])


@EVERY
def test_older_state_dicts_lack_flags_and_have_plain_steps(name):
    _, optimizer = stepped(name)
    state = copy.deepcopy(optimizer.state_dict())
    for group in state["param_groups"]:
        for flag in ("maximize", "foreach", "fused", "capturable", "differentiable", "rule"):
            group.pop(flag, None)
    for entry in state["state"].values():
        if "step" in entry:
            entry["step"] = entry["step"].item()
    _, twin = stepped(name, 0)
    twin.load_state_dict(state)
    assert equal(twin.state_dict(), optimizer.state_dict())
    twin.step()


@EVERY
def test_names_of_parameters_travel(name):
    problem = Problem()
    named = list(zip(("weight", "bias"), problem.params, strict=True))
    optimizer = make(name, named)
    state = optimizer.state_dict()
    assert state["param_groups"][0]["param_names"] == ["weight", "bias"]
    other = make(name, Problem().params)
    other.load_state_dict(state)
    assert other.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


@EVERY
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_state_takes_the_dtype_of_the_parameters_it_is_loaded_for(name, dtype):
    _, optimizer = stepped(name)
    problem = Problem()
    params = [nn.Parameter(p.detach().to(dtype)) for p in problem.params]
    twin = make(name, params)
    twin.load_state_dict(optimizer.state_dict())
    stored = OPTIMIZERS[name][1].get("momentum_dtype")
    for state in twin.state.values():
        assert state["exp_avg"].dtype == (getattr(torch, stored) if stored else dtype)
        assert "step" not in state or state["step"].dtype == torch.float32
    for param in params:
        param.grad = torch.ones_like(param)
    twin.step()


@EVERY
def test_deepcopy_has_every_public_attribute(name):
    _, optimizer = stepped(name)
    public = [
        {key for key in vars(x) if not key.startswith("_")}
        for x in (optimizer, copy.deepcopy(optimizer))
    ]
    assert public[0] == public[1]


# --- derivatives through the step ----------------------------------------------------------------


@pytest.mark.parametrize("maximize", [False, True])
def test_gradcheck_of_a_differentiable_step(maximize):
    """Of weights, lr and weight decay, as numbers in tensors; betas may be tensors, as AdamW's."""

    def end(param, lr, weight_decay, beta1, beta2):
        param = param.clone()
        optimizer = Lion(
            [param],
            lr,
            (beta1, beta2),
            weight_decay,
            differentiable=True,
            maximize=maximize,
        )
        for sign in (1.0, -0.5, 0.25):
            param.grad = torch.tensor([sign, -sign, 0.0], dtype=torch.float64)
            optimizer.step()
        return param, optimizer.state[param]["exp_avg"]

    start = torch.tensor([2.0, -3.0, 0.5], dtype=torch.float64, requires_grad=True)
    values = [torch.tensor(x, dtype=torch.float64) for x in (0.1, 0.5, 0.9, 0.99)]
    assert torch.autograd.gradcheck(end, (start, *(x.requires_grad_() for x in values)))
    plain = end(start, *(x.item() for x in values))
    one_element = end(start, *(x.detach().view(1) for x in values))
    torch.testing.assert_close(plain[0], one_element[0])


@pytest.mark.parametrize("option", ["betas", "weight_decay"])
def test_tensors_that_cannot_be_followed_are_refused(option):
    value = {"betas": (torch.tensor(0.9), 0.99), "weight_decay": torch.tensor(0.1)}[option]
    param = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="only differentiable=True takes a tensor"):
        Lion([param], **{option: value})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Lion([param.clone()], **{option: value}, differentiable=True)
    with pytest.raises(ValueError, match="must have 1 element"):
        wrong = {"betas": (torch.ones(2), 0.99), "weight_decay": torch.ones(2)}[option]
        Lion([param.clone()], **{option: wrong}, differentiable=True)
