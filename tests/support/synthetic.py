"""Made-up studies in the format of `results/studies/`, to test pages with. Never a result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.store import Folder, Ledger, write_json

PAPER = Path(__file__).resolve().parents[2] / "results/paper"
NASTY = "<script>window.hacked = 1</script><img src=x onerror='window.hacked=1'>\"&"


def runs(
    optimizers: tuple[str, ...] = ("adamw", "lion"),
    lrs: tuple[float, ...] = (5e-4, 2e-3, 8e-3),
    decays: tuple[float, ...] = (0.03, 0.1, 0.3),
    batch_sizes: tuple[int, ...] = (64,),
    seeds: int = 3,
) -> pd.DataFrame:
    """One row per run; the best lr and decay lie inside the grid, the largest lr diverges once."""
    noise = np.random.default_rng(0)
    rows = []
    for optimizer in optimizers:
        for batch in batch_sizes:
            for i, lr in enumerate(lrs):
                for j, decay in enumerate(decays):
                    for seed in range(seeds):
                        far = abs(i - len(lrs) // 2) + abs(j - len(decays) // 2)
                        value = 95 - 4 * far + float(noise.normal(0, 0.3))
                        diverged = i == len(lrs) - 1 and j == 0 and seed == 0
                        rows.append(
                            {
                                "run_id": f"vit_proxy-{optimizer}-s{seed}-{batch}x{i}x{j}",
                                "experiment": "vit_proxy",
                                "optimizer": optimizer,
                                "lr": lr,
                                "weight_decay": decay,
                                "beta1": 0.9,
                                "beta2": 0.99 if optimizer == "lion" else 0.999,
                                "batch_size": batch,
                                "epochs": 30,
                                "seed": seed,
                                "state": "diverged" if diverged else "finished",
                                "val": None if diverged else value,
                                "test": None if diverged else value - 0.5,
                                "steps": 510,
                                "seconds": 6.0 + seed,
                                "num_params": 39322,
                                "data": "digits",
                                "scale": "proxy",
                                "sweep": "lr_wd",
                            }
                        )
    return pd.DataFrame(rows)


def curves(table: pd.DataFrame, points: int = 10) -> pd.DataFrame:
    """A falling training loss and a rising accuracy for every run."""
    steps = np.linspace(51, 510, points).astype(int)
    parts = []
    for run_id, val in zip(table.run_id, table.val.fillna(10.0), strict=True):
        rising = val * (1 - np.exp(-steps / 120))
        for split, metric, values in (
            ("train", "loss", 2.3 * np.exp(-steps / 150)),
            ("val", "top1", rising),
        ):
            frame = {"run_id": run_id, "step": steps, "split": split, "metric": metric}
            parts.append(pd.DataFrame({**frame, "value": values}))
    return pd.concat(parts, ignore_index=True)


def write_study(results: Path, name: str, table: pd.DataFrame, points: int = 10) -> None:
    """A study's folder with its runs and curves."""
    folder = results / "studies" / "vit_proxy" / name
    folder.mkdir(parents=True)
    table.to_csv(folder / "runs.csv", index=False)
    curves(table, points).to_csv(folder / "curves.csv", index=False)


def write_results(results: Path) -> None:
    """A results folder with the paper's tables, four studies, judged claims and a drawn figure."""
    shutil.copytree(PAPER, results / "paper")
    write_study(results, "heatmap", runs())
    write_study(results, "batch_size", runs(batch_sizes=(64, 256, 1024), decays=(0.1,)))
    write_study(results, "optimizers", runs(("adamw", "lion", "sgd"), decays=(0.1,)))
    nasty = runs(("lion",), decays=(0.1,))
    write_study(results, "nasty", nasty.assign(optimizer=NASTY, data=NASTY))
    _claims().to_csv(results / "claims.csv", index=False)
    (results / "figures").mkdir()
    square = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60">{}</svg>'
    rectangle = '<rect width="90" height="60" fill="teal"/>'
    (results / "figures/lr_wd_heatmap.svg").write_text(square.format(rectangle))


def _claims() -> pd.DataFrame:
    """The paper's claims with made-up verdicts; one of them tries to be markup."""
    names = {"id": "claim_id", "low": "paper_low", "high": "paper_high"}
    table = pd.read_csv(PAPER / "claims.csv").rename(columns=names)
    table["paper_consistency"] = "consistent"
    table["proxy_verdict"] = "not run"
    table["paper_scale_verdict"] = "not run"
    table.loc[45, ["proxy_estimate", "proxy_low", "proxy_high", "proxy_n"]] = [1.5, -0.5, 3.5, 5]
    table.loc[45, "proxy_verdict"] = "inconclusive (n = 40 would decide)"
    table.loc[49:51, "proxy_verdict"] = ["supported", "contradicted", "supported"]
    table.loc[0, ["claim", "note"]] = NASTY
    table["command"] = "python run.py -m experiment=vit_proxy sweep=lr_wd"
    return table


def write_run(runs: Path, run_id: str, **header: object) -> Folder:
    """A run's folder as the runner leaves it: ten measurements, finished."""
    folder = Folder(runs / run_id)
    folder.path.mkdir(parents=True)
    said = {
        **{"schema_version": 1, "run_id": run_id, "experiment": "vit_proxy", "scale": "proxy"},
        **{"stands_for": "vit_b16_imagenet", "optimizer": "lion", "lr": 0.002, "seed": 0},
        **{"weight_decay": 0.3, "batch_size": 64, "provenance": "made up", "data": "digits"},
        **{"model": "VisionTransformer", "num_params": 39322},
        "hyper_parameters": json.dumps({"lr": 0.002, "betas": [0.9, 0.99], "weight_decay": 0.3}),
        **header,
    }
    session = {"commit": "abc123", "versions": '{"torch": "2.14.1"}', "device": "cpu x 1"}
    session["command"] = str(header.pop("command", "sweep.py"))
    write_json(folder.header, {**said, "sessions": [session]})
    folder.config.write_text("job: train\nexperiment: vit_proxy\n")
    folder.write_status("finished", 50, 50)
    Ledger(folder.metrics).append(
        {
            **{"step": step, "epoch": step / 10, "split": split, "metric": metric},
            **{"value": value, "unit": "", "weights": "raw", "n": 90, "seconds": step / 10},
            "session": 0,
        }
        for step in range(10, 60, 10)
        for split, metric, value in (
            ("train", "loss", 2.0 - step / 50),
            ("val", "top1", 50.0 + step),
            ("test", "top1", 49.0 + step),
        )
    )
    return folder
