"""A model in shards saved as one file, which any number of processes goes on from."""

from __future__ import annotations

import signal
from pathlib import Path

import forked
import tiny
import torch.distributed.fsdp
import torch.distributed.tensor  # noqa: F401  # the forked processes need not import it each
from in_shards import config

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
