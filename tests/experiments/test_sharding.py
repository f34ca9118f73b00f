"""Two processes with the model in shards (FSDP2) are the run that one process would be."""

from __future__ import annotations

import signal
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import layered
import pytest
import tiny
import torch
import torch.distributed.checkpoint
import torch.distributed.fsdp  # the forked processes need not import it each
import torch.distributed.tensor
from in_shards import (
    OPTIMIZERS,
    STATE_TOLERANCE,
    TOLERANCE,
    TOLERANCES,
    config,
    difference,
    state_difference,
)
from timm.models import create_model
from torch import nn

from experiments import runner, sharded_state, sharding
from experiments.averaging import ShardedAverage
from experiments.config import ConfigError, RunConfig, UserError
from experiments.data.order import seed_all
from experiments.distributed import World, joined, local
from experiments.identity import run_id
from experiments.jobs import evaluate
from experiments.parts import build_parts
from experiments.store import read_json

FEW = {"train__steps": 4, "eval__every_steps": None, "train__ema_decay": None}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run of one process, made when it is first asked for."""
    made: dict[str, RunConfig] = {}

    def run(name: str) -> RunConfig:
        if name not in made:
            made[name] = config(tmp_path_factory.mktemp("alone"), name)
            runner.run(made[name])
        return made[name]

    return run


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run of two processes, made when it is first asked for."""
    made: dict[str, RunConfig] = {}

    def run(name: str) -> RunConfig:
        if name not in made:
            made[name] = config(tmp_path_factory.mktemp("two"), name)
            assert forked.run_ranks(made[name], 2) == [0, 0]
        return made[name]

    return run


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_processes_with_shards_train_and_measure_like_one(
    alone: Any, two: Any, name: str
) -> None:
    tolerance = TOLERANCES.get(name, TOLERANCE)
    assert difference(alone(name), two(name)) <= tolerance
    rows, others = forked.rows(alone(name)), forked.rows(two(name))
    for row, other in zip(rows, others, strict=True):
        value, wanted = row.pop("value"), other.pop("value")
        row.pop("error", None), other.pop("error", None)
        assert row == other
        if row["metric"] == "loss" or tolerance < 1e-2:
            assert value == pytest.approx(wanted, rel=max(1e-5, tolerance))
    assert forked.folder(alone(name)).name == forked.folder(two(name)).name


def test_bf16_in_shards_is_that_of_one_process(tmp_path: Path) -> None:
    """Weights are cast without autocast's cache, see `experiments.measuring.autocast`."""
    low = {**FEW, "train__precision": "bf16"}
    one, both, full = (
        config(tmp_path / name, **changes)
        for name, changes in (("one", low), ("both", low), ("full", FEW))
    )
    for alone_ in (one, full):
        runner.run(alone_)
    assert forked.run_ranks(both, 2) == [0, 0]
    assert difference(one, both) <= TOLERANCE < 1e-3 < difference(one, full)


@pytest.mark.parametrize("name", ["lion int8", "adafactor"])
def test_killed_and_resumed_is_bit_equal(tmp_path: Path, two: Any, name: str) -> None:
    killed = config(tmp_path, name)
    codes = forked.run_ranks(killed, 2, **{tiny.KILL_VARIABLE: "15"})
    assert -signal.SIGKILL in codes
    assert forked.weights(killed)["step"] == 5
    assert forked.run_ranks(killed, 2) == [0, 0]
    forked.assert_same_end(two(name), killed)


def test_running_statistics_are_resumed_bit_equal(tmp_path: Path) -> None:
    """They differ between processes while training; those of the main one count, and are saved.

    The model reads them while it trains, too: each step begins with the main one's, as in "ddp".
    """
    norm = {"model__batch_norm": True, "train__steps": 10, "eval__every_steps": 10}
    whole, killed = (config(tmp_path / name, "lion bf16", **norm) for name in ("a", "b"))
    whole_twice = config(tmp_path / "c", "lion bf16", "ddp", **norm)
    assert forked.run_ranks(whole, 2) == [0, 0]
    assert forked.run_ranks(whole_twice, 2) == [0, 0]
    assert difference(whole, whole_twice) <= TOLERANCE
    assert forked.run_ranks(killed, 2, **{tiny.KILL_VARIABLE: "15"}) != [0, 0]
    assert forked.run_ranks(killed, 2) == [0, 0]
    forked.assert_same_end(whole, killed)
    kept = {_name(r): r["value"] for r in forked.rows(whole) if r.get("evaluation")}
    for row in evaluate.measure(whole).rows:
        assert row["value"] == pytest.approx(kept[_name(row)], rel=1e-5), row


def _name(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["split"], row["metric"], row["weights"]


@pytest.mark.parametrize("name", ["lion int8", "adafactor"])
def test_a_run_moves_between_sizes_and_strategies(tmp_path: Path, alone: Any, name: str) -> None:
    """Shards in two processes, one process, two that each hold all, shards again; all killed."""
    made, whole = config(tmp_path, name), config(tmp_path, name, "ddp")
    assert -signal.SIGKILL in forked.run_ranks(made, 2, **{tiny.KILL_VARIABLE: "15"})
    assert forked.run(made, **{tiny.KILL_VARIABLE: "25"}) == -signal.SIGKILL
    assert forked.weights(made)["step"] == 10
    assert -signal.SIGKILL in forked.run_ranks(whole, 2, **{tiny.KILL_VARIABLE: "15"})
    assert forked.weights(made)["step"] == 15
    assert forked.run_ranks(made, 2) == [0, 0]
    assert difference(alone(name), made) <= TOLERANCES[name]
    assert state_difference(alone(name), made) <= STATE_TOLERANCE


def test_an_evaluation_later_is_that_of_the_training(tmp_path: Path, two: Any) -> None:
    made = two("adamw")
    found = forked.call_ranks(lambda: evaluate.measure(made).rows, 2)[0]
    kept = [r for r in forked.rows(made) if r["step"] == 20 and r.get("evaluation")]
    values = {_name(r): r["value"] for r in kept}
    assert found and all(values[_name(r)] == r["value"] for r in found)


def test_frozen_parts_stay_and_the_others_train_as_in_one_process(tmp_path: Path) -> None:
    """A whole block, and a tensor of another."""
    frozen = {**FEW, "param_groups__frozen": ["blocks.0.*", "blocks.1.inner.weight", "embed.*"]}
    one, both = (config(tmp_path / name, **frozen) for name in ("one", "both"))
    runner.run(one)
    assert forked.run_ranks(both, 2) == [0, 0]
    assert difference(one, both) <= TOLERANCE
    ends = forked.weights(both)["model"]
    begin = _drawn(both)
    for name, tensor in ends.items():
        is_frozen = name.startswith(("blocks.0.", "embed.")) or name == "blocks.1.inner.weight"
        assert torch.equal(tensor, begin[name]) == is_frozen, name


def _drawn(made: RunConfig) -> dict[str, torch.Tensor]:
    """The weights that a run begins with."""
    from experiments.build import build

    task = build(made.task, "task", data=made.data, model=made.model)
    return build_parts(made, task, World(0, 1, torch.device("cpu"))).model.state_dict()


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path, alone: Any) -> None:
    source = forked.folder(alone("adamw"))
    still = {"optimizer__lr": 0.0, "optimizer__weight_decay": 0.0, "train__steps": 1}
    section = {"source": str(source), "leave_out": ["head.*"]}
    made = config(tmp_path, **{**FEW, **still}, start_from=section)
    assert forked.run_ranks(made, 2) == [0, 0]
    wanted, found = forked.weights(alone("adamw"))["model"], forked.weights(made)["model"]
    for name, tensor in found.items():
        assert torch.equal(tensor, wanted[name]) != name.startswith("head."), name
    header = read_json(forked.folder(made) / "run.json")
    assert '"left_out": ["head.bias", "head.weight"]' in header["start_from"]


def _held(made: RunConfig) -> dict[str, Any]:
    """What a process holds after a step: (elements of its own, elements of the whole)."""
    with joined(made.launch) as world:
        from experiments.build import build

        task = build(made.task, "task", data=made.data, model=made.model)
        sent, most, send = [], [0], sharding._sent

        def watched(*arguments: Any) -> torch.Tensor:
            found = send(*arguments)
            sent.append(weakref.ref(found))
            most[0] = max(most[0], _alive(sent))
            return found

        sharding._sent = watched  # this process ends soon
        parts = build_parts(made, task, world)
        alive = _alive(sent)
        for batch in parts.task.batches(parts.plan, 0, 1):
            runner._step(parts, 0, batch, 1.0)
        params = list(parts.model.parameters())
        states = [t for s in parts.optimizer.state.values() for t in s.values() if t.dim()]
        assert isinstance(parts.average, ShardedAverage)
        averages = list(parts.average._shards.values())
        ties = parts.model.mix.weight is parts.model.mix_again.weight  # type: ignore[union-attr]
        return {
            "weights": _own_and_all(params),
            "optimizer": _own_and_all(states),
            "averages": (sum(t.numel() for t in averages), sum(p.numel() for p in params)),
            "tied": bool(ties),
            "whole while it was built": most[0],
            "whole afterwards": alive,
        }


def _alive(sent: list[Any]) -> int:
    """Elements of whole weights that are still held; scalars and buffers stay whole."""
    found = [ref() for ref in sent]
    return sum(t.numel() for t in found if isinstance(t, nn.Parameter) and t.dim())


def _own_and_all(tensors: list[Any]) -> tuple[int, int]:
    return sum(local(t).numel() for t in tensors), sum(t.numel() for t in tensors)


@pytest.mark.parametrize("model", ["Net", "Choosy"])
def test_each_process_holds_half(tmp_path: Path, model: str) -> None:
    made = config(tmp_path, model={"_target_": f"layered.{model}", "num_blocks": 8})
    first, second = forked.call_ranks(lambda: _held(made), 2)
    for what in ("weights", "optimizer", "averages"):
        (own, whole), (other, _) = first[what], second[what]
        assert whole <= own + other <= whole + 2  # scalars are held twice
        assert max(own, other) < 0.54 * whole, what
    for held in (first, second):
        assert held["tied"]
        assert held["whole afterwards"] == 0
        block = sum(p.numel() for p in layered.Block().parameters())
        rest = held["weights"][1] - 8 * block
        assert held["whole while it was built"] <= max(block, rest)


def test_what_is_whole_at_a_time() -> None:
    with torch.device("meta"):
        vit = create_model("vit_tiny_patch16_224")
        resnet = create_model("resnet18")
    kinds = [{type(m).__name__ for m in sharding.blocks(model)} for model in (vit, resnet)]
    assert kinds == [{"Block"}, {"BasicBlock"}]
    assert len(sharding.blocks(vit)) == 12
    net = layered.Net()
    assert sharding.blocks(net) == list(net.blocks)
    net.blocks[1].norm.weight = net.blocks[0].norm.weight  # type: ignore[union-attr, assignment]
    assert sharding.blocks(net) == []  # one block alone is no repetition
    assert sharding.blocks(tiny.Net()) == []
    halves = nn.Sequential(nn.Sequential(layered.Block(), layered.Block()), layered.Block())
    assert {type(m) for m in sharding.blocks(halves)} == {layered.Block}


def test_a_model_without_blocks_is_one_shard(tmp_path: Path) -> None:
    model = {"_target_": "tiny.Net", "batch_norm": False}
    net = {**FEW, "model": model, "train__channels_last": True}
    one, both = (config(tmp_path / name, **net) for name in ("one", "both"))
    runner.run(one)
    assert forked.run_ranks(both, 2) == [0, 0]
    assert difference(one, both) <= TOLERANCE


def test_what_is_not_proven_is_refused_in_one_line(tmp_path: Path) -> None:
    two = World(0, 2, torch.device("cpu"))
    compiled = config(tmp_path, train__compile=True)
    with pytest.raises(ConfigError, match="fsdp: not tested with train.compile=true; set launch"):
        sharding.check(compiled, two, "")
    watched = config(tmp_path, tracking__telemetry_every_steps=5)
    with pytest.raises(ConfigError, match="fsdp: no telemetry .*set launch.strategy=ddp"):
        sharding.check(watched, two, "")
    with pytest.raises(ConfigError, match="strategy=fsdp: one tower runs by itself; set launch"):
        sharding.check(config(tmp_path), two, "one tower runs by itself")
    sharding.check(config(tmp_path, strategy="ddp"), two, "one tower runs by itself")
    sharding.check(compiled, replace(two, size=1), "")


class _Odd(torch.optim.SGD):
    """Keeps a tensor of its own beside each parameter."""

    def step(self, closure: Any = None) -> None:
        for param in self.param_groups[0]["params"]:
            self.state[param]["table"] = torch.ones(3)


class _Cautious(torch.optim.SGD):
    """Changes a mean over the whole parameter in place, as several optimizers of timm do."""

    def step(self, closure: Any = None) -> None:
        for param in self.param_groups[0]["params"]:
            param.detach().mean().clamp_(min=1e-3)


@pytest.mark.parametrize(
    "kind,said",
    [
        (_Odd, "_Odd keeps 'table' of shape [3] beside a sharded parameter, which cannot be saved"),
        (_Cautious, "_Cautious of these settings cannot step a sharded parameter: set launch.st"),
    ],
)
def test_an_optimizer_that_cannot_be_sharded_is_refused_at_the_first_step(
    kind: Any, said: str
) -> None:
    def look() -> str:
        with joined(config(Path("unused")).launch) as world:
            seed_all(0)
            model = sharding.build(layered.Net, world, torch.float32)
            optimizer = kind(model.parameters(), lr=0.1)
            sharded_state.watch_state(optimizer)
            try:
                sharded_state.step(optimizer)
            except UserError as error:
                return str(error)
            return ""

    first, second = forked.call_ranks(look, 2)
    assert first == second
    assert said in first


def test_the_strategy_is_no_part_of_the_run(tmp_path: Path) -> None:
    assert run_id(config(tmp_path)) == run_id(config(tmp_path, strategy="ddp"))
