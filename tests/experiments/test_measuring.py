"""Rows of a run, of made-up parts in place of a training: who is asked, how, and what is noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from experiments import measuring
from experiments.config import EvalConfig
from experiments.distributed import World
from experiments.headline import Headline
from experiments.tasks.task import Context, Evaluation, Measurement

ALONE = World(0, 1, torch.device("cpu"))
TOP1 = Headline("top1", "higher", "%")


def made(tmp_path: Path, *evaluations: Evaluation, **changes: Any) -> Any:
    model = tiny.Net()
    task = SimpleNamespace(headline=TOP1, loss_unit="nats", evaluations=lambda: evaluations)
    parts = {
        "config": tiny.config(tmp_path),
        "task": task,
        "world": ALONE,
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), 0.1),
        "average": None,
        "is_sharded": False,
        "plan": SimpleNamespace(steps_per_epoch=4),
        "watch": SimpleNamespace(seconds={"train": 1.5, "evaluate": 2.0}, lap=lambda _: None),
        "total_steps": 8,
        "peak_lrs": [0.1, 0.3],
    }
    return SimpleNamespace(**{**parts, **changes})


def one(name: str, when: Any = "every", value: float = 1.0, **more: Any) -> Evaluation:
    """Measures nothing."""
    found = {"split": name, "metric": "top1", "unit": "%", **more}
    return Evaluation(name, lambda *_: [Measurement(value=value, n=1, **found)], when)


def noted(seen: list[Any]) -> Callable[[str], Evaluation]:
    """Evaluations that note what they draw, are told, and may do."""

    def make(name: str) -> Evaluation:
        def measure(model: nn.Module, context: Context) -> Iterator[Measurement]:
            assert not any(module.training for module in model.modules())
            assert not torch.is_grad_enabled()
            seen.append((name, float(torch.rand(())), context.seed))
            yield Measurement(name, "top1", 1.0, "%", 1)

        return Evaluation(name, measure)

    return make


def test_an_evaluation_draws_the_same_whenever_and_beside_whatever_it_is_made(
    tmp_path: Path,
) -> None:
    seen: list[Any] = []
    one, other = map(noted(seen), ("one", "other"))
    parts = made(tmp_path)
    for step, evaluations in ((4, [one, other]), (8, [other]), (8, [one])):
        rows = measuring.evaluate(parts, step, evaluations)
        assert [row["evaluation"] for row in rows] == [each.name for each in evaluations]
        assert {row["step"] for row in rows} == {step}
    assert seen[0] == seen[3] and seen[1] == seen[2]
    assert seen[0][1] != seen[1][1] and seen[0][2] != seen[1][2]
    measuring.evaluate(made(tmp_path, config=tiny.config(tmp_path, seed=1)), 4, [one])
    assert seen[4][2] != seen[0][2], "of another seed of the run"


def test_afterwards_each_part_is_in_the_mode_that_it_was_in(tmp_path: Path) -> None:
    parts = made(tmp_path)
    parts.model.train()
    parts.model.body.eval()  # frozen
    measuring.evaluate(parts, 4, [one("val")])
    assert parts.model.training and parts.model.head.training
    assert not any(module.training for module in parts.model.body.modules())


def test_buffers_are_one_version_in_all_processes_and_what_is_not_known_is_left_out(
    tmp_path: Path,
) -> None:
    copied: list[nn.Module] = []
    world = SimpleNamespace(device=ALONE.device, copy_buffers=copied.append)
    parts = made(tmp_path, world=world)
    (row,) = measuring.evaluate(parts, 4, [one("val")])
    assert copied == [parts.model]
    assert not {"better", "error", "instrument", "picture"} & set(row)


@pytest.mark.parametrize(("strategy", "is_kept"), [("ddp", True), ("fsdp", False), ("hsdp", False)])
def test_what_autocast_casts_of_whole_blocks_is_not_kept(
    tmp_path: Path, strategy: str, is_kept: bool
) -> None:
    """It would be half of the weights, in every process."""
    config = tiny.config(tmp_path, train__precision="bf16", launch__strategy=strategy)
    with measuring.autocast(config, ALONE.device):
        assert torch.is_autocast_cache_enabled() == is_kept


def test_who_is_asked_when(tmp_path: Path) -> None:
    often, last, asked = one("a"), one("b", "last"), one("c", "asked")
    task: Any = made(tmp_path, often, last, asked).task
    assert measuring.due(task, is_last=False) == [often]
    assert measuring.due(task, is_last=True) == [often, last]
    assert measuring.due(task, is_last=False, name="c") == [asked]


def test_steps_between_two_evaluations_are_rounded_and_one_at_least() -> None:
    plan: Any = SimpleNamespace(steps_per_epoch=4)
    for epochs, steps in ((0.4, 2), (0.6, 2), (0.01, 1), (2.0, 8)):
        settings = EvalConfig(every_epochs=epochs)
        assert measuring.evaluation_interval(settings, plan) == steps


def test_rows_of_training_are_of_the_first_group_and_of_training_time(tmp_path: Path) -> None:
    parts = made(tmp_path, losses=SimpleNamespace(mean=lambda: 2.0))
    loss, lr = measuring.loss_rows(parts, 6, 0.5)
    assert (loss["value"], loss["unit"], loss["better"]) == (2.0, "nats", "lower")
    assert (lr["metric"], lr["value"], lr["epoch"], lr["seconds"]) == ("lr", 0.05, 1.5, 1.5)


@pytest.mark.parametrize(
    ("row", "loss_unit", "is_bad"),
    [
        ({"metric": "loss", "unit": "nats"}, "nats", True),
        ({"metric": "top1", "unit": "%"}, "nats", True),  # decides
        ({"metric": "kid", "unit": ""}, "", False),  # no loss, though losses have no unit either
        ({"metric": "kid", "unit": "points"}, "nats", False),
    ],
    ids=lambda value: str(value),
)
def test_what_must_be_finite_at_the_end(
    tmp_path: Path, row: dict[str, Any], loss_unit: str, is_bad: bool
) -> None:
    parts = made(tmp_path)
    parts.task.loss_unit = loss_unit
    found = measuring.divergence(parts, [{"split": "val", "value": float("nan"), **row}])
    assert bool(found) == is_bad
    assert not measuring.divergence(parts, [{"split": "val", "value": 1.0, **row}])


def test_a_weight_that_is_not_finite_in_another_process_is_named_in_all(tmp_path: Path) -> None:
    def other(bad: Any) -> Any:
        bad[1] += 1
        return bad

    parts = made(tmp_path, world=SimpleNamespace(sum=other, share=lambda word: f"all: {word}"))
    name = [name for name, _ in parts.model.named_parameters()][1]
    assert measuring.divergence(parts, []) == (
        f"all: the weight {name} is not finite after the last step"
    )


@pytest.mark.parametrize(
    ("step", "has_it", "asked", "said"),
    [
        (0, False, [], ""),
        (3, False, [], ""),  # not due
        (4, True, [], ""),
        (4, False, ["val"], ""),
        (8, True, [], ""),
        (8, False, ["val", "end"], "val top1 is not finite after the last step"),
    ],
)
def test_a_lost_evaluation_is_made_again_where_it_was_due(
    tmp_path: Path, step: int, has_it: bool, asked: list[str], said: str
) -> None:
    added: list[str] = []
    laps: list[str] = []
    recorder: Any = SimpleNamespace(
        has_evaluation=lambda _: has_it,
        lacks=lambda _, rows: rows[:1],
        add=lambda rows: added.extend(row["split"] for row in rows),
        log=lambda line: added.append(line.partition(":")[0]),
    )
    evaluations = one("val", value=float("nan")), one("end", "last")
    settings = {"eval__every_steps": 4, "eval__every_epochs": None}
    parts = made(tmp_path, *evaluations, config=tiny.config(tmp_path, **settings))
    parts.watch.lap = laps.append
    assert measuring.make_up(parts, recorder, step) == said
    assert laps == ["evaluate"] * bool(asked), "its time is not the training's"
    assert added == (["val", f"step {step}/8, measured again"] if asked else [])


def test_the_last_step_is_measured_though_no_interval_ends_there(tmp_path: Path) -> None:
    added: list[Any] = []
    recorder: Any = SimpleNamespace(
        has_evaluation=lambda _: False, lacks=lambda _, rows: rows, add=added.extend, log=print
    )
    settings = {"eval__every_steps": 5, "eval__every_epochs": None}
    parts = made(tmp_path, one("val"), config=tiny.config(tmp_path, **settings))
    assert measuring.make_up(parts, recorder, 8) == "" and len(added) == 1


def test_the_weights_that_the_command_names_are_those_that_must_be_measured(
    tmp_path: Path,
) -> None:
    row = {"split": "val", "metric": "top1", "weights": "raw"}
    parts = made(tmp_path, average=object())
    parts.task.headline = Headline("top1", "higher", "%", report="val", weights="ema")
    assert "not measured: top1 on val" in measuring.not_judged(parts, [row])
    parts.config = tiny.config(tmp_path, eval__weights="raw")
    assert measuring.not_judged(parts, [row]) == ""
