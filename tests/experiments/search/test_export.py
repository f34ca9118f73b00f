"""Programs as torch optimizers: equal to torch's and ours of the same name; saved and loaded."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import timm.optim
import torch
from torch import Tensor, nn

import lion
import run
from experiments.config import ConfigError, UserError
from experiments.search import library
from experiments.search.export import ProgramOptimizer

SHAPES = ((7, 5), (9,), (2, 3, 4))


def stream(num_steps: int, dtype: torch.dtype, shapes: Any = SHAPES) -> list[list[Tensor]]:
    """Gradients with a drift, so that momenta keep their signs for some steps."""
    random = torch.Generator().manual_seed(0)
    drift = [torch.randn(s, generator=random, dtype=dtype) for s in shapes]
    return [
        [0.1 * d + 0.2 * torch.randn(d.shape, generator=random, dtype=dtype) for d in drift]
        for _ in range(num_steps)
    ]


def start(dtype: torch.dtype, shapes: Any = SHAPES) -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(s, generator=random, dtype=dtype)) for s in shapes]


def walk(
    params: list[nn.Parameter], optimizer: torch.optim.Optimizer, gradients: list[list[Tensor]]
) -> list[Tensor]:
    """The weights after each step, as one vector, under a learning rate that changes."""
    peak, seen = optimizer.param_groups[0]["lr"], []
    for step, grads in enumerate(gradients):
        optimizer.param_groups[0]["lr"] = peak * (1 - 0.5 * step / len(gradients))
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad.clone()
        optimizer.step()
        seen.append(torch.cat([p.detach().flatten() for p in params]))
    return seen


def write(folder: Path, body: str) -> str:
    path = folder / "program.txt"
    lines = "\n  ".join(body.splitlines())
    path.write_text(f"def train(w, g, m, v, lr):\n  {lines}\n  return update, m, v\n")
    return str(path)


def test_the_program_of_the_paper_is_its_optimizer_over_1000_steps() -> None:
    gradients = stream(1000, torch.float32)
    mine, theirs = start(torch.float32), start(torch.float32)
    ours = walk(mine, ProgramOptimizer(mine, lr=1e-3, path="lion"), gradients)
    other = walk(theirs, lion.Lion(theirs, lr=1e-3, weight_decay=0.1), gradients)
    assert (ours[-1] - other[-1]).norm() <= 1e-6 * other[-1].norm()


def test_the_evolved_program_without_clip_and_arcsin_is_lion_in_float64() -> None:
    shapes, lr = ((1000,),), 1e-3
    mine, theirs = start(torch.float64, shapes), start(torch.float64, shapes)
    ours = ProgramOptimizer(mine, lr=lr, path="evolved_plain")
    other = lion.Lion(theirs, lr=lr, weight_decay=0.1)
    random = torch.Generator().manual_seed(0)
    mismatches = 0
    for _ in range(1000):
        grad = torch.randn(1000, generator=random, dtype=torch.float64)
        mine[0].grad = theirs[0].grad = grad
        before = mine[0].detach().clone()
        momentum = other.state[theirs[0]].get("exp_avg", torch.zeros(1000, dtype=torch.float64))
        expected = torch.sign(0.9 * momentum + 0.1 * grad)
        ours.step()
        other.step()
        signs = torch.sign(before - mine[0].detach() - lr * 0.1 * before)
        mismatches += int((signs != expected).sum())
    assert mismatches == 0
    assert (mine[0] - theirs[0]).norm() <= 1e-12 * theirs[0].norm()


TWINS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum_sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "nesterov_sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.99, eps=1e-8),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-10),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.1, rho=0.9, eps=1e-6),
    "power_sign": lambda p: lion.PowerSign(p, lr=0.1),
    "add_sign": lambda p: lion.AddSign(p, lr=0.1),
    "lion": lambda p: lion.Lion(p, lr=0.1, weight_decay=0.1),
    "evolved_plain": lambda p: lion.Lion(p, lr=0.1, weight_decay=0.1),
    "sign_momentum": lambda p: lion.Lion(p, lr=0.1, betas=(0.9, 0.9), weight_decay=0.1),
    "sign_sgd": lambda p: lion.Lion(p, lr=0.1, betas=(0.0, 0.9)),
}


@pytest.mark.parametrize("name", TWINS)
def test_programs_of_the_library_are_the_optimizers_of_that_name(name: str) -> None:
    gradients = stream(50, torch.float64)
    mine, theirs = start(torch.float64), start(torch.float64)
    ours = walk(mine, ProgramOptimizer(mine, lr=0.1, path=name), gradients)
    other = walk(theirs, TWINS[name](theirs), gradients)
    torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-12)


class Formula(torch.optim.Optimizer):
    """Formulas without the bias correction that the library's optimizers have."""

    def __init__(self, params: Any, rule: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.rule = rule

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        group = self.param_groups[0]
        params, grads = group["params"], [p.grad for p in group["params"]]
        kept = [self.state[p].setdefault("m", torch.zeros_like(p)) for p in params]
        squares = [self.state[p].setdefault("v", torch.zeros_like(p)) for p in params]
        for args in zip(params, grads, kept, squares, strict=True):
            self.rule(*args, group["lr"])


def adamw_rule(decay: float, scale: float) -> Any:
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, lr: float) -> None:
        m.lerp_(g, 0.1)
        v.mul_(0.999).addcmul_(g, g, value=0.001)
        p.sub_(scale * lr * (m / v.sqrt() + decay * p))

    return rule


def lamb_rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, lr: float) -> None:
    m.lerp_(g, 0.1)
    v.mul_(0.999).addcmul_(g, g, value=0.001)
    update = m / (v.sqrt() + 1e-6) + 0.01 * p
    p.sub_(lr * update * p.norm() / update.norm())


def adabelief_rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, lr: float) -> None:
    m.lerp_(g, 0.1)
    v.mul_(0.999).add_(0.001 * (g - m) ** 2).add_(1e-16)
    p.sub_(lr * m / (v.sqrt() + 1e-16))


def adafactor_rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, lr: float) -> None:
    v.mul_(0.999).add_(0.001 * (g * g + 1e-30))
    update = g / v.sqrt()
    update /= update.square().mean().sqrt().clamp_min(1.0)
    p.sub_(lr * (update + 0.1 * p))


def lars_rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, lr: float) -> None:
    m.mul_(0.9).add_(g * lr * 0.001 * p.norm() / g.norm())
    p.sub_(m)


RULES = {
    "adamw": adamw_rule(0.01, 0.001),
    "adamw_early": adamw_rule(0.1, 1.0),
    "lamb_like": lamb_rule,
    "adabelief": adabelief_rule,
    "adafactor_like": adafactor_rule,
    "lars_like": lars_rule,
}


@pytest.mark.parametrize("name", RULES)
def test_programs_without_a_twin_follow_their_formula(name: str) -> None:
    gradients = stream(50, torch.float64)
    mine, theirs = start(torch.float64), start(torch.float64)
    ours = walk(mine, ProgramOptimizer(mine, lr=0.1, path=name), gradients)
    other = walk(theirs, Formula(theirs, RULES[name], 0.1), gradients)
    torch.testing.assert_close(ours, other, rtol=1e-9, atol=1e-12)


def test_adamw_of_the_search_is_torchs_apart_from_the_bias_correction() -> None:
    """torch.optim.AdamW at lr (1 - b1^t) / sqrt(1 - b2^t) undoes its own correction."""
    gradients = stream(30, torch.float64)
    mine, theirs = start(torch.float64), start(torch.float64)
    ours = ProgramOptimizer(mine, lr=1.0, path="adamw")
    other = torch.optim.AdamW(theirs, lr=1e-3, eps=0.0, weight_decay=0.0)
    for t, grads in enumerate(gradients, start=1):
        for p, q, grad in zip(mine, theirs, grads, strict=True):
            p.grad = q.grad = grad
        other.param_groups[0]["lr"] = 1e-3 * (1 - 0.9**t) / (1 - 0.999**t) ** 0.5
        for q in theirs:
            q.data -= 1e-3 * 0.01 * q.data
        ours.step()
        other.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_adabelief_has_timms_second_moment() -> None:
    """timm corrects the bias; after it is undone by the learning rate, both are one."""
    gradients = stream(30, torch.float64)
    mine, theirs = start(torch.float64), start(torch.float64)
    ours = ProgramOptimizer(mine, lr=1e-3, path="adabelief")
    other = timm.optim.AdaBelief(theirs, lr=1e-3, eps=1e-16, rectify=False)
    for t, grads in enumerate(gradients, start=1):
        for p, q, grad in zip(mine, theirs, grads, strict=True):
            p.grad, q.grad = grad, grad.clone()
        other.param_groups[0]["lr"] = 1e-3 * (1 - 0.9**t) / (1 - 0.999**t) ** 0.5
        ours.step()
        other.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", library.names())
def test_save_and_load_in_the_middle_changes_nothing(name: str) -> None:
    gradients = stream(6, torch.float32)
    params = start(torch.float32)
    whole = walk(params, ProgramOptimizer(params, lr=1e-3, path=name), gradients[:3])
    assert torch.isfinite(whole[-1]).all()
    optimizer = ProgramOptimizer(params, lr=1e-3, path=name)
    walk(params, optimizer, gradients[:3])
    other = copy.deepcopy(params)
    loaded = ProgramOptimizer(other, lr=1e-3, path=name)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    ends = [walk(p, o, gradients[3:])[-1] for p, o in ((params, optimizer), (other, loaded))]
    assert torch.equal(*ends)


def test_only_buffers_that_matter_are_kept() -> None:
    params = start(torch.float32)
    optimizer = ProgramOptimizer(params, path="raw")
    walk(params, optimizer, stream(1, torch.float32))
    assert all(set(state) == {"v"} for state in optimizer.state.values())


@pytest.mark.parametrize(
    ("path", "message"),
    [("/dev/zero", "/dev/zero: is a device"), (None, "name a file"), ("", "name a file")],
)
def test_what_is_no_file_is_one_line(path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ProgramOptimizer([torch.zeros(2, requires_grad=True)], path=path)


def test_a_buffer_is_not_the_gradient_itself(tmp_path: Path) -> None:
    params = start(torch.float32)
    path = write(tmp_path, "update = m * lr\nm = g")
    optimizer = ProgramOptimizer(params, path=path)
    walk(params, optimizer, stream(1, torch.float32))
    before = [optimizer.state[p]["m"].clone() for p in params]
    for param in params:
        assert param.grad is not None
        param.grad.zero_()
    assert all(torch.equal(optimizer.state[p]["m"], b) for p, b in zip(params, before, strict=True))


def test_global_functions_see_all_parameters_together(tmp_path: Path) -> None:
    params, gradients = start(torch.float64), stream(1, torch.float64)
    path = write(tmp_path, "c = clip(g, 0.5)\nn = global_norm(c)\nupdate = c * n")
    before = torch.cat([p.detach().flatten() for p in params])
    after = walk(params, ProgramOptimizer(params, lr=1.0, path=path), gradients)[-1]
    whole = torch.cat([g.flatten() for g in gradients[0]])
    torch.testing.assert_close(before - after, 0.5 * 0.5 * whole / whole.norm())


def test_a_norm_of_a_number_is_its_magnitude(tmp_path: Path) -> None:
    params, gradients = start(torch.float64), stream(1, torch.float64)
    path = write(tmp_path, "d = dot(g, w)\nd = norm(d)\nn = norm(lr)\nd = d * n\nupdate = g * d")
    before = torch.cat([p.detach().flatten() for p in params])
    whole = torch.cat([g.flatten() for g in gradients[0]])
    after = walk(params, ProgramOptimizer(params, lr=0.1, path=path), gradients)[-1]
    torch.testing.assert_close(before - after, whole * (whole @ before).abs() * 0.1)


def test_a_large_norm_is_finite_in_float16(tmp_path: Path) -> None:
    param = torch.nn.Parameter(torch.zeros(4, dtype=torch.float16))
    param.grad = torch.full_like(param, 1000.0)
    path = write(tmp_path, "g = clip(g, 1.0)\nn = norm(g)\nupdate = g * n")
    ProgramOptimizer([param], path=path).step()
    torch.testing.assert_close(param.detach(), torch.full_like(param, -0.5))


def test_settings_of_a_group_are_checked_too() -> None:
    group = {"params": start(torch.float32), "lr": -1.0}
    with pytest.raises(ValueError, match="lr must be finite and >= 0"):
        ProgramOptimizer([group], path="lion")
    group |= {"lr": 1.0, "weight_decay": float("nan")}
    with pytest.raises(ValueError, match="weight_decay must be"):
        ProgramOptimizer([group], path="lion")


def test_the_decay_of_a_group_comes_on_top() -> None:
    mine, theirs, gradients = start(torch.float64), start(torch.float64), stream(5, torch.float64)
    ours = walk(mine, ProgramOptimizer(mine, lr=0.1, path="sgd", weight_decay=0.5), gradients)
    other = walk(theirs, ProgramOptimizer(theirs, lr=0.1, path="sgd"), gradients)
    assert not torch.allclose(ours[-1], other[-1])
    mine = start(torch.float64)
    for param, grad in zip(mine, gradients[0], strict=True):
        param.data.mul_(1 - 0.1 * 0.5).sub_(0.1 * grad)
    torch.testing.assert_close(ours[0], torch.cat([p.detach().flatten() for p in mine]))


def test_another_program_or_file_is_refused(tmp_path: Path) -> None:
    params = start(torch.float32)
    state = ProgramOptimizer(params, path="lion").state_dict()
    with pytest.raises(ValueError, match="checkpoint is of program"):
        ProgramOptimizer(params, path="adamw").load_state_dict(state)
    path = write(tmp_path, "update = g * lr")
    with pytest.raises(ValueError, match="is not the file that it was"):
        ProgramOptimizer(params, path=path, digest="0" * 12)
    with pytest.raises(UserError, match="no such file"):
        ProgramOptimizer(params, path="nowhere.txt")


def test_a_run_is_known_by_its_program(tmp_path: Path) -> None:
    from experiments.identity import run_id

    asked = ["experiment=vit_proxy", "optimizer=program"]
    path = write(tmp_path, "update = g * lr")
    first = run.compose([*asked, f"optimizer.path={path}"])
    write(tmp_path, "update = g * lr\nupdate = update + w")
    second = run.compose([*asked, f"optimizer.path={path}"])
    assert run_id(first) != run_id(second)
    with pytest.raises(ConfigError, match="optimizer.digest"):
        run.compose([*asked, f"optimizer.path={path}", "optimizer.digest=abc"])
