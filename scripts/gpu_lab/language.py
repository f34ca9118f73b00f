"""Training steps of a small language model on a card, Lion beside AdamW."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from gpu_lab.measuring import DEVICE, IS_REHEARSAL, Rows, in_a_line, wait
from gpu_lab.training import NUM_TURNS, fitting

from lion import Lion


def language(rows: Rows) -> None:
    """Tokens per second of a small language model; needs transformers."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except Exception as error:  # not installed, or not for this version of torch
        rows.add(part="language", what=f"skipped: no transformers ({in_a_line(error)})")
        return
    size = {"n_embd": 64, "n_layer": 1, "n_head": 2} if IS_REHEARSAL else {}
    length = 32 if IS_REHEARSAL else 1024
    for name, make in (
        ("lion", lambda p: Lion(p, lr=1e-4, weight_decay=0.1)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=1e-4, fused=DEVICE.type == "cuda")),
    ):

        def measure(micro: int, name: str = name, make: Any = make) -> None:
            batch = max(1, micro // 16)
            tokens = torch.randint(0, 50257, (batch, length), device=DEVICE)
            model = GPT2LMHeadModel(GPT2Config(**size)).to(DEVICE)
            optimizer, seconds = make(model.parameters()), []
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
                if rows.seconds_left < 0 and len(seconds) > 3:
                    break
            speed = batch * length / statistics.median(seconds[3:])
            rows.add(
                part="language", what=f"GPT-2, {name}", batch=batch, length=length,
                tokens_per_second=round(speed),
            )  # fmt: skip

        if not rows.is_time_over:
            fitting(rows, measure, part="language", what=f"GPT-2, {name}")
