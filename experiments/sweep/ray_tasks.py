"""Workers as tasks of a Ray cluster whose machines share the file system."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from experiments import trust
from experiments.config import UserError
from experiments.launch import LAUNCHER_VARIABLE
from experiments.packages import get
from experiments.sweep.live import Live
from experiments.sweep.manifest import Sweep

POLL_SECONDS = 1.0


def launch(
    path: Path,
    num_workers: int = 4,
    address: str | None = None,
    cpus_per_worker: float = 1,
    gpus_per_worker: float = 0,
    max_group: int = 1,
) -> int:
    """Trains what a sweep lacks; see `conf/launcher/ray.yaml`.

    Returns:
        0 if every cell is done, 1 if not, 130 after Ctrl-C.

    Raises:
        UserError: without Ray, or if there is no cluster at the address.
    """
    sweep = Sweep(path)
    num_missing = sum(sweep.final_state(cell) is None for cell in sweep.cells)
    if not num_missing:
        return 0
    ray = _import_ray()
    count = min(num_workers, num_missing)
    root = str(Path(__file__).resolve().parent.parent.parent)
    try:
        variables = {"PYTHONPATH": root, LAUNCHER_VARIABLE: "ray"}
        variables[trust.VARIABLE] = os.environ.get(trust.VARIABLE, "")
        environment = {"env_vars": variables}
        ray.init(address=address, runtime_env=environment, log_to_driver=False)
    except Exception as error:  # it has kinds of its own, and those of what it is made of
        raise UserError(f"launcher.address={address}: Ray says: {in_a_line(error)}") from error
    try:
        resources = {"num_cpus": cpus_per_worker, "num_gpus": gpus_per_worker, "max_retries": 3}
        task = ray.remote(**resources)(_work)
        waiting = [task.remote(str(path.resolve()), max_group) for _ in range(count)]
        _watch(ray, waiting, sweep)
    except KeyboardInterrupt:
        print("stopping the workers; their runs are saved", file=sys.stderr)
        return 130
    finally:
        ray.shutdown()
    return 0 if set(sweep.states().values()) <= {"finished", "diverged"} else 1


def _import_ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"launcher=ray needs Ray: {get('ray')}") from error
    return ray


def in_a_line(error: BaseException) -> str:
    """What Ray says: of a traceback from a worker its last line, of other texts the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    is_traceback = any("Traceback (most recent" in line or "ray::" in line for line in lines)
    return lines[-1 if is_traceback else 0][:300] if lines else type(error).__name__


def _watch(ray: Any, waiting: list[Any], sweep: Sweep) -> None:
    """Until every worker has left; one that died leaves its cells to the others."""
    with Live(sweep, len(waiting)) as live:
        while waiting:
            done, waiting = ray.wait(waiting, timeout=POLL_SECONDS)
            for task in done:
                try:
                    ray.get(task)
                except Exception as error:  # what a cell did is in its folder; this is the worker
                    said = f"{type(error).__name__}: {in_a_line(error)}"
                    print(f"a worker has died: {said}", file=sys.stderr)
            live.show()


def _work(path: str, max_group: int) -> int:
    """The life of a worker."""
    from experiments.sweep.worker import Worker

    return Worker(Path(path), max_group).work()
