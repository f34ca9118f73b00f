"""What the environment says of processes that somebody else has started: torchrun, srun, SLURM.

Standard library only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from experiments.config import ConfigError

RANKS = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Variables of one process among those of a run, as torchrun and `experiments.launch` set them."""
_OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")
_OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS")


def place() -> tuple[int, int]:
    """Which process this is, and how many there are: 0 and 1 where nobody says.

    Raises:
        ConfigError: where what is said cannot be.
    """
    told = [os.environ.get(name) for name in ("RANK", "WORLD_SIZE")]
    if told == [None, None]:
        return 0, 1
    rank, size = (int(text) if text and text.isdecimal() else -1 for text in told)
    if not 0 <= rank < size:
        said = ", ".join(
            f"{name} is {'not set' if text is None else repr(text)}"
            for name, text in zip(("RANK", "WORLD_SIZE"), told, strict=True)
        )
        raise ConfigError(
            f"{said}: no process of a run. Unset both for a run of one process; torchrun and "
            "slurm_train.sh (in scripts/) set them for several"
        )
    return rank, size


def refuse_several(what: str) -> None:
    """Refuses what one process starts, where several were told to.

    Raises:
        ConfigError: names the way.
    """
    size = place()[1]
    if size > 1:
        raise ConfigError(
            f"{what} is started once, not in each of {size} processes (WORLD_SIZE={size}): call it "
            "without torchrun or srun, or unset RANK and WORLD_SIZE"
        )


def forget_place() -> None:
    """In a worker, whose runs are its own: what it was started with says nothing of them."""
    for name in RANKS:
        os.environ.pop(name, None)


def who_else() -> str:
    """A hint where srun has started this command more than once, and each for itself; or ""."""
    count = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    if not count.isdecimal() or int(count) < 2 or "WORLD_SIZE" in os.environ:
        return ""
    return (
        f" (srun has started {count} processes that know nothing of each other: "
        "slurm_train.sh, in scripts/, makes them one run)"
    )


@contextlib.contextmanager
def outside_of_jobs() -> Iterator[None]:
    """While a job is submitted: it inherits nothing of the job or run that submits it.

    SLURM gives a job the submitter's environment, and srun reads there how much to take.
    """
    is_job = "SLURM_JOB_ID" in os.environ
    hidden = {
        name: value
        for name, value in os.environ.items()
        if name in RANKS or (is_job and name.startswith(_OF_A_JOB) and name not in _OF_THE_CLUSTER)
    }
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
