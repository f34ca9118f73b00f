"""A checkpoint of another rule, or of other shapes, is refused, and nothing is changed by it."""

import copy

import pytest
import torch
from torch import nn

from lion import AddSign, HeroLion, Lion, PowerSign
from tests.lion.test_checkpoint import GooglePort, fresh_params, take_steps

timm_optim = pytest.importorskip("timm.optim")

OURS = {
    "Lion": Lion,
    "int8": lambda p: Lion(p, momentum_dtype="int8"),
    "kahan": lambda p: Lion([x.detach().bfloat16() for x in p], kahan_sum=True),
    "HeroLion": HeroLion,
    "PowerSign": PowerSign,
    "AddSign": AddSign,
}
THEIRS = {
    "AdamW": torch.optim.AdamW,
    "AMSGrad": lambda p: torch.optim.AdamW(p, amsgrad=True),
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adafactor": torch.optim.Adafactor,
    "SGD": lambda p: torch.optim.SGD(p, momentum=0.9),
    "RMSprop": torch.optim.RMSprop,
    "Rprop": torch.optim.Rprop,
    "Adagrad": torch.optim.Adagrad,
    "AdaBelief": timm_optim.AdaBelief,
    "big_vision's Adafactor": timm_optim.AdafactorBigVision,
    "cautious": lambda p: timm_optim.Lion(p, caution=True),
}
FAMILY = {"Lion": "Lion", "int8": "Lion", "kahan": "Lion"}
PAIRS = [
    (mine, other)
    for mine in OURS
    for other in {**OURS, **THEIRS}
    if FAMILY.get(mine, mine) != FAMILY.get(other, other)
]


def make(name, num_steps):
    params = [nn.Parameter(p.detach()) for p in fresh_params(torch.float32)]
    optimizer = {**OURS, **THEIRS}[name](params)
    if num_steps:
        take_steps(optimizer, 0, num_steps)
    return optimizer


def snapshot(optimizer):
    return copy.deepcopy(optimizer.state_dict())


def same(x, y):
    if isinstance(x, torch.Tensor):
        return torch.equal(x, y) and x.dtype == y.dtype
    if isinstance(x, dict):
        return x.keys() == y.keys() and all(same(x[key], y[key]) for key in x)
    if isinstance(x, list):
        return len(x) == len(y) and all(map(same, x, y))
    return x == y


@pytest.mark.parametrize("num_steps", [0, 1])
@pytest.mark.parametrize("mine, other", PAIRS)
def test_another_rule_is_refused_and_changes_nothing(mine, other, num_steps):
    """Also before its first step, when only the param groups tell what it is."""
    optimizer, foreign = make(mine, 1), make(other, num_steps)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match="different rule|has .* and no '"):
        optimizer.load_state_dict(foreign.state_dict())
    assert same(before, snapshot(optimizer))
    take_steps(optimizer, 1, 2)


@pytest.mark.parametrize("mine", OURS)
def test_a_state_of_other_shapes_is_refused_and_changes_nothing(mine):
    """(1,) and (4,) would be broadcast over (17,) and (3, 4), in silence."""
    optimizer, other = make(mine, 1), make(mine, 1)
    for key in ("exp_avg", "kahan_comp"):
        state = copy.deepcopy(other.state_dict())
        if key not in state["state"][0]:
            continue
        state["state"][0][key] = state["state"][0][key][:1]
        before = snapshot(optimizer)
        with pytest.raises(
            ValueError, match=rf"'{key}' has shape \(1,\) and its parameter \(17,\)"
        ):
            optimizer.load_state_dict(state)
        assert same(before, snapshot(optimizer))


def test_every_group_and_every_key_is_looked_at():
    def in_groups():
        return Lion([{"params": [nn.Parameter(torch.ones(*shape))]} for shape in ((2,), (3, 4))])

    saved, resumed = in_groups(), in_groups()
    take_steps(saved, 0, 1)
    turned = {"exp_avg": torch.zeros(4, 3)}  # as many elements as the second parameter
    for more, said in ((turned, r"shape \(4, 3\)"), ({"sq": torch.ones(3, 4)}, "state has 'sq'")):
        state = copy.deepcopy(saved.state_dict())
        state["state"][1].update(more)
        with pytest.raises(ValueError, match=said):
            resumed.load_state_dict(state)
    state = copy.deepcopy(saved.state_dict())
    state["param_groups"][1]["eps"] = 1e-8
    with pytest.raises(ValueError, match="have 'eps'"):
        resumed.load_state_dict(state)
    assert not resumed.state


def test_scales_that_do_not_fit_are_refused():
    optimizer = make("int8", 1)
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0]["exp_avg_scale"] = torch.ones(7)
    with pytest.raises(ValueError, match="'exp_avg_scale' has 7 elements"):
        optimizer.load_state_dict(state)
    del state["state"][0]["exp_avg_scale"]
    with pytest.raises(ValueError, match="int8 .*no 'exp_avg_scale'"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("bad", [{"lr": -1.0}, {"weight_decay": float("nan")}, {"betas": (0.9, 1)}])
def test_hyper_parameters_out_of_range_are_refused(bad):
    optimizer = make("Lion", 1)
    state = optimizer.state_dict()
    state["param_groups"][0].update(bad)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=next(iter(bad))):
        optimizer.load_state_dict(state)
    assert same(before, snapshot(optimizer))


@pytest.mark.parametrize("theirs", [GooglePort, timm_optim.Lion])
def test_the_lions_of_google_and_timm_are_no_strangers(theirs):
    other = theirs(fresh_params(torch.float32))
    take_steps(other, 0, 2)
    for mine in ("Lion", "int8"):
        optimizer = make(mine, 0)
        optimizer.load_state_dict(other.state_dict())
        take_steps(optimizer, 2, 3)


# --- hooks, and what loading leaves alone --------------------------------------------------------


@pytest.mark.parametrize("mine", OURS)
def test_loading_a_state_dict_gives_it_back(mine):
    """As often as it is done: keys, values, dtypes; so flattened checkpoints fit, too."""
    fresh, resumed = make(mine, 2), make(mine, 0)
    expected = snapshot(fresh)
    for _ in range(2):
        resumed.load_state_dict(snapshot(fresh))
        assert same(expected, snapshot(resumed))
    assert "differentiable" not in snapshot(HeroLion([nn.Parameter(torch.ones(1))]))


def trace(make_optimizer):
    """The names of the hooks in order, and what of the momentum each of them sees."""
    seen = []
    optimizer = make_optimizer()

    def seen_by(name, exp_avg):
        seen.append((name, str(exp_avg.dtype), bool(exp_avg.double().ne(0).any())))

    def before(name):
        return lambda _, state: seen_by(name, state["state"][0]["exp_avg"])

    def after(name):
        def hook(optimizer):
            seen_by(name, next(iter(optimizer.state.values()))["exp_avg"])
            for state in optimizer.state.values():
                state["exp_avg"].zero_()

        return hook

    optimizer.register_load_state_dict_pre_hook(before("pre"))
    optimizer.register_load_state_dict_pre_hook(before("first pre"), prepend=True)
    optimizer.register_load_state_dict_post_hook(after("post"))
    optimizer.register_load_state_dict_post_hook(after("first post"), prepend=True)
    other = make_optimizer()
    take_steps(other, 0, 1)
    state_dict = other.state_dict()
    optimizer.load_state_dict(state_dict)
    left = [x["exp_avg"].double().abs().sum().item() for x in optimizer.state.values()]
    return seen, left


@pytest.mark.parametrize("store", [None, "bfloat16", "int8"])
def test_hooks_see_and_edit_what_they_do_with_adamw(store):
    expected, left = trace(lambda: torch.optim.AdamW(fresh_params(torch.float32)))
    seen, ours_left = trace(lambda: Lion(fresh_params(torch.float32), momentum_dtype=store))
    stored = f"torch.{store or 'float32'}"
    assert seen == [(name, stored, nonzero) for name, _, nonzero in expected]
    assert left == ours_left == [0.0, 0.0]


def test_a_hook_may_return_another_state_dict():
    optimizer, other = make("int8", 0), make("Lion", 3)
    adamw = make("AdamW", 1)
    optimizer.register_load_state_dict_pre_hook(lambda *_: other.state_dict())
    optimizer.load_state_dict(adamw.state_dict())
    (first, *_), (theirs, *_) = optimizer.state.values(), other.state.values()
    assert first["exp_avg"].dtype == torch.int8
    torch.testing.assert_close(
        first["exp_avg"] * first["exp_avg_scale"], theirs["exp_avg"], rtol=0, atol=0.01
    )


@pytest.mark.parametrize("mine", ["HeroLion", "PowerSign", "AddSign", "Lion"])
def test_a_flattened_checkpoint_of_a_fresh_run_fits_a_resumed_optimizer(mine):
    dcp = pytest.importorskip("torch.distributed.checkpoint.state_dict")
    options = dcp.StateDictOptions(flatten_optimizer_state_dict=True)

    def run():
        model = nn.Linear(3, 2)
        optimizer = OURS[mine](model.parameters())
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        return model, optimizer

    flat = dcp.get_optimizer_state_dict(*run(), options=options)
    model, resumed = run()
    resumed.load_state_dict(resumed.state_dict())
    dcp.set_optimizer_state_dict(model, resumed, flat, options=options)
    again = dcp.get_optimizer_state_dict(model, resumed, options=options)
    assert same(dict(flat), dict(again))


def test_int8_of_flat_parameters_is_refused_before_the_first_step():
    """FSDP1 could step them, but its checkpoint wants as many scales as weights."""
    param = nn.Parameter(torch.ones(600))
    param._fsdp_flattened = True
    with pytest.raises(ValueError, match="not the flat parameters of Fully.*momentum_dtype='bf"):
        Lion([param], momentum_dtype="int8")
    optimizer = Lion([nn.Parameter(torch.ones(3))])
    with pytest.raises(ValueError, match="flat parameters"):
        optimizer.add_param_group({"params": [param], "momentum_dtype": "int8"})
    assert len(optimizer.param_groups) == 1
    Lion([param], momentum_dtype="bfloat16")
