"""A model in shards saved as one file, and what each process takes of one."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
import torch
import torch.distributed.fsdp
import torch.distributed.tensor  # the forked processes need not import it each
from in_shards import config
from torch import nn

from experiments import sharded_state, sharding
from experiments.config import LaunchConfig, UserError
from experiments.distributed import is_shard, joined, local

SHORT = {"train__steps": 6, "eval__every_steps": None, "checkpoint__every_steps": 2}


def test_saved_whole_and_resumed_it_ends_as_saved_in_shards(tmp_path: Path) -> None:
    """To the bit: weights, averages with their number, and what the optimizer remembers."""
    shards = config(tmp_path / "shards", "adafactor", **SHORT)
    whole = config(tmp_path / "whole", "adafactor", **SHORT, checkpoint__format="whole")
    assert forked.run_ranks(shards, 2) == [0, 0]
    assert -signal.SIGKILL in forked.run_ranks(whole, 2, **{tiny.KILL_VARIABLE: "10"})
    assert forked.weights(whole)["step"] == 4
    assert forked.run_ranks(whole, 2) == [0, 0]
    assert {p.suffix for p in forked.folder(whole).glob("checkpoints/*")} == {".pt"}
    forked.assert_same_end(shards, whole)
    found = forked.weights(whole)
    assert int(found["average"]["n_averaged"]) == 6
    for part, prefix in (("model", ""), ("average", "module.")):
        tied = [found[part][f"{prefix}{name}.weight"] for name in ("mix", "mix_again")]
        assert tied[0].data_ptr() == tied[1].data_ptr(), "saved twice"


def _cut() -> list[Any]:
    """What a process takes of whole states beside a matrix of 3 rows, of which the first has 2."""
    with joined(LaunchConfig(device="cpu")) as world:
        made = sharding.build(lambda: nn.Linear(2, 3, bias=False), world, torch.float32)
        param = next(made.parameters())
        step, whole, row = torch.tensor(3.0), torch.arange(6.0).view(3, 2), torch.arange(3.0)
        rows, factor = (sharded_state._cut_state(value, param) for value in (whole, row))
        assert sharded_state._cut_state(step, param) is step
        assert sharded_state._cut_state(rows, param) is rows
        assert sharded_state._cut_state("text", param) == "text"
        assert is_shard(rows) and rows.placements == param.placements  # type: ignore[union-attr]
        assert is_shard(factor) and factor.shape == (3,)
        own, copied = local(rows), local(factor)
        assert own.untyped_storage().nbytes() == 4 * own.numel(), "it holds the whole one"
        assert copied.data_ptr() != row.data_ptr()
        codes = torch.zeros(2, 3, dtype=torch.int8).t()
        with pytest.raises(UserError, match="codes were saved in another order"):
            sharded_state._cut_state(codes, param)
        assert is_shard(sharded_state._cut_state(codes.contiguous(), param))
        assert is_shard(sharded_state._cut_state(codes.float(), param))
        return [own.tolist(), copied.tolist()]


def test_what_is_like_its_parameter_is_cut_and_other_state_is_whole_in_every_process() -> None:
    first, second = forked.call_ranks(_cut, 2)
    assert first == [[[0.0, 1.0], [2.0, 3.0]], [0.0, 1.0, 2.0]]
    assert second == [[[4.0, 5.0]], [0.0, 1.0, 2.0]]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"a": torch.ones(2, 3)}, "other tensors than the model: b"),
        ({"a": torch.ones(2, 3), "b": torch.ones(()), "c": torch.ones(1)}, "than the model: c"),
        ({"a": torch.ones(3, 2), "b": torch.ones(())}, "other shapes than the model's: a"),
    ],
)
def test_what_does_not_fit_changes_nothing(state: dict[str, torch.Tensor], said: str) -> None:
    own = {"a": torch.zeros(2, 3), "b": torch.zeros(())}
    with pytest.raises(UserError, match=said):
        sharded_state.fill_all(own, state)
    assert not any(tensor.any() for tensor in own.values())
    sharded_state.fill_all(own, {"b": torch.tensor(2.0), "a": torch.ones(2, 3)})
    assert own["a"].all() and own["b"] == 2


def test_any_state_may_stand_beside_a_parameter_that_is_whole() -> None:
    """A temperature, which no process holds a part of."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(3))], lr=0.1)
    optimizer.state[optimizer.param_groups[0]["params"][0]]["table"] = torch.ones(5)
    sharded_state.check_state(optimizer)
