"""A sweep of a task whose headline falls, is averaged, and lies on splits of its own."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import swept
import tiny
from rich.console import Console

from experiments.analysis.statistics.comparison import choose, compare, final_results
from experiments.config import UserError
from experiments.headline import Headline, of_table
from experiments.store import Ledger, read_json, write_json
from experiments.sweep import __main__ as script
from experiments.sweep import report, results
from experiments.sweep.manifest import Cell, Sweep
from experiments.table import read_runs

ROOT = Path(__file__).resolve().parent.parent.parent.parent

LM = Headline(
    "log_perplexity", "lower", "nats", tune="dev", report="books", weights="ema", digits=3
)
SEEDS = 4
BEST = {"lion": 2e-3, "adamw": 4e-3}
LRS = (1e-3, 2e-3, 4e-3, 8e-3)


def value(cell: Cell) -> float:
    """Smallest at the best learning rate; the larger ones are worse."""
    lr = cell.config["optimizer"]["lr"]
    behind = 0.2 if cell.optimizer == "adamw" else 0.0
    return (
        0.348
        + behind
        + 0.5 * abs(LRS.index(lr) - LRS.index(BEST[cell.optimizer]))
        + (0.001 * cell.seed**2)
    )


def row(cell: Cell, split: str, metric: str, measured: float, **more: Any) -> dict[str, Any]:
    facts = {"step": 10, "epoch": 1.0, "weights": "ema", "unit": "nats", "better": "lower"}
    facts |= {"n": 4000, "session": 0, "seconds": 10.0, "split": split, "metric": metric}
    return facts | {"value": measured} | more


def made(root: Path) -> Sweep:
    cells = []
    for name in BEST:
        for lr in LRS:
            for seed in range(SEEDS):
                config = tiny.config(root / "runs", optimizer_name=name, seed=seed,
                                     optimizer__lr=lr)  # fmt: skip
                cells.append(Cell.of(config, {"optimizer.lr": lr}))
    sweep = swept.sweep(root, cells)
    for cell in sweep.cells:
        folder, dev = sweep.folder(cell), value(cell)
        folder.path.mkdir(parents=True)
        rows = [
            row(cell, "dev", LM.metric, dev),
            row(cell, "books", LM.metric, dev + 0.1),
            row(cell, "dev", LM.metric, 5.0, weights="raw", step=5),
            row(cell, "dev", LM.metric, 10 - dev, weights="raw"),  # the raw weights rank backwards
            row(cell, "dev", "loss", dev / 2),
            row(cell, "books", "loss", dev / 2 + 0.01),
            row(cell, "dev", "bits", 100 * dev, unit="bits"),
            row(cell, "books", "bits", 100 * dev, unit="bits"),
            row(cell, "dev", "odd", 1.0, better=None),
        ]
        Ledger(folder.metrics).append(rows)
        session = {"start_step": 0, "commit": "abc+", "versions": '{"torch": "2.9.9"}',
                   "device": "cpu x 1", "cpu": "a CPU, AVX2", "threads": 1,
                   "launcher": "local"}  # fmt: skip
        optimizer = cell.config["optimizer"]
        header = {
            "run_id": cell.run_id, "experiment": "tiny", "scale": "proxy", "stands_for": "x",
            "data": "tiny", "model": "Net", "num_params": 500, "optimizer": cell.optimizer,
            "lr": optimizer["lr"], "weight_decay": 0.1, "batch_size": 16, "seed": cell.seed,
            "hyper_parameters": '{"betas": [0.9, 0.99]}', "provenance": "", "schema_version": 2,
            "headline": LM.to_json(), "sessions": [session],
        }  # fmt: skip
        write_json(folder.header, header)
        folder.write_status("finished", 10, 10)
    return sweep


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    made(folder)
    return folder


def of(root: Path) -> Sweep:
    return Sweep(root / "sweeps" / "trial")


def test_the_smallest_wins_everywhere(root: Path) -> None:
    best = {one.optimizer: one for one in results.best_cells(of(root))}
    assert {name: one.settings["lr"] for name, one in best.items()} == BEST
    assert best["lion"].val == pytest.approx(0.348 + 0.001 * 14 / 4)
    table = results.runs_table(of(root))
    ledger = final_results(read_runs(root / "runs"))
    for rows in (table, ledger):
        assert of_table(rows) == LM
        assert {name: choose(rows, name).lr for name in BEST} == BEST
        found = compare(rows, "lion", "adamw")
        assert found.mean == pytest.approx(-0.2) and found.better == "lower"


def test_the_table_says_what_it_is(root: Path, tmp_path: Path) -> None:
    table = pd.read_csv(results.collect(of(root), tmp_path / "study", curves=True))
    first = table.iloc[0]
    assert list(table.columns) == list(results.COLUMNS)
    assert (first.metric, first.unit, first.better, first.weights) == (
        "log_perplexity", "nats", "lower", "ema"
    )  # fmt: skip
    assert (first.tune_split, first.report_split, first.digits, first.n) == (
        "dev",
        "books",
        3,
        4000,
    )
    assert first.test == pytest.approx(first.val + 0.1)
    assert first.test_loss == pytest.approx(first.val / 2 + 0.01)
    assert (first.commit, first.cpu, first.threads) == ("abc+", "a CPU, AVX2", 1)
    assert (first.torch, first.launcher) == ("2.9.9", "local")
    assert f"optimizer={first.optimizer} optimizer.lr={first.lr} seed=0" in first.command
    assert {name: choose(table, name).lr for name in BEST} == BEST
    curves = pd.read_csv(tmp_path / "study" / "curves.csv")
    assert {"books", "dev"} == set(curves.split) and 9 < curves.value.max() < 1000
    assert len(curves) == 32 * 7, "the raw weights are not judged"
    others = pd.read_csv(tmp_path / "study" / "other_weights.csv")
    assert list(others) == ["run_id", "step", "split", "metric", "weights", "value"]
    assert set(others.run_id) == set(table.run_id) and len(others) == 32
    assert set(others.weights) == {"raw"} and set(others.metric) == {LM.metric}
    vals = others.set_index("run_id").value + table.set_index("run_id").val
    assert vals.to_numpy() == pytest.approx(10, abs=1e-4)


def test_status_shows_them(root: Path) -> None:
    console = Console(file=io.StringIO(), width=120, highlight=False)
    report.show(of(root), console)
    text = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "no setting has finished" not in text
    assert "picked on dev" in text
    assert "books log_perplexity (nats), ema weights, lower is better" in text
    assert "dev" in text and "books loss" in text and "0.351" in text


def test_a_headline_that_nobody_measured_is_said(root: Path, tmp_path: Path) -> None:
    sweep = made(tmp_path)
    for cell in sweep.cells:
        header = read_json(sweep.folder(cell).header)
        lie = replace(LM, metric="perplexity").to_json()
        write_json(sweep.folder(cell).header, header | {"headline": lie})
    said = "no finished run was measured by perplexity on dev \\(ema weights\\)"
    with pytest.raises(UserError, match=f"sweep .*: {said}.*with --metric"):
        results.collect(sweep, tmp_path / "study")
    assert not (tmp_path / "study").exists()
    console = Console(file=io.StringIO(), width=120, highlight=False)
    report.show(sweep, console)
    assert re.search(said, console.file.getvalue())  # type: ignore[attr-defined]
    assert {best.settings["lr"] for best in results.best_cells(sweep, LM.metric)} == {2e-3, 4e-3}


def test_what_an_earlier_checkpoint_had_is_not_how_a_run_ended(tmp_path: Path) -> None:
    """`job=evaluate checkpoint.step=5` of some runs, of the others after their last step."""
    sweep = made(tmp_path)
    for number, cell in enumerate(sweep.cells):
        step = 5 if number % SEEDS == 0 else 10
        more = [row(cell, s, "distance", value(cell), step=step) for s in ("dev", "books")]
        more.append(row(cell, "dev", "distance", 7.0, step=step, weights="raw"))
        Ledger(sweep.folder(cell).metrics).append(more)
    folder = tmp_path / "study"
    table = pd.read_csv(results.collect(sweep, folder, curves=True, metric="distance"))
    assert table.val.isna().tolist() == table.test.isna().tolist() == (table.seed == 0).tolist()
    assert (table.steps == 10).all()
    others = pd.read_csv(folder / "other_weights.csv")
    assert (others.step == 10).all() and (others.metric == "distance").sum() == 24


def test_another_metric_on_request(root: Path, tmp_path: Path) -> None:
    (best, *_) = results.best_cells(of(root), "bits")
    assert (best.settings["lr"], best.headline.metric, best.headline.unit) == (2e-3, "bits", "bits")
    table = pd.read_csv(results.collect(of(root), tmp_path / "bits", metric="bits"))
    assert set(table.metric) == {"bits"} and table.val.min() == pytest.approx(34.8)


@pytest.mark.parametrize(
    ("metric", "said"),
    [("nosuch", "no evaluation has the metric nosuch; there are: bits, "),
     ("odd", "does not say whether a higher or a lower odd is better")],
)  # fmt: skip
@pytest.mark.parametrize("action", ["collect", "status"])
def test_a_metric_that_cannot_be_judged_by_is_one_line(
    root: Path, capsys: pytest.CaptureFixture[str], action: str, metric: str, said: str
) -> None:
    code = script.main([action, str(of(root).path), "--metric", metric])
    error = capsys.readouterr().err
    assert code == 2 and error.startswith("error: ") and said in error
    assert error.count("\n") == 1


def test_the_script_writes_below_the_experiment(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "STUDIES", tmp_path)
    assert script.main(["collect", str(of(root).path), "--study", "tiny_study"]) == 0
    experiment = of(root).manifest["experiment"]
    assert (tmp_path / experiment / "tiny_study" / "runs.csv").exists()
