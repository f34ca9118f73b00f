"""How a job is sent to SLURM: what its script sets up, and what SLURM says when it refuses."""

from __future__ import annotations

import contextlib
import io
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments import inherited
from experiments.config import UserError

MAX_TIMEOUTS = 1000
"""How often a task may run into its time limit: each time it goes on where it was."""


def import_from(root: Path) -> str:
    """A shell line after which Python finds this suite; the last one: modules may set the path."""
    return f"export PYTHONPATH={shlex.quote(str(root))}${{PYTHONPATH:+:$PYTHONPATH}}"


def sbatch_options(extra: Mapping[str, Any]) -> dict[str, Any]:
    """More options of sbatch. Tasks can be queued again, unless that is taken back.

    Args:
        extra: As given; null and false leave an option out.
    """
    options = {"requeue": True, **extra}
    return {
        key: value for key, value in options.items() if value is not None and value is not False
    }


@contextlib.contextmanager
def submitting(num_workers_key: str) -> Iterator[None]:
    """While submitit calls sbatch: the job inherits nothing of one that it is sent from.

    Args:
        num_workers_key: The setting with the number of tasks.

    Raises:
        UserError: with what SLURM has said, in one line.
    """
    said = io.StringIO()  # submitit prints what its error says as well
    try:
        with inherited.outside_of_jobs(), contextlib.redirect_stderr(said):
            yield
    except Exception as error:
        reason = " ".join(str(error).replace("sbatch: error:", " ").split())
        hint = ""
        if "job array specification" in reason:
            hint = f": lower {num_workers_key} (scontrol show config | grep MaxArraySize)"
        raise UserError(f"SLURM refuses the job: {reason}{hint}") from error


def is_queued(array: str) -> bool:
    """Whether any task of a job array waits or runs, as far as SLURM says."""
    return bool(queue_of(array))


def queue_of(array: str, name: str = "") -> list[str]:
    """State and reason of each task of an array that waits or runs; "unknown" if SLURM is away.

    Args:
        array: Its number.
        name: Only where it is called so.
    """
    command = ["squeue", "--noheader", "--array", "--format=%T %r", f"--jobs={array}"]
    command += [f"--name={name}"] if name else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:  # "Invalid job id": forgotten; anything else: ask again
        return [] if "nvalid job id" in done.stderr else ["unknown"]
    return done.stdout.strip().splitlines()
