"""Whole runs of the suite on a card: they end, they start as on a CPU, and they go on exactly."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gpu_lab.measuring import (
    DEVICE,
    IS_REHEARSAL,
    Rows,
    check_alive,
    emptied,
    in_a_line,
    is_installed,
    is_missing_package,
    is_too_large,
)

from experiments import runner
from experiments.build import build
from experiments.config import RunConfig, UserError
from experiments.distributed import World
from experiments.parts import build_parts
from experiments.store import Folder, read_rows
from experiments.tasks.task import check_task

PAGES = (
    "vit_proxy", "lm_proxy", "cnn_proxy", "mlm_proxy", "lit_proxy", "t5_proxy", "bandit_proxy",
    "diffusion_proxy",
)  # fmt: skip
RESUMED = ("vit_proxy", "lm_proxy")
"""Those that are stopped in the middle and called again."""
NUM_STEPS, STOP_AFTER = 4, 2
TOLERANCES = (2e-3, 2e-2)
"""Relative, of the first two losses in float32 to those of the CPU, with the same weights and
batches. A head that begins at 0 tells nothing at the first; at the second, signs may have turned.
"""


class _Stopped(Exception):
    """Where a run is broken off."""


def runs(rows: Rows) -> None:
    """Small proxies from end to end, with averages, clipping, telemetry and every evaluation."""
    if not is_installed("hydra"):
        rows.add(part="runs", what="skipped: pages need hydra-core")
        return
    for page in PAGES[:1] if IS_REHEARSAL else PAGES:
        checks = {"ends": _ends, "starts as on a CPU": _starts_as_on_a_cpu}
        if page in RESUMED:
            checks["goes on exactly"] = _goes_on
        for what, check in checks.items():
            if rows.is_time_over:
                return
            _add(rows, page, what, check)


def _add(rows: Rows, page: str, what: str, check: Any) -> None:
    """A row of one check: whatever fails there, the next one is still made."""
    row: dict[str, Any] = {"part": "runs", "page": page, "what": what}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            row |= check(page, Path(folder))
        except UserError as error:  # data or a package that this machine lacks, or a wrong run
            lacks = "pip install" in str(error) or "is not installed" in str(error)
            lacks |= is_too_large(error) or is_missing_package(error)
            row["skipped" if lacks else "error"] = in_a_line(error)
        except Exception as error:
            lacks = is_too_large(error) or is_missing_package(error)
            row["skipped" if lacks else "error"] = in_a_line(error)
    rows.add(**row, seconds=round(time.perf_counter() - began, 1))
    check_alive()
    emptied()


def _config(page: str, folder: Path, **train: Any) -> RunConfig:
    from experiments.compose import compose

    device = "cpu" if IS_REHEARSAL else "cuda"
    found = compose([f"experiment={page}", "optimizer=lion", f"launch.device={device}"])
    return replace(
        found,
        results_dir=str(folder),
        train=replace(found.train, steps=NUM_STEPS, epochs=None, **train),
        eval=replace(found.eval, every_epochs=None, every_steps=None),
        checkpoint=replace(found.checkpoint, every_steps=STOP_AFTER),
        launch=replace(found.launch, progress=False, log_every_steps=1),
    )


def _ends(page: str, folder: Path) -> dict[str, Any]:
    """A run in the card's own precision."""
    precision = "fp32" if IS_REHEARSAL else "bf16"
    wanted = {"precision": precision, "ema_decay": 0.5, "grad_clip_norm": 1.0}
    config = _config(page, folder, **wanted)
    config = replace(config, tracking=replace(config.tracking, telemetry_every_steps=2))
    outcome = runner.run(config)
    measured = [f"{row['split']} {row['metric']} {row['weights']}" for row in outcome.results]
    return {
        "state": outcome.state,
        "as_expected": outcome.state == "finished" and bool(measured),
        "precision": precision,
        "measured": sorted(measured)[:20],
        "said": outcome.message,
    }


def _starts_as_on_a_cpu(page: str, folder: Path) -> dict[str, Any]:
    """The losses of the first steps, in float32 on both; later ones drift apart by signs.

    Without dropout, which a card's own generator draws.
    """
    config = _config(page, folder, precision="fp32", ema_decay=None)
    config = replace(config, model=without_dropout(config.model))
    card, cpu = (_first_losses(config, device) for device in (DEVICE, torch.device("cpu")))
    off = [abs(a - b) / max(abs(b), 1e-3) for a, b in zip(card, cpu, strict=True)]
    is_near = all(a < most for a, most in zip(off, TOLERANCES, strict=True))
    return {"card": card, "cpu": cpu, "off_by": max(off), "as_expected": is_near}


def without_dropout(section: dict[str, Any]) -> dict[str, Any]:
    """A model's section with every share that is dropped at 0."""
    found = {}
    for key, value in section.items():
        if isinstance(value, dict):
            found[key] = without_dropout(value)
        else:
            found[key] = 0.0 if "drop" in key and isinstance(value, float) else value
    return found


def _first_losses(config: RunConfig, device: torch.device) -> list[float]:
    task = check_task(build(config.task, "task", data=config.data, model=config.model))
    parts = build_parts(config, task, World(0, 1, device))
    parts.model.train()
    batches = task.batches(parts.plan, 0, len(TOLERANCES))
    return [float(runner._step(parts, step, batch, 1.0)) for step, batch in enumerate(batches)]


def _goes_on(page: str, folder: Path) -> dict[str, Any]:
    """Broken off and called again is bit-equal, where a card's kernels are deterministic."""
    wanted = {"precision": "fp32", "ema_decay": 0.5, "deterministic": True}
    try:
        whole, broken = (_config(page, folder / name, **wanted) for name in ("whole", "broken"))
        runner.run(whole)
        _broken_off(broken)
        runner.run(broken)
    finally:
        torch.use_deterministic_algorithms(False)
    losses = [_losses(config) for config in (whole, broken)]
    return {"losses": losses[0], "as_expected": losses[0] == losses[1], "resumed": losses[1]}


def _broken_off(config: RunConfig) -> None:
    """Without a word to the run, as if its machine had gone."""
    step, count = runner._step, 0

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count > STOP_AFTER:
            raise _Stopped
        return step(*args)

    runner._step = counted
    try:
        runner.run(config)
    except _Stopped:
        return
    finally:
        runner._step = step
    raise RuntimeError("the run was not broken off")


def _losses(config: RunConfig) -> list[float]:
    (folder,) = Path(config.results_dir).iterdir()
    rows = read_rows(Folder(folder).metrics)
    return [r["value"] for r in rows if (r["split"], r["metric"]) == ("train", "loss")]
