"""A run that is killed and called again ends bit-equal to one that was not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny

from experiments import checkpoint, runner
from experiments.store import read_json

pytestmark = pytest.mark.usefixtures("signals_as_in_a_terminal")

OPTIMIZERS = {
    "lion": {},
    "adamw": {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 3e-3, "weight_decay": 0.1}},
    "lean_lion": {  # weights of 16 bits with residuals, momenta of 8 bits with scales
        "train__precision": "bf16",
        "train__param_dtype": "bfloat16",
        "train__ema_decay": None,
        "optimizer__momentum_dtype": "int8",
        "optimizer__kahan_sum": True,
    },
    "hero_lion": {"optimizer": {"_target_": "lion.HeroLion", "lr": 3e-3, "weight_decay": 0.1}},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_killed_twice_and_resumed_is_bit_equal(tmp_path: Path, name: str) -> None:
    whole = tiny.config(tmp_path / "whole", **OPTIMIZERS[name])
    killed = tiny.config(tmp_path / "killed", **OPTIMIZERS[name])
    assert forked.run(whole) == 0
    # call 3 of 24: before the first checkpoint; then call 13 of the second try: after two.
    for call in (3, 13):
        assert forked.run(killed, **{tiny.KILL_VARIABLE: str(call)}) == -signal.SIGKILL
    assert forked.run(killed) == 0
    forked.assert_same_end(whole, killed)


def test_killed_with_mixup_and_accumulation_is_bit_equal(tmp_path: Path) -> None:
    changes = {"train__micro_batch_size": 4, "task__mixup_alpha": 0.5, "task__cutmix_alpha": 0.5}
    whole = tiny.config(tmp_path / "whole", **changes)
    killed = tiny.config(tmp_path / "killed", **changes)
    assert forked.run(whole) == 0
    assert forked.run(killed, **{tiny.KILL_VARIABLE: "50"}) == -signal.SIGKILL
    assert forked.run(killed) == 0
    forked.assert_same_end(whole, killed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    changes = {"checkpoint__every_steps": None, "eval__every_epochs": 3.0}
    config = tiny.config(tmp_path / "run", **changes)
    loss = tiny.Task.loss

    def told(self: tiny.Task, *args: Any) -> Any:
        if self.calls == 12:
            os.kill(os.getpid(), number)
        return loss(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(tiny.Task, "loss", told)
        assert forked.run(config) == 128 + number
    status = read_json(forked.folder(config) / "status.json")
    assert status["state"] == "interrupted"
    assert forked.weights(config)["step"] == status["step"] == 13

    assert forked.run(config) == 0
    whole = tiny.config(tmp_path / "whole", **changes)
    assert forked.run(whole) == 0
    forked.assert_same_end(whole, config)


def test_damaged_newest_checkpoint_falls_back_with_a_warning(tmp_path: Path) -> None:
    whole = tiny.config(tmp_path / "whole")
    broken = tiny.config(tmp_path / "broken")
    assert forked.run(whole) == 0
    assert forked.run(broken, **{tiny.KILL_VARIABLE: "18"}) == -signal.SIGKILL
    folder = forked.folder(broken) / "checkpoints"
    newest, before = checkpoint.list_newest_first(folder)[:2]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoint.find_good(folder) == before
    assert forked.run(broken) == 0
    forked.assert_same_end(whole, broken)


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    config = tiny.config(tmp_path)
    first = runner.run(config)
    files = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*") if p.name != ".lock"}
    again = runner.run(config)
    assert again.state == first.state == "finished"
    assert again.results == first.results
    assert files == {p: p.stat().st_mtime_ns for p in first.folder.rglob("*") if p.name != ".lock"}
