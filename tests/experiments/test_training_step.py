"""A training step of a run: its loss, gradients, learning rate, averages, telemetry."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch
from one_run import ADAMW, PLAIN, SGD, STEPS, initial_weights, values
from torch import Tensor, nn

from experiments import averaging, checkpoint, parts, runner
from experiments.distributed import World
from experiments.store import read_json
from experiments.tasks.task import Measurement

# --- the step -------------------------------------------------------------------------------------


def test_each_micro_batch_of_each_step_has_noise_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr("experiments.accumulating.seed_all", seeds.append)
    sizes = {"train__batch_size": 12, "train__micro_batch_size": 4}
    runner.run(tiny.config(tmp_path, train__epochs=None, train__steps=2, **sizes))
    assert len(seeds) == len(set(seeds)) == 2 * 3


@pytest.mark.parametrize("changes", [ADAMW, SGD], ids=["adamw", "sgd"])
def test_accumulation_is_one_large_batch(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = tiny.config(tmp_path / "whole", **PLAIN, **changes)
    cut = tiny.config(tmp_path / "cut", train__micro_batch_size=4, **PLAIN, **changes)
    for config in (whole, cut):
        assert runner.run(config).state == "finished"
    losses = [list(values(config, "train", "loss").values()) for config in (whole, cut)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    wanted, found = (forked.weights(config)["model"] for config in (whole, cut))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)


def test_the_first_loss_is_that_of_guessing(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, launch__log_every_steps=1, **STEPS, train__steps=1)
    runner.run(config)
    assert values(config, "train", "loss")[1] == pytest.approx(math.log(4), abs=0.25)


def test_every_parameter_gets_a_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[dict[int, float]] = []
    step = torch.optim.SGD.step

    def watched(self: Any, *args: Any) -> Any:
        params = [p for group in self.param_groups for p in group["params"]]
        norms.append({i: float(p.grad.norm()) for i, p in enumerate(params)})
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    runner.run(tiny.config(tmp_path, **SGD, **STEPS, train__steps=2))
    assert len(norms) == 2
    assert all(len(each) == 6 and min(each.values()) > 0 for each in norms)


@pytest.mark.parametrize("optimizer", [{}, ADAMW], ids=["lion", "adamw"])
def test_one_batch_can_be_learnt_by_heart(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    changes = {**PLAIN, **optimizer, **STEPS, "train__steps": 120, "data__num_train": 16}
    config = tiny.config(tmp_path, **changes, task__max_shift=0, optimizer__weight_decay=0.0)
    runner.run(config)
    assert values(config, "train", "loss")[120] < 0.1 < 1 < values(config, "train", "loss")[4]


def test_gradients_are_clipped_by_their_global_norm(tmp_path: Path) -> None:
    """One step of SGD at lr 1 moves the weights by the gradient itself."""
    moved = []
    for norm in (None, 0.01):
        config = tiny.config(
            tmp_path / str(norm), optimizer={"_target_": "torch.optim.SGD", "lr": 1.0},
            schedule={"name": "constant"}, **PLAIN, **STEPS, train__steps=1,
            train__grad_clip_norm=norm, train__micro_batch_size=4,
        )  # fmt: skip
        runner.run(config)
        before, after = initial_weights(config), forked.weights(config)["model"]
        moved.append(torch.cat([(after[n] - before[n]).flatten() for n in before]).double())
    assert moved[0].norm() > 0.1
    assert moved[1].norm() == pytest.approx(0.01, rel=1e-3)
    assert torch.cosine_similarity(*moved, dim=0) > 0.999


def test_the_learning_rate_follows_the_schedule_in_every_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[float]] = []
    step = torch.optim.SGD.step

    def watched(self: Any, *args: Any) -> Any:
        seen.append([group["lr"] for group in self.param_groups])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    schedule = {"name": "linear", "warmup_steps": 2}
    config = tiny.config(
        tmp_path, **SGD, **STEPS, train__steps=6, schedule=schedule, launch__log_every_steps=1
    )
    runner.run(config)
    expected = [0.05, 0.1, 0.1, 0.075, 0.05, 0.025]
    assert [each[0] for each in seen] == pytest.approx(expected)
    assert all(len(each) == 2 and each[0] == each[1] for each in seen)
    assert list(values(config, "train", "lr").values()) == pytest.approx(expected)


def test_frozen_parameters_stay_and_are_not_counted(tmp_path: Path) -> None:
    frozen = ["body.0.*"]
    config = tiny.config(tmp_path, param_groups__frozen=frozen, **STEPS, train__steps=5)
    runner.run(config)
    before, after = initial_weights(config), forked.weights(config)["model"]
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {"body.0.weight", "body.0.bias"}
    header = read_json(forked.folder(config) / "run.json")
    assert header["num_params"] == 6 * 2 + 6 * 48 * 4 + 4


def test_decay_reaches_matrices_only(tmp_path: Path) -> None:
    """At lr x decay = 1 and no gradient worth the name, what decays is gone after one step."""
    config = tiny.config(
        tmp_path,
        optimizer={"_target_": "torch.optim.AdamW", "lr": 1e-6, "weight_decay": 1e6},
        schedule={"name": "constant"},
        **STEPS,
        train__steps=1,
    )
    runner.run(config)
    before, after = initial_weights(config), forked.weights(config)["model"]
    left = {
        name: float(after[name].abs().max() / before[name].abs().max())
        for name in before
        if before[name].is_floating_point() and before[name].abs().max() > 0
    }
    gone = {name for name, share in left.items() if share < 1e-3}
    assert gone == {"body.0.weight", "head.2.weight"}
    assert all(left[n] > 0.9 for n in ("body.0.bias", "body.1.weight", "head.2.bias"))


def test_the_average_is_that_of_the_formula(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, **STEPS, train__steps=5, checkpoint__every_steps=1,
                         checkpoint__keep=9)  # fmt: skip
    runner.run(config)
    average: dict[str, Tensor] = {}
    for path in reversed(checkpoint.list_newest_first(forked.folder(config) / "checkpoints")):
        content = checkpoint.load(path)
        for name, tensor in content["model"].items():
            if tensor.is_floating_point():
                before = average.get(name, tensor)
                average[name] = 0.9 * before + 0.1 * tensor
    found = content["average"]
    for name, tensor in average.items():
        torch.testing.assert_close(found[f"module.{name}"], tensor, rtol=1e-5, atol=1e-7)
    moved = max(float((tensor - content["model"][n]).abs().max()) for n, tensor in average.items())
    assert moved > 1e-3


def test_a_decay_of_nothing_averages_the_last_weights_alone(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    config = tiny.config(tmp_path, train__ema_decay=0.0)
    average = averaging.build_average(config, model, World(0, 1, torch.device("cpu")))
    assert average is not None
    for value in (1.0, 3.0):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
    with averaging.averaged(average) as found:
        assert torch.equal(found.weight, model.weight) and found is not model


def test_raw_and_averaged_weights_are_measured_under_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sizes(self: Any, model: nn.Module, context: Any) -> Any:
        yield Measurement("val", "loss", float(model.head[2].weight.norm()), "nats", 37)

    monkeypatch.setattr(tiny.Task, "_measure", sizes)
    config = tiny.config(tmp_path, **STEPS, train__steps=5)
    runner.run(config)
    saved = forked.weights(config)
    expected = saved["model"]["head.2.weight"], saved["average"]["module.head.2.weight"]
    found = [values(config, "val", "loss", weights)[5] for weights in ("raw", "ema")]
    assert found == [float(tensor.norm()) for tensor in expected]
    assert found[0] != found[1]


def test_telemetry_is_of_the_step_that_its_rows_name(tmp_path: Path) -> None:
    each = {"checkpoint__every_steps": 1, "checkpoint__keep": 9}
    config = tiny.config(
        tmp_path, **PLAIN, **SGD, **STEPS, **each, train__steps=5, tracking__telemetry_every_steps=2
    )
    runner.run(config)
    saved = [
        torch.cat([content["model"][name].flatten() for name in ("body.0.weight", "head.2.weight")])
        for path in reversed(checkpoint.list_newest_first(forked.folder(config) / "checkpoints"))
        for content in [checkpoint.load(path)]
    ]
    expected = {step: float((saved[step - 1] - saved[step - 2]).square().mean().sqrt())
                for step in (2, 4)}  # fmt: skip
    found = values(config, "telemetry", "update_rms/decay")
    assert found == {step: pytest.approx(size, rel=1e-4) for step, size in expected.items()}
    assert list(values(config, "telemetry", "sign_flips/decay")) == [2, 4]


def test_the_optimizer_has_the_groups_of_the_configuration(tmp_path: Path) -> None:
    asked = {"decay_multipliers": {"head.*": 10.0}, "no_decay": ["body.0.bias"]}
    config = tiny.config(
        tmp_path,
        optimizer={"_target_": "lion.Lion", "_partial_": True, "lr": 1e-3, "weight_decay": 0.1},
        param_groups={**asked, "no_decay_1d": False, "frozen": ["body.1.weight"]},
    )
    model = tiny.Net()
    optimizer = parts._build_optimizer(config, model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    decays = {names[p]: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    head = dict.fromkeys(("head.2.weight", "head.2.bias"), 1.0)
    assert decays == {**head, "body.0.weight": 0.1, "body.1.bias": 0.1, "body.0.bias": 0.0}
    assert not model.body[1].weight.requires_grad
