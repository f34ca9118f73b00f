"""What other launchers have left in the environment: taken for what it says, or refused."""

from __future__ import annotations

import os

import pytest

from experiments import inherited
from experiments.config import ConfigError


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without what a launcher of the tests may have set."""
    for name in [*inherited.RANKS, *(n for n in os.environ if n.startswith("SLURM_"))]:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_alone_or_one_of_several(environment: pytest.MonkeyPatch) -> None:
    assert inherited.place() == (0, 1)
    environment.setenv("RANK", "3")
    environment.setenv("WORLD_SIZE", "4")
    assert inherited.place() == (3, 4)
    with pytest.raises(ConfigError, match=r"a sweep is started once, not in each of 4 processes"):
        inherited.refuse_several("a sweep")
    inherited.forget_place()
    inherited.refuse_several("a sweep")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"RANK": "1"}, "RANK is '1', WORLD_SIZE is not set: no process of a run"),
        ({"WORLD_SIZE": "2"}, "RANK is not set, WORLD_SIZE is '2'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "Unset both for a run of one process"),
        ({"RANK": "", "WORLD_SIZE": "two"}, "RANK is '', WORLD_SIZE is 'two'"),
    ],
)
def test_half_of_it_is_refused(
    environment: pytest.MonkeyPatch, told: dict[str, str], said: str
) -> None:
    """A run that took itself for the second of one process trained, and said nothing."""
    for name, value in told.items():
        environment.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        inherited.place()


def test_a_job_inherits_nothing_of_the_job_that_sends_it(environment: pytest.MonkeyPatch) -> None:
    ours = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "4096", "SLURM_ARRAY_TASK_ID": "3"}
    ours |= {"RANK": "1", "WORLD_SIZE": "2"}
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_PARTITION": "low"}
    for name, value in {**ours, **kept}.items():
        environment.setenv(name, value)
    before = dict(os.environ)
    with inherited.outside_of_jobs():
        assert before.items() - os.environ.items() == ours.items()
    assert dict(os.environ) == before
    environment.delenv("SLURM_JOB_ID")  # a user's own settings
    with inherited.outside_of_jobs():
        assert os.environ["SLURM_MEM_PER_NODE"] == "4096" and "RANK" not in os.environ


def test_processes_of_srun_that_know_nothing_of_each_other_are_named(
    environment: pytest.MonkeyPatch,
) -> None:
    assert inherited.who_else() == ""
    environment.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert inherited.who_else() == ""
    environment.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert "srun has started 2 processes" in inherited.who_else()
    environment.setenv("WORLD_SIZE", "2")
    assert inherited.who_else() == ""
