"""Training steps on a card: the runner beside the shortest loop, Lion beside AdamW, in bfloat16."""

from __future__ import annotations

import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_lab.measuring import (
    DEVICE,
    IS_REHEARSAL,
    Rows,
    check_alive,
    emptied,
    in_a_line,
    is_too_large,
    matmul_roof,
    wait,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from experiments import runner
from experiments.build import build
from experiments.config import from_dict
from experiments.distributed import World
from experiments.parts import Parts, build_parts
from experiments.tasks.task import check_task

MODELS = ("vit_small_patch16_224", "vit_base_patch16_224")
SIDE = 32 if IS_REHEARSAL else 224
BATCH = 8 if IS_REHEARSAL else 512
MICROS = (4,) if IS_REHEARSAL else (128, 64, 32)
"""Images of a forward pass: the largest that the card has memory for."""
NUM_STEPS, NUM_TURNS = (1, 2) if IS_REHEARSAL else (6, 5)
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "lion": {"_target_": "lion.Lion", "lr": 1e-4, "weight_decay": 1.0},
    "adamw": {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 0.1, "fused": True},
}


class SyntheticImages:
    """What a folder of images gives, without the decoding: 8 bits a value, in pinned memory."""

    name, num_classes, eval_groups = "synthetic", 1000, ()

    def __init__(self, size: int, number: int) -> None:
        self.size, self.num_train = size, number

    def visible_classes(self, split: str) -> None:
        """All of them."""

    def eval_batches(self, *_: Any) -> Iterator[Any]:
        """There is nothing to evaluate."""
        return iter(())

    def train_batches(self, plan: Any, start: int, end: int, settings: Any) -> Iterator[Any]:
        """The same images at each step."""
        shape = (plan.micro_batch_size, 3, self.size, self.size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        labels = torch.randint(0, 1000, shape[:1])
        if DEVICE.type == "cuda":
            images, labels = images.pin_memory(), labels.pin_memory()
        for _ in range(start, end):
            yield [(images, labels)] * len(plan.micro_numbers())


def parts_of(model: str, optimizer: str, micro: int, **train: Any) -> Parts:
    """What a run of the suite is made of; `micro` images in a forward pass."""
    small: dict[str, Any] = {}
    if IS_REHEARSAL:
        model, small = "vit_tiny_patch16_224", {"depth": 2, "embed_dim": 48}
    config = from_dict(
        {
            "experiment": "gpu_check",
            "optimizer_name": optimizer,
            "task": {"_target_": "experiments.tasks.image.ImageClassification"},
            "data": {
                "_target_": "gpu_lab.training.SyntheticImages",
                "size": SIDE,
                "number": 4 * BATCH,
            },
            "model": {
                "_target_": "timm.create_model",
                "model_name": model,
                "num_classes": 1000,
                "img_size": SIDE,
                **small,
            },
            "optimizer": OPTIMIZERS[optimizer],
            "train": {
                "steps": 10**6,
                "batch_size": BATCH,
                "micro_batch_size": micro,
                "precision": "fp32" if IS_REHEARSAL else "bf16",
                **train,
            },
            "launch": {"progress": False},
            "results_dir": "unused",
        }
    )
    task = check_task(build(config.task, "task", data=config.data, model=config.model))
    parts = build_parts(config, task, World(0, 1, DEVICE))
    parts.model.train()
    return parts


def step_of(parts: Parts) -> Callable[[], Any]:
    """The runner's own step, batch after batch."""
    batches = parts.task.batches(parts.plan, 0, 10**6)
    numbers = iter(range(10**6))
    return lambda: runner._step(parts, next(numbers), next(batches), 1.0)


def bare_step_of(parts: Parts) -> Callable[[], Any]:
    """The shortest loop with the same model, optimizer and size; its images lie on the device."""
    (images, labels), *_ = next(iter(parts.task.batches(parts.plan, 0, 1)))
    images, labels = images.to(DEVICE), labels.to(DEVICE)
    is_mixed, num_micro = not IS_REHEARSAL, BATCH // len(images)

    def step() -> None:
        for _ in range(num_micro):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=is_mixed):
                logits = parts.forward((images.float() - 127.5) / 127.5)
                loss = nn.functional.cross_entropy(logits.float(), labels) / num_micro
            loss.backward()
        parts.optimizer.step()
        parts.optimizer.zero_grad(set_to_none=True)

    return step


def fitting(rows: Rows, measure: Callable[[int], None], **names: Any) -> None:
    """Measures with the most images in a forward pass that the card has memory for."""
    for micro in MICROS:
        problem = ""
        try:
            measure(micro)
        except Exception as error:
            if is_too_large(error):
                problem = in_a_line(error)
            else:
                rows.add(**names, micro=micro, error=in_a_line(error))
                traceback.print_exc()
                check_alive()
        emptied()  # here, where no traceback holds what did not fit
        if not problem:
            return
        rows.add(**names, micro=micro, skipped=problem)


def train(rows: Rows) -> None:
    """Images per second of both optimizers in the runner and of the bare loop, in turns."""
    roof = matmul_roof()
    rows.add(part="train", what="matmul roof, bf16", teraflops=round(roof / 1e12, 1))
    emptied()
    models = MODELS[:1] if IS_REHEARSAL else MODELS
    for number, model in enumerate(models):
        if rows.is_time_over:
            return
        seconds = rows.seconds_left / (len(models) - number)

        def measure(micro: int, model: str = model, seconds: float = seconds) -> None:
            _train(rows, model, micro, roof, time.perf_counter() + seconds)

        fitting(rows, measure, part="train", model=model)


def _train(rows: Rows, model: str, micro: int, roof: float, ends: float) -> None:
    runs = {
        "runner, lion": step_of(parts_of(model, "lion", micro)),
        "runner, adamw": step_of(parts_of(model, "adamw", micro)),
        "bare, lion": bare_step_of(parts := parts_of(model, "lion", micro)),
    }
    flops = _counted(rows, parts, model)
    _turn(runs, 1)  # compiles, and chooses algorithms
    one = _turn(runs, 1)
    left = ends - time.perf_counter()
    num_steps = int(left / NUM_TURNS / sum(one.values()))
    seconds = {name: [spent] for name, spent in one.items()}
    if num_steps:  # else a slow card: one step of each must do
        seconds = {name: [] for name in runs}
        for _ in range(NUM_TURNS):
            for name, spent in _turn(runs, min(num_steps, NUM_STEPS)).items():
                seconds[name].append(spent)
            if time.perf_counter() > ends:
                break
    _report(rows, model, micro, seconds, flops, roof)


def _turn(runs: dict[str, Callable[[], Any]], num_steps: int) -> dict[str, float]:
    """Seconds a step of each run, one after another."""
    seconds = {}
    for name, work in runs.items():
        wait()
        began = time.perf_counter()
        for _ in range(num_steps):
            work()
        wait()
        seconds[name] = (time.perf_counter() - began) / num_steps
    return seconds


def _report(
    rows: Rows,
    model: str,
    micro: int,
    seconds: dict[str, list[float]],
    flops: float | None,
    roof: float,
) -> None:
    for name, of in seconds.items():
        speed = BATCH / statistics.median(of)
        rows.add(
            part="train", model=model, what=name, batch=BATCH, micro=micro, turns=len(of),
            images_per_second=round(speed, 1),
            share_of_matmul_roof=flops and round(speed * flops / roof, 3),
        )  # fmt: skip
    for one, other, what in (
        ("bare, lion", "runner, lion", "runner / bare loop, speed"),
        ("runner, adamw", "runner, lion", "Lion / AdamW, speed of a whole step"),
    ):
        ratios = [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]
        rows.add(
            part="train", model=model, what=what, ratio=round(statistics.median(ratios), 4),
            lowest=round(min(ratios), 4), highest=round(max(ratios), 4), turns=len(ratios),
        )  # fmt: skip


def _counted(rows: Rows, parts: Parts, model: str) -> float | None:
    """Operations of an image; None where they cannot be counted: the time is measured all the same.

    Raises:
        OutOfMemoryError: so that fewer images are tried.
    """
    try:
        return _flops_an_image(parts)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        rows.add(part="train", model=model, what="operations of an image", error=in_a_line(error))
        return None


def _flops_an_image(parts: Parts) -> float:
    """Of forward and backward pass, by torch's counter."""
    counter = FlopCounterMode(display=False)
    with counter:
        parts.forward(torch.zeros(2, 3, SIDE, SIDE, device=DEVICE)).sum().backward()
    parts.optimizer.zero_grad(set_to_none=True)
    return counter.get_total_flops() / 2
