"""Small made-up studies of the two stages and of image-text training, as `collect` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

PERCENT: dict[str, Any] = {"unit": "%", "better": "higher", "weights": "raw", "digits": 2,
                           "tune_split": "val", "report_split": "test", "state": "finished",
                           "scale": "proxy", "num_params": 60000, "data": "made_up",
                           "seconds": 1.0, "steps": 300, "beta1": 0.9, "beta2": 0.99,
                           "val_loss": 1.0, "test_loss": 1.0, "batch_size": 64}  # fmt: skip
LUCK = (0.3, -0.2, 0.1, -0.4, 0.2, 0.0, -0.1, 0.4, -0.3, 0.05)
"""By seed: what both optimizers of a pair have in common."""


SHIFTED = {("shifted", "top1"): -10.0}
AVERAGED = {("test", "top1"): 1.0, ("shifted", "top1"): -9.0}
ENDS = {("test", "t2i_recall1"): 1.5, ("test", "zero_shot_top1"): 12.0}
"""Of `write`."""
SEEDS, NEW = range(5), range(100, 110)


def run(
    experiment: str, optimizer: str, seed: int, value: float, lr: float, **more: Any
) -> dict[str, Any]:
    """A row of runs.csv; validation is a little below test."""
    decay, name = more.pop("weight_decay", 0.1), more.get("init_optimizer", optimizer)
    size = more.get("batch_size", "")
    noise = LUCK[seed % len(LUCK)]
    return {
        **PERCENT, "experiment": experiment, "optimizer": optimizer, "seed": seed, "lr": lr,
        "weight_decay": decay, "val": value + noise - 1, "test": value + noise, "n": 4000,
        "metric": "top1", "run_id": f"{experiment}-{name}-{lr}-{decay}-{size}-s{seed}", **more,
    }  # fmt: skip


def grid(
    experiment: str, tops: dict[str, float], seeds: range, peak: int = 1, **more: Any
) -> list[dict[str, Any]]:
    """Three learning rates x three decays; the best is at `peak` of each, 2 points a step."""
    return [
        run(experiment, name, seed, top + jitter(name, seed) - 2 * (abs(i - peak) + abs(j - peak)),
            0.1 * (i + 1), weight_decay=0.1 * (j + 1), **more)
        for name, top in tops.items() for seed in seeds for i in range(3) for j in range(3)
    ]  # fmt: skip


def jitter(name: str, seed: int) -> float:
    """What an optimizer's run of a seed has of its own."""
    return 0.05 * ((seed * 7 + len(name)) % 5 - 2)


def write(
    results: Path,
    experiment: str,
    name: str,
    rows: list[dict[str, Any]],
    ends: dict[tuple[str, str], float] | None = None,
    others: dict[tuple[str, str], float] | None = None,
) -> Path:
    """Writes runs.csv, curves.csv and other_weights.csv; `ends` are above the run's test value.

    Args:
        results: Folder of all results.
        experiment: Of the study.
        name: Of the study.
        rows: Of `run`.
        ends: By split and metric: the last value of the weights that decide, minus test.
        others: The same of the averaged weights.
    """  # fmt: skip
    folder = results / "studies" / experiment / name
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)
    curves, beside = [], []
    for row in [row for row in rows if row["state"] == "finished"]:
        for (split, metric), more in (ends or {}).items():
            point = {"run_id": row["run_id"], "split": split, "metric": metric}
            curves += [{**point, "step": step, "value": row["test"] + more + step - 300}
                       for step in (300, 150)]  # fmt: skip
        for (split, metric), more in (others or {}).items():
            beside.append({"run_id": row["run_id"], "step": 300, "split": split, "metric": metric,
                           "weights": "ema", "value": row["test"] + more})  # fmt: skip
    columns = ["run_id", "step", "split", "metric", "value"]
    pd.DataFrame(curves, columns=columns).to_csv(folder / "curves.csv", index=False)
    if beside:
        pd.DataFrame(beside).to_csv(folder / "other_weights.csv", index=False)
    return folder


def pretrained(results: Path, peak: int = 1) -> None:
    """Stage one, with its best cell at `peak` of both axes."""
    rows = grid("pretrain_proxy", {"adamw": 60.0, "lion": 62.0}, SEEDS, peak)
    write(results, "pretrain_proxy", "tuning", rows)


def fine_tuned(
    gain: float = 2.0, seeds: range = SEEDS, lrs: tuple[float, ...] = (0.03, 0.1, 0.3)
) -> list[dict[str, Any]]:
    """Stage two: learning rates for each optimizer of the pre-training; 0.1 is best."""
    return [
        run("finetune_proxy", "sgd", seed, top + jitter(name, seed) - 3 * (lr != 0.1), lr,
            init_optimizer=name, weight_decay=0.0, beta2=None)
        for name, top in (("adamw", 80.0), ("lion", 80.0 + gain)) for seed in seeds for lr in lrs
    ]  # fmt: skip


def image_text(name: str, seed: int, value: float, **more: Any) -> dict[str, Any]:
    """A run with the setting that `grid` makes the best."""
    facts = {"metric": "i2t_recall1", "n": 800, "weight_decay": 0.2} | more
    return run("lit_proxy", name, seed, value, 0.2, **facts)


def image_texts(results: Path, ends: dict[tuple[str, str], float] = ENDS, **tops: float) -> None:
    """Tuning and fresh runs of several optimizers."""
    rows = grid("lit_proxy", tops, range(3), metric="i2t_recall1", n=800)
    write(results, "lit_proxy", "tuning", rows, ends)
    fresh = [image_text(n, s, top + jitter(n, s)) for n, top in tops.items() for s in NEW]
    write(results, "lit_proxy", "fresh", fresh, ends)
