"""A run that hangs is ended with its worker, has failed, and takes no other with it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import forked
import pytest
import swept

from experiments import runner
from experiments.config import RunConfig
from experiments.sweep.leases import LOST, Leases
from experiments.sweep.overtime import watched

LIMIT = {"seconds": 0.01, "reason": "it took longer than that"}


def held(folder: Path, *names: str) -> list[Any]:
    leases = Leases(folder, 60)
    return [leases.claim(name, []) for name in names]


def test_what_is_trained_together_has_failed_but_for_what_has_an_outcome(tmp_path: Path) -> None:
    ours, left = held(tmp_path, "a", "b"), threading.Event()
    ours[1].release("finished")
    codes = list[int]()
    with watched(ours, LIMIT, lambda code: (codes.append(code), left.set())):
        assert left.wait(forked.NET_SECONDS)
    assert codes == [LOST]
    assert [one.outcome for one in ours] == ["failed", "finished"]
    assert ours[0].facts["message"] == LIMIT["reason"] and ours[0].facts["limit"] == 0.01


@pytest.mark.parametrize("limit", [None, {**LIMIT, "seconds": 1e5}])
def test_one_that_is_in_time_is_not_ended(limit: Any, tmp_path: Path) -> None:
    (ours,) = held(tmp_path, "a")
    before = threading.active_count()
    with watched([ours], limit):
        pass
    forked.wait_for(lambda: threading.active_count() == before)  # no clock is left behind
    assert ours.outcome is None


def test_the_next_worker_goes_on_with_the_other_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first cell hangs, as where a GPU no longer answers, and lets no signal through."""
    train, hangs = runner.run, threading.Event()

    def run(config: RunConfig) -> Any:
        while config.seed == 0:
            hangs.wait(1000)
        return train(config)

    monkeypatch.setattr(runner, "run", run)
    cells = swept.cells(tmp_path, 2, train__epochs=1.0)
    sweep = swept.sweep(tmp_path, cells, max_tries=1, limit={**LIMIT, "seconds": 0.05})
    assert swept.work(sweep.path) == LOST
    assert sweep.states()[cells[0].run_id] == "failed"
    sweep = swept.sweep(tmp_path, cells, max_tries=1)  # of the next call: no limit
    assert "limit" not in sweep.manifest and swept.work(sweep.path) == 0
    assert list(sweep.states().values()) == ["failed", "finished"]
