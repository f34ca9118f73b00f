"""`job=landscape`: how flat the loss is around a run's newest checkpoint, into that run's ledger.

    python run.py job=landscape experiment=vit_proxy optimizer=lion     # as the run was called
    python run.py job=landscape run=vit_proxy-lion-s0-0123456789        # or by its id

Rows have the split `landscape`: the mean training loss under Gaussian noise on the weights, with
standard errors over antithetic pairs of draws, for several noise scales; and the top eigenvalue of
the Hessian with its residual. The loss is the training objective (with its augmentation, mixing
and smoothing) on the same examples for every run, in evaluation mode (no dropout, stored batch
statistics) and 32-bit precision.

The job may be stopped at any time: what was measured stays, and the next call goes on from there.

# Differs from the paper: it does not state the scale of the noise (results/paper/README.md), so
# the scales here are assumed; filter-normalised noise and the Hessian are not in it.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from experiments import checkpoint, schedule_free
from experiments.build import explained, what_is_trained
from experiments.config import LandscapeConfig, RunConfig, UserError
from experiments.data.order import BatchPlan, derive, seed_all
from experiments.distributed import joined
from experiments.files import end_output, say
from experiments.identity import folder_of, run_id
from experiments.jobs.flatness import Mean, pair_loss, top_eigenvalue, trainable
from experiments.live_line import LiveLine
from experiments.measuring import row
from experiments.parts import Parts, build_parts
from experiments.recorder import Recorder
from experiments.saved_parts import restore_parts
from experiments.store import Folder, read_rows
from experiments.tasks.task import Batch, Loss, build_task

SPLIT = "landscape"
SAVE_SECONDS = 20.0
"""Between two writings of an unfinished mean; a kill loses no more."""


def main(config: RunConfig) -> int:
    """Measures, and prints one line with what came out."""
    rows = measure(config)
    shown = [f"{r['metric']} {r['value']:.4g}" for r in rows if not r["metric"].endswith("_se")]
    say(f"{run_id(config)}: landscape, {', '.join(shown)} -> {_folder(config).path}\n", sys.stdout)
    end_output()
    return 0


def measure(config: RunConfig) -> list[dict[str, Any]]:
    """Measures what is missing.

    Returns:
        All landscape rows of this run at the checkpoint's step, with the present settings.

    Raises:
        UserError: where there is no checkpoint, or more than one process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("job=landscape runs in one process: call it without torchrun")
    if not checkpoint.list_newest_first(_folder(config).checkpoints):
        raise UserError(f"{_folder(config).path}: no checkpoint to measure; train first")
    with joined(config.launch) as world, Recorder.opened(config, world) as recorder:
        task = build_task(config)
        parts = build_parts(config, task, world)
        step = restore_parts(parts, recorder)
        if step == 0:
            raise UserError(f"{recorder.folder.path}: no checkpoint is good; train first")
        recorder.resume_rows()
        with schedule_free.shown(parts.optimizer):
            parts.model.eval().float()  # bfloat16 would round small noise, and the loss, away
            job = _Job(parts, recorder, step, _examples(parts, config.landscape.num_examples))
            with explained(f"{what_is_trained(config)}: the measurement fails"):
                job.measure_noise()
                job.measure_hessian()
        recorder.flush()
        return job.rows()


@dataclass
class _Job:
    """One call of the job: what it measures on, and where to."""

    parts: Parts
    recorder: Recorder
    step: int
    batches: list[Batch]  # on the device

    def __post_init__(self) -> None:
        self.settings: LandscapeConfig = self.parts.config.landscape
        self.live = LiveLine(self.parts.config.launch.progress)
        self.parameters = trainable(self.parts.model)

    def measure_noise(self) -> None:
        """The loss itself, then under each noise."""
        if self._found("loss") is None:
            self._add("loss", self._mean_loss(), sum(map(len_of, self.batches)))
        wanted = [("sigma", s) for s in self.settings.sigmas]
        for kind, scale in [*wanted, *(("relative", s) for s in self.settings.relative_scales)]:
            self._measure_scale(f"loss_{kind}_{scale:g}", scale, kind == "relative")

    def _measure_scale(self, metric: str, scale: float, relative: bool) -> None:
        value, error = self._found(metric), self._found(f"{metric}_se")
        num_pairs = math.ceil(self.settings.num_draws / 2)
        if value and error and min(value["n"], error["n"]) >= 2 * num_pairs:
            return
        mean = Mean()
        if value and error and value["n"] == error["n"]:
            mean = Mean.resumed(value["n"] // 2, value["value"], error["value"])
        saved = time.monotonic()
        while mean.num_pairs < num_pairs:
            seed = derive(self.settings.seed, SPLIT, mean.num_pairs)
            mean.add(pair_loss(self.parameters, self._mean_loss, scale, seed, relative))
            self.live.show(f"{metric}: {2 * mean.num_pairs} of {2 * num_pairs} draws")
            is_last = mean.num_pairs == num_pairs
            if is_last or time.monotonic() - saved > SAVE_SECONDS:
                saved = time.monotonic()
                self._add(metric, mean.value, 2 * mean.num_pairs)
                self._add(f"{metric}_se", mean.error, 2 * mean.num_pairs)
        self.live.close()

    def measure_hessian(self) -> None:
        """The top eigenvalue, over the first examples."""
        settings = self.settings
        if settings.hessian_examples == 0 or self._found("hessian_top_residual"):
            return
        batches = list(_first(self.batches, settings.hessian_examples))
        number = sum(map(len_of, batches))
        with torch.no_grad():
            weights = [_weight(self._loss(i, b), b) for i, b in enumerate(batches)]

        def losses() -> Iterator[tuple[Tensor, float]]:
            for index, batch in enumerate(batches):
                yield self._loss(index, batch).counted(), weights[index] / sum(weights)

        try:
            found = top_eigenvalue(
                self.parameters,
                losses,
                tolerance=settings.hessian_tolerance,
                max_iterations=settings.hessian_iterations,
                seed=derive(settings.seed, "hessian"),
                on_product=lambda done: self.live.show(f"Hessian: {done} products"),
            )
        except ArithmeticError as error:
            raise UserError(
                f"{error}; raise landscape.hessian_iterations or landscape.hessian_tolerance, or "
                "leave it out with landscape.hessian_examples=0"
            ) from error
        finally:
            self.live.close()
        self._add("hessian_top", found.value, number)
        self._add("hessian_top_residual", found.residual, number)

    @torch.no_grad()
    def _mean_loss(self) -> float:
        found = [(self._loss(index, batch), batch) for index, batch in enumerate(self.batches)]
        weights = [_weight(loss, batch) for loss, batch in found]
        whole = sum(weights)
        pairs = zip(found, weights, strict=True)
        return sum(float(loss.counted()) * weight / whole for (loss, _), weight in pairs)

    def _loss(self, index: int, batch: Batch) -> Loss:
        """The same random numbers (Mixup) for a batch each time."""
        seed_all(derive(self.settings.seed, SPLIT, "batch", index))
        return self.parts.task.loss(self.parts.model, batch, self.parts.world)

    def _add(self, metric: str, value: float, n: int) -> None:
        found = row(self.parts, self.step, SPLIT, metric, value, self.parts.task.loss_unit)
        settings = _measured_with(self.settings, metric)
        self.recorder.add([{**found, "n": n, "settings": settings}])

    def rows(self) -> list[dict[str, Any]]:
        """What the ledger holds of this step and these settings."""
        rows = read_rows(self.recorder.folder.metrics)
        return [
            r
            for r in rows
            if (r["split"], r["step"]) == (SPLIT, self.step)
            and r.get("settings") == _measured_with(self.settings, r["metric"])
        ]

    def _found(self, metric: str) -> dict[str, Any] | None:
        return next((r for r in self.rows() if r["metric"] == metric), None)


def _measured_with(settings: LandscapeConfig, metric: str) -> dict[str, Any]:
    """What a number depends on: with other settings it is measured anew, and replaced.

    Not the number of draws: more of them go on from the fewer.
    """
    parts = ["num_examples", "batch_size", "seed"]
    if metric.startswith("hessian"):
        parts += ["hessian_examples", "hessian_tolerance"]
    return {k: v for k, v in asdict(settings).items() if k in parts}


def _examples(parts: Parts, number: int) -> list[Batch]:
    """The first training examples in the order of the landscape's own seed, on the device."""
    num_train = parts.task.num_train
    size = min(parts.config.landscape.batch_size, number, num_train)
    plan = BatchPlan(parts.config.landscape.seed, num_train, size, size)
    steps = min(math.ceil(number / size), plan.steps_per_epoch)
    found = [micro for step in parts.task.batches(plan, 0, steps) for micro in step]
    device = parts.world.device
    return [tuple(tensor.to(device) for tensor in batch) for batch in _first(found, number)]


def _first(batches: list[Batch], number: int) -> Iterator[Batch]:
    """The first examples; the last batch is cut."""
    for batch in batches:
        if number <= 0:
            return
        yield tuple(tensor[:number] for tensor in batch)
        number -= len_of(batch)


def _weight(loss: Loss, batch: Batch) -> float:
    """Of a batch in the mean of all."""
    return float(len_of(batch) if loss.weight is None else loss.weight)


def len_of(batch: Batch) -> int:
    """Examples in a batch."""
    return len(batch[0])


def _folder(config: RunConfig) -> Folder:
    return Folder(folder_of(config))
