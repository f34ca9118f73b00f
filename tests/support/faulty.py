"""A small training program that logs JSON lines, and can be made to have one fault."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from torch import nn

from experiments.telemetry import Telemetry
from lion import Lion, param_groups

FAULTS = ("", "twice", "bf16", "clipped", "reset", "drift", "nan", "spikes then nan", "no warm-up")
STEPS, EVERY, RESUMED_AT = 120, 5, 60


class Net(nn.Module):
    """A scalar, an embedding, matrices and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 16)
        self.scale = nn.Parameter(torch.tensor(0.1))
        self.body = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 8))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.body(self.embedding(tokens)) * (1 + self.scale)


def settings(fault: str) -> dict[str, object]:
    """What the log does not tell."""
    found: dict[str, object] = {"optimizer": "lion", "lr": 1e-3, "weight_decay": 0.1}
    found |= {"batch_size": 64, "total_steps": STEPS, "warmup_steps": 12}
    if fault == "bf16":
        found |= {"param_dtype": "bfloat16", "lr": 1e-6}
    if fault == "clipped":
        found["grad_clip_norm"] = 1e-3
    if fault in ("", "twice"):
        found["grad_clip_norm"] = 100.0
    if fault in ("", "reset"):
        found["resumed_at"] = float(RESUMED_AT)
    if fault == "no warm-up":
        found["warmup_steps"] = 0
    return found


def log_of(path: Path, fault: str = "") -> Path:
    """Trains, and writes a line per look.

    Args:
        path: Of the file.
        fault: One of `FAULTS`; empty: none.
    """
    torch.manual_seed(0)
    asked = settings(fault)
    dtype = torch.bfloat16 if fault == "bf16" else torch.float32
    model = Net().to(dtype)
    lr = float(str(asked["lr"]))
    clip = asked.get("grad_clip_norm")
    clip_norm = None if clip is None else float(str(clip))
    optimizer = Lion(param_groups(model, 0.1), lr=lr)
    telemetry = Telemetry(model, optimizer, EVERY, clip_norm)
    lines = []
    for step in range(1, STEPS + 1):
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(0, 8, (64,), generator=generator)
        targets = torch.where(torch.rand(64, generator=generator) < 0.3, (tokens + 1) % 8, tokens)
        loss = nn.functional.cross_entropy(model(tokens).float(), targets)
        loss.backward()
        if fault == "drift":  # a gradient too small to matter to anything but a sign
            assert model.scale.grad is not None
            model.scale.grad.fill_(-1e-9)
        if fault == "reset" and step == RESUMED_AT + 1:
            optimizer = Lion(param_groups(model, 0.1), lr=lr)
            telemetry = Telemetry(model, optimizer, 1, clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, step / 12) * (10 if fault == "drift" else 1)
        norm = None
        if clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        telemetry.before(step, norm)
        for _ in range(2 if fault == "twice" else 1):
            optimizer.step()
        telemetry.after(step)
        optimizer.zero_grad()
        lines.append({"step": step, "train/loss": _told(float(loss.detach()), fault, step)})
        if telemetry.is_due(step):
            lines[-1] |= {f"telemetry/{name}": value for name, value in telemetry.take()}
        if math.isnan(lines[-1]["train/loss"]):
            break
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def _told(loss: float, fault: str, step: int) -> float:
    """The losses of a run that ends badly."""
    if "nan" in fault and step == 100:
        return math.nan
    if fault == "spikes then nan" and step in (80, 92):
        return 4 * loss
    if fault == "no warm-up" and step in (4, 5, 6):
        return 3 * loss
    return loss
