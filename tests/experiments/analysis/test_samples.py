"""Pictures of samples: chosen by a rule, told what they show, kept with a study, in the report."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic
from PIL import Image

from experiments.analysis import samples
from experiments.analysis.report import build, figures
from experiments.ledger import Ledger
from experiments.store import UserError
from experiments.table import read_runs

ROOT = Path(__file__).resolve().parents[3]
INSTRUMENT = {"sampler": "ddim", "steps": 20, "guidance": 1.0, "num_samples": 1000}


def run(runs: Path, name: str, top1: float, picture: str = "a.png", **header: Any) -> None:
    """A finished run with a picture of step 25 and one of step 50; `header` as of write_run."""
    lr = header.get("lr", 0.002)
    betas = json.dumps({"lr": lr, "betas": [0.9, 0.99], "weight_decay": 0.3})
    folder = synthetic.write_run(runs, name, **{**header, "hyper_parameters": betas})
    colour = {"25": 50, "50": 200}
    rows = []
    for step, value in colour.items():
        Image.new("RGB", (8, 8), (value, 0, 0)).save(folder.path / f"{step}{picture}")
        rows.append(
            {
                **{"step": int(step), "epoch": 5, "split": "samples", "metric": "fd1k_ddim20"},
                **{"value": 100 / value, "unit": "", "weights": "raw", "n": 1000, "seconds": 5},
                **{"session": 0, "instrument": json.dumps(INSTRUMENT)},
                "picture": f"{step}{picture}",
            }
        )
    last = {"step": 51, "epoch": 5.1, "unit": "%", "weights": "raw", "n": 90, "seconds": 5.1}
    scores = [{**last, "split": s, "metric": "top1", "value": top1} for s in ("val", "test")]
    Ledger(folder.metrics).append({**row, "session": 0} for row in [*rows, *scores])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    run(folder, "lion-s0-best", 80.0, seed=0)
    run(folder, "lion-s1-best", 90.0, seed=1)
    run(folder, "lion-s0-lucky", 89.0, seed=0, lr=0.004)
    run(folder, "lion-s1-lucky", 60.0, seed=1, lr=0.004)
    run(folder, "adamw-s0", 70.0, seed=0, optimizer="adamw")
    synthetic.write_run(folder, "lion-without", lr=0.1)
    return folder


def chosen(runs: Path) -> list[samples.Sample]:
    return samples.chosen(read_runs(runs), runs)


def test_the_best_setting_and_its_lowest_seed_are_shown(runs: Path) -> None:
    adamw, lion = chosen(runs)
    assert (adamw.run_id, lion.run_id) == ("adamw-s0", "lion-s0-best")
    assert (lion.step, lion.value) == (50, 0.5)
    assert lion.path == runs / "lion-s0-best/50a.png"


def test_the_caption_says_weights_sampler_steps_and_seeds(runs: Path) -> None:
    lion = chosen(runs)[1]
    assert lion.title == "vit_proxy: lion"
    assert lion.caption == (
        "lr 0.002, weight decay 0.3, seed 0; raw weights after 50 steps; DDIM, 20 steps, no "
        "guidance; the first of 1,000 samples, sample k from the noise of run seed 0 and number "
        "k; fd1k_ddim20 0.5."
    )
    guided = replace(lion, weights="ema", instrument={**INSTRUMENT, "guidance": 5.0})
    assert "averaged weights (ema) after" in guided.caption and "guidance 5;" in guided.caption


def test_a_study_keeps_them_and_the_report_shows_them(tmp_path: Path, runs: Path) -> None:
    results = tmp_path / "results"
    synthetic.write_results(results)
    study = results / "studies/vit_proxy/heatmap"
    ids = [p.name for p in runs.iterdir() if "without" not in p.name]
    table = pd.read_csv(study / "runs.csv").head(len(ids)).assign(run_id=ids)
    table.to_csv(study / "runs.csv", index=False)
    spec = importlib.util.spec_from_file_location("samples_script", ROOT / "scripts/samples.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(script := importlib.util.module_from_spec(spec))
    assert script.main(["--runs", str(runs), "--into", str(study)]) == 0
    kept = samples.published(results)
    assert kept == chosen(runs)
    assert Image.open(kept[1].path).getpixel((0, 0)) == (200, 0, 0)
    text = (
        build.write(tmp_path / "out", build.Sources(ROOT, results)).parent / "figures.html"
    ).read_text()
    for sample in kept:
        assert f"<b>{sample.title}</b>" in text and sample.caption in text
    assert 'src="samples/1.png"' in text and samples.RULE in text and 'href="#samples"' in text
    assert (tmp_path / "out/samples/1.png").read_bytes() == kept[1].path.read_bytes()
    (study / "samples.json").write_text("{}")
    with pytest.raises(UserError, match=r"samples.json is damaged .*publish the samples again"):
        samples.published(results)


def test_a_run_can_name_no_file_outside_of_its_folder(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run(runs, "lion-s0", 80.0)
    for row in ("../secret.png", str(tmp_path / "secret.png"), "config.yaml", "gone.png"):
        metrics = runs / "lion-s0/metrics.jsonl"
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        lines = [{**x, **({"picture": row} if "picture" in x else {})} for x in lines]
        Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
        Image.new("RGB", (8, 8)).save(runs / "secret.png")
        metrics.write_text("".join(json.dumps(x) + "\n" for x in lines))
        assert chosen(runs) == []


def test_without_samples_there_is_no_section(tmp_path: Path) -> None:
    assert figures.samples_section([], []) == "" and samples.published(tmp_path) == []
    odd = samples.Sample(tmp_path, "x", "<b>", "<i>", 1, 0, 0, "raw", 1, "<u>", 0.0, {})
    assert not any(tag in figures.samples_section([odd], ["p"]) for tag in ("<b><b>", "<i>", "<u>"))
