"""Training steps on a card: the runner beside the shortest loop, Lion beside AdamW, in bfloat16."""

from __future__ import annotations

import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_lab.measuring import DEVICE, IS_REHEARSAL, Rows, matmul_roof, wait
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
MICRO, NUM_MICRO = (4, 2) if IS_REHEARSAL else (128, 4)
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


def parts_of(model: str, optimizer: str, **train: Any) -> Parts:
    """What a run of the suite is made of."""
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
                "number": 4 * MICRO * NUM_MICRO,
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
                "batch_size": MICRO * NUM_MICRO,
                "micro_batch_size": MICRO,
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
    is_mixed = not IS_REHEARSAL

    def step() -> None:
        for _ in range(NUM_MICRO):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=is_mixed):
                logits = parts.forward((images.float() - 127.5) / 127.5)
                loss = nn.functional.cross_entropy(logits.float(), labels) / NUM_MICRO
            loss.backward()
        parts.optimizer.step()
        parts.optimizer.zero_grad(set_to_none=True)

    return step


def train(rows: Rows) -> None:
    """Images per second of both optimizers in the runner and of the bare loop, in turns."""
    roof = matmul_roof()
    rows.add(part="train", what="matmul roof, bf16", teraflops=round(roof / 1e12, 1))
    for model in MODELS[:1] if IS_REHEARSAL else MODELS:
        if rows.is_time_over:
            return
        runs = {
            "runner, lion": step_of(parts_of(model, "lion")),
            "runner, adamw": step_of(parts_of(model, "adamw")),
            "bare, lion": bare_step_of(parts := parts_of(model, "lion")),
        }
        flops = _flops_an_image(parts)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(NUM_TURNS + 1):
            for name, work in runs.items():
                wait()
                began = time.perf_counter()
                for _ in range(NUM_STEPS):
                    work()
                wait()
                if turn:  # the first one compiles and chooses algorithms
                    seconds[name].append((time.perf_counter() - began) / NUM_STEPS)
        _report(rows, model, seconds, flops, roof)


def _report(
    rows: Rows, model: str, seconds: dict[str, list[float]], flops: float, roof: float
) -> None:
    batch = MICRO * NUM_MICRO
    for name, of in seconds.items():
        speed = batch / statistics.median(of)
        rows.add(
            part="train", model=model, what=name, batch=batch, images_per_second=round(speed, 1),
            share_of_matmul_roof=round(speed * flops / roof, 3),
        )  # fmt: skip
    for one, other, what in (
        ("bare, lion", "runner, lion", "runner / bare loop, speed"),
        ("runner, adamw", "runner, lion", "Lion / AdamW, speed of a whole step"),
    ):
        ratios = [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]
        rows.add(
            part="train", model=model, what=what, ratio=round(statistics.median(ratios), 4),
            lowest=round(min(ratios), 4), highest=round(max(ratios), 4),
        )  # fmt: skip


def _flops_an_image(parts: Parts) -> float:
    """Of forward and backward pass, by torch's counter."""
    counter = FlopCounterMode(display=False)
    with counter:
        parts.forward(torch.zeros(2, 3, SIDE, SIDE, device=DEVICE)).sum().backward()
    parts.optimizer.zero_grad(set_to_none=True)
    return counter.get_total_flops() / 2


def memory(rows: Rows) -> None:
    """Most memory that the allocator gave during steps, for each optimizer."""
    for model in MODELS[:1] if IS_REHEARSAL else MODELS:
        for name in OPTIMIZERS:
            if rows.is_time_over:
                return
            if DEVICE.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            work = step_of(parts_of(model, name))
            for _ in range(2):
                work()
            wait()
            peak = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0
            rows.add(part="memory", model=model, what=name, peak_mebibytes=peak >> 20)
            del work


def sync(rows: Rows) -> None:
    """Every place within a step where the host waits for the device, with its line."""
    parts = parts_of(MODELS[0], "lion", ema_decay=0.999, grad_clip_norm=1.0)
    work = step_of(parts)
    for _ in range(2):
        work()
    places: list[str] = []

    def note(*_: Any, **__: Any) -> None:
        frames = traceback.extract_stack()[:-1]
        ours = [f for f in frames if "/experiments/" in f.filename or "/lion/" in f.filename]
        places.append(f"{ours[-1].filename.split('/')[-1]}:{ours[-1].lineno}" if ours else "torch")

    if DEVICE.type == "cuda":
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = note
            torch.cuda.set_sync_debug_mode("warn")
            work()
            torch.cuda.set_sync_debug_mode("default")
    rows.add(part="sync", what="places that wait", count=len(places), places=sorted(set(places)))


def language(rows: Rows) -> None:
    """Tokens per second of a small language model; needs transformers."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        rows.add(part="language", what="skipped: transformers is not installed")
        return
    from lion import Lion

    size = {"n_embd": 64, "n_layer": 1, "n_head": 2} if IS_REHEARSAL else {}
    length, batch = (32, 2) if IS_REHEARSAL else (1024, 8)
    tokens = torch.randint(0, 50257, (batch, length), device=DEVICE)
    for name, make in (
        ("lion", lambda p: Lion(p, lr=1e-4, weight_decay=0.1)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=1e-4, fused=DEVICE.type == "cuda")),
    ):
        model = GPT2LMHeadModel(GPT2Config(**size)).to(DEVICE)
        optimizer = make(model.parameters())
        seconds = []
        for _ in range(3 + NUM_TURNS):
            wait()
            began = time.perf_counter()
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=not IS_REHEARSAL):
                loss = model(tokens, labels=tokens).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            wait()
            seconds.append(time.perf_counter() - began)
        speed = batch * length / statistics.median(seconds[3:])
        rows.add(part="language", what=f"GPT-2, {name}", tokens_per_second=round(speed))
