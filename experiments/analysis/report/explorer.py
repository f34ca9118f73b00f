"""The sweep explorer: heatmaps whose cells lead to curves, seeds, settings and commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.report.cells import BETAS, picks, with_cells
from experiments.analysis.report.colour_scale import scale_of
from experiments.analysis.report.commands import STUDY_SWEEPS, make_study, run_again
from experiments.analysis.report.page import data_script, esc, is_missing, not_run_yet, number
from experiments.analysis.report.studies import KINDS, SETTINGS, Study

MAX_POINTS = 400
"""Points of one curve; longer ones are thinned, ends kept."""
RUN_COLUMNS = (
    *("run_id", "experiment", "optimizer", "lr", "weight_decay", "beta1", "beta2", "batch_size"),
    *("epochs", "seed", "state", "val", "test", "steps", "seconds"),
)


def write_data(study: Study, folder: Path, slug: str) -> None:
    """Writes a study's script files into a folder of its own, by whose name the page asks."""
    mine = folder / slug
    mine.mkdir(parents=True, exist_ok=True)
    runs, cells = with_cells(study)
    (mine / "study.js").write_text(data_script(f"{slug}/study", summary(study, runs, cells)))
    curves = curves_by_run(study.curves)
    for cell, rows in runs.groupby("cell", sort=True):
        content = _cell_details(study, rows, curves)
        (mine / f"cell{cell}.js").write_text(data_script(f"{slug}/cell{cell}", content))


NAMED = {
    "batch_size": "batch",
    "epochs": "epochs",
    "label_noise": "label noise",
    "init_optimizer": "pre-trained with",
    "experiment": "",
}
"""Settings that a view's title tells where they vary, and how it calls them."""


def slug_of(name: str) -> str:
    """A name that is safe as a folder's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "study"


def summary(study: Study, runs: pd.DataFrame, cells: pd.DataFrame) -> dict[str, Any]:
    """What the page needs before a cell is chosen."""
    views = []
    counts = study.runs.groupby("optimizer")[[*SETTINGS]].nunique().max()
    varying = [s for s in SETTINGS if counts[s] > 1]
    found = picks(study, runs)
    chosen = cells[cells.cell.isin(found)]
    for _, mine in cells.groupby("view"):
        best = next((int(cell) for cell in mine.cell if cell in found), None)
        views.append(
            {
                "title": _view_title(mine.iloc[0], varying),
                "optimizer": str(mine.optimizer.iloc[0]),
                "lrs": sorted(mine.lr.dropna().unique()),
                "decays": sorted(mine.weight_decay.dropna().unique(), reverse=True) or [None],
                "best": best,
                "onEdge": best is not None and found[best],
                "elsewhere": best is None and _is_elsewhere(mine.iloc[0], chosen),
                "cells": [_cell(row) for row in mine.itertuples(index=False)],
            }
        )
    shown = [c for c in RUN_COLUMNS if runs[c].notna().any()]
    rows = {
        column: runs[column].astype(object).where(runs[column].notna(), None).tolist()
        for column in shown
    }
    means = [c["val"] for view in views for c in view["cells"] if c["val"] is not None]
    is_higher_better = study.headline.better == "higher"
    scale = scale_of(means, study.unit, is_higher_better) if means else None
    return {
        "note": _note(study),
        "unit": study.unit,
        "higherIsBetter": is_higher_better,
        "scale": scale and {"low": scale.low, "high": scale.high, "isCut": scale.is_cut},
        "digits": study.headline.digits,
        "tune": study.headline.tune,
        "report": study.headline.report,
        "curve": f"{study.headline.tune} {study.headline.metric}",
        "views": views,
        "runs": {"columns": shown, "values": rows, "cell": runs.cell.tolist()},
    }


def _is_elsewhere(row: pd.Series, chosen: pd.DataFrame) -> bool:
    """Whether the choice that a view belongs to has its best cell in a view of other betas."""
    keys = [key for key in SETTINGS if key not in BETAS and not is_missing(row[key])]
    return bool((chosen[keys] == row[keys]).all(axis=1).any())


def _note(study: Study) -> str:
    runs = study.runs
    sizes = [int(n) for n in sorted(runs.num_params.dropna().unique())]
    model = f", {sizes[0]:,} parameters" if len(sizes) == 1 else ""
    data = ", ".join(sorted(map(str, runs.data.dropna().unique())))
    scale = " and ".join(sorted(map(str, runs.scale.unique())))
    what = {"proxy": "proxy: it says nothing of the paper's scale", "paper": "paper scale"}
    on = f" on {data}" if data else ""
    return (
        f"{len(runs):,} runs{on}{model}; {what.get(scale, f'scale: {scale}')}. "
        f"Judged by {study.headline.phrase}. Source: {study.source}."
    )


def _view_title(row: pd.Series, varying: Sequence[str]) -> str:
    words = [str(row.optimizer)]
    if ("beta1" in varying or "beta2" in varying) and not is_missing(row.beta1):
        words.append(f"betas {row.beta1:g}, {row.beta2:g}")
    for key, label in NAMED.items():
        if key in varying and not is_missing(row[key]):
            words.append(f"{label} {number(row[key])}".strip())
    return " · ".join(words)


def _cell(row: Any) -> dict[str, Any]:
    return {
        "id": int(row.cell),
        "lr": row.lr,
        "decay": row.weight_decay,
        "n": int(row.n),
        "runs": int(row.num_runs),
        "diverged": int(row.num_diverged),
        "failed": int(row.num_failed),
        "val": _rounded(row.val_mean),
        "valError": _rounded(row.val_error),
        "test": _rounded(row.test_mean),
        "testError": _rounded(row.test_error),
    }


def _rounded(value: float) -> float | None:
    return None if is_missing(float(value)) else round(float(value), 5)


def _cell_details(
    study: Study, runs: pd.DataFrame, curves: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """What the page shows of a chosen cell."""
    first = runs.iloc[0]
    settings = {
        key: number(first[key], 8)
        for key in (*SETTINGS, "lr", "weight_decay", "steps", "num_params", "data", "sweep")
        if not is_missing(first[key])
    }
    rows = runs.to_dict("records")
    seeds = [
        {k: row[k] for k in ("run_id", "seed", "state", "val", "test", "seconds")} for row in rows
    ]
    for seed, row in zip(seeds, rows, strict=True):
        seed["command"] = study.commands.get(row["run_id"]) or run_again(row)
        seed["exact"] = row["run_id"] in study.commands
        seed["curves"] = curves.get(row["run_id"], [])
    return {"settings": settings, "seeds": seeds, "config": _config(study, first.run_id)}


def _config(study: Study, run_id: str) -> str:
    """The resolved configuration of a run, as its folder has it; empty for a table of results."""
    folder = study.folders.get(run_id)
    try:
        return (folder / "config.yaml").read_text(errors="replace") if folder else ""
    except OSError:
        return ""


def curves_by_run(curves: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Every run's curves, thinned: name ("val top1"), steps x and values y.

    Works on slices of one sorted table: grouping run by run takes minutes for thousands of runs.
    """
    keys = ["run_id", "split", "metric"]
    ordered = curves.sort_values([*keys, "step"], kind="stable").reset_index(drop=True)
    values = pd.to_numeric(ordered.value, errors="coerce").round(5).tolist()
    steps, names = ordered.step.tolist(), ordered[keys].astype(str)
    starts = names.index[(names != names.shift()).any(axis=1)].tolist()
    found: dict[str, list[dict[str, Any]]] = {}
    if ordered.empty:
        return found
    for start, end in zip(starts, [*starts[1:], len(ordered)], strict=True):
        run_id, split, metric = names.iloc[start]
        kept = [start + i for i in thinned(end - start)]
        curve = {"x": [steps[i] for i in kept], "y": [values[i] for i in kept]}
        found.setdefault(run_id, []).append({"name": f"{split} {metric}", **curve})
    return found


def thinned(length: int) -> list[int]:
    """At most MAX_POINTS positions below `length`, evenly spread, with the first and the last."""
    if length <= MAX_POINTS:
        return list(range(length))
    return [round(i * (length - 1) / (MAX_POINTS - 1)) for i in range(MAX_POINTS)]


def body(studies: Sequence[Study], slugs: Sequence[str]) -> str:
    """The page's content."""
    names = names_of(studies)
    chooser = "".join(_chips(kind, studies, slugs, names) for kind in KINDS)
    committed = {study.name for study in studies if study.kind == "study"}
    missing = "".join(
        not_run_yet(f"Study {name}", make_study(name))
        for name in STUDY_SWEEPS
        if name not in committed
    )
    if missing:
        title = "<summary>Studies that are not run yet</summary>"
        missing = f'<details class="more">{title}{missing}</details>'
    return f"""<h1>Sweeps</h1>
<p class="lead">A cell is the mean validation value over the seeds of one learning rate and weight
decay. Choose a cell to see its curves, seeds, settings and commands. A ring marks the best cell
that every seed has finished; on the edge of its grid it counts as not tuned, as a better one may
lie beyond.</p>
<div id="studies">{chooser}</div>
<noscript><p class="missing">The explorer needs JavaScript; the tables are in data/.</p></noscript>
{missing}
<section id="study" aria-label="Heatmaps"></section>
<p id="status" class="unseen" role="status"></p>
<section id="cell" aria-label="Chosen cell"></section>
<section id="runs" aria-label="Runs"></section>
"""


def _chips(kind: str, studies: Sequence[Study], slugs: Sequence[str], names: Sequence[str]) -> str:
    """Buttons that choose a study of one kind."""
    buttons = "".join(
        f'<button type="button" aria-pressed="false" data-study="{esc(slug)}">{esc(name)}</button>'
        for study, slug, name in zip(studies, slugs, names, strict=True)
        if study.kind == kind
    )
    heading = f'<div class="chips" role="group" aria-label="{esc(KINDS[kind])}">'
    return f"{heading}<b>{esc(KINDS[kind])}</b>{buttons}</div>" if buttons else ""


def names_of(studies: Sequence[Study]) -> list[str]:
    """What each study is called: with its experiment where they are of several."""
    several = len({study.experiment for study in studies if study.experiment}) > 1
    return [f"{s.experiment}: {s.name}" if several and s.experiment else s.name for s in studies]
