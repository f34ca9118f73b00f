"""Measures what telemetry costs beside the steps of the very same run, in CPU time.

    python scripts/bench_telemetry.py [--case NAME] [--no-save]      # results/bench/telemetry.csv

A run of the runner with telemetry on, on one thread. Counted are the calls before and after an
optimizer's step, and the making and writing of its rows; beside them, everything else of the steps
(without loading data). Of models whose steps take seconds more steps are looked at than the usual
one in 100; the share is that of one look in 100 steps all the same. Medians over steps and looks,
without the clock's own cost.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from experiments.surroundings import measured_on  # noqa: E402

OUT = ROOT / "results" / "bench" / "telemetry.csv"
CADENCE = 100
"""Steps between two looks, as README and the doctor tell users to set it."""
CASES: dict[str, tuple[str, int, int, int]] = {  # page, batch, steps, steps between looks
    "mlp_proxy": ("mlp_proxy", 64, 800, CADENCE),
    "vit_proxy": ("vit_proxy", 64, 800, CADENCE),
    "vit_small": ("vit_s16_imagenet", 8, 8, 4),
    "vit_base": ("vit_b16_imagenet", 4, 8, 4),
}


def configure(name: str, folder: Path) -> Any:
    """The run of a case; full-size models see random images."""
    import bench_runner

    from experiments.compose import compose

    page, batch, steps, every = CASES[name]
    changes = [f"train.batch_size={batch}", "train.epochs=null", f"train.steps={steps}"]
    changes += ["schedule.warmup_fraction=0", "schedule.warmup_steps=null", "launch.device=cpu"]
    changes += ["train.precision=fp32", "train.micro_batch_size=null", "launch.num_threads=1"]
    changes += [f"tracking.telemetry_every_steps={every}", "launch.progress=false"]
    changes += [
        "train.grad_clip_norm=1",
        f"results_dir={folder}",
        "eval.every_epochs=null",
        "eval.every_steps=null",
    ]
    config = compose([f"experiment={page}", "optimizer=lion", *changes])
    if page.endswith("_imagenet"):
        config.data = {"_target_": "bench_runner.images", "name": "bench", "size": 224}
        config.data["number"] = 4 * batch
        config.task = dict(bench_runner.CLASSIFY)
        config.model = {**config.model, "num_classes": 10}
    return config


Times = dict[str, list[tuple[int, float]]]
"""What was called: after how many steps, and its CPU seconds."""


@contextlib.contextmanager
def counted() -> Iterator[Times]:
    """Within, the CPU seconds of each call: of the whole step, and of telemetry in and after it."""
    from experiments import runner
    from experiments.recorder import Recorder
    from experiments.telemetry import SPLIT, Telemetry

    times: Times = defaultdict(list)

    def timed(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                took = time.process_time() - began
                times[name].append((len(times["step"]) + (name != "rows"), took))

        return wrapped

    add, add_timed = Recorder.add, timed(Recorder.add, "rows")

    def add_either(recorder: Any, rows: list[dict[str, Any]]) -> None:
        is_ours = bool(rows) and rows[0]["split"] == SPLIT
        (add_timed if is_ours else add)(recorder, rows)

    nothing = timed(lambda: None, "timer")
    for _ in range(1000):
        nothing()
    with (
        mock.patch.object(runner, "_step", timed(runner._step, "step")),
        mock.patch.object(runner, "telemetry_rows", timed(runner.telemetry_rows, "rows")),
        mock.patch.object(Telemetry, "before", timed(Telemetry.before, "telemetry")),
        mock.patch.object(Telemetry, "after", timed(Telemetry.after, "telemetry")),
        mock.patch.object(Recorder, "add", add_either),
    ):
        yield times


def medians(times: Times, every: int) -> tuple[float, float]:
    """CPU seconds of a step without telemetry, and of what a look adds, with the steps between.

    Args:
        times: From `counted`.
        every: Steps between two looks.
    """
    timer = statistics.median(took for _, took in times["timer"])
    by_step: dict[int, float] = defaultdict(float)
    for done, took in (*times["telemetry"], *times["rows"]):
        by_step[done] += took - timer
    steps = [took - timer - _within(times, done, timer) for done, took in times["step"]]
    looks = [by_step[done] + by_step[done - 1] for done in by_step if done % every == 0]
    idle = [by_step[done] for done in by_step if done % every not in (0, every - 1)]
    between = max(0.0, statistics.median(idle)) * (CADENCE - 2)
    return statistics.median(steps), statistics.median(looks) + between


def _within(times: Times, done: int, timer: float) -> float:
    """Of telemetry within a step; both of its calls have read the clock."""
    calls = times["telemetry"][2 * (done - 1) : 2 * done]
    return sum(took + timer for _, took in calls)


def measure(name: str) -> dict[str, Any]:
    """A row of the table."""
    from experiments import runner

    page, batch, steps, every = CASES[name]
    with tempfile.TemporaryDirectory() as folder, counted() as times:
        outcome = runner.run(configure(name, Path(folder)))
        header = json.loads((outcome.folder / "run.json").read_text())
    step, look = medians(times, every)
    return {
        "case": name,
        "experiment": page,
        "num_params": header["num_params"],
        "batch_size": batch,
        "steps": steps,
        "measured_every_steps": every,
        "step_cpu_ms": f"{1e3 * step:.4g}",
        "look_cpu_ms": f"{1e3 * look:.4g}",
        f"share_percent_at_{CADENCE}": f"{100 * look / CADENCE / step:.2g}",
        "threads": 1,
        **measured_on(),
    }


def main() -> int:
    """Measures the cases asked for, and replaces their rows in the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--no-save", action="store_true")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    rows = {row["case"]: row for row in csv.DictReader(OUT.open())} if OUT.exists() else {}
    for name in args.case or CASES:
        rows[name] = measure(name)
        print(*(f"{key} {value}" for key, value in rows[name].items()), sep=", ", flush=True)
    if not args.no_save:
        ordered = [rows[name] for name in CASES if name in rows]
        with OUT.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(ordered[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(ordered)
    return 0


if __name__ == "__main__":
    sys.exit(main())
