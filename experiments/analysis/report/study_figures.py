"""Our own panels, beside the paper's: always labelled as a proxy's, with the number of seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from experiments.analysis.report import held_out, panels
from experiments.analysis.report.cells import picks, with_cells
from experiments.analysis.report.colour_scale import scale_of
from experiments.analysis.report.commands import make_study
from experiments.analysis.report.page import number
from experiments.analysis.report.panels import Figure, Panel, axis, category_axis
from experiments.analysis.report.paper_figures import batch_axis
from experiments.analysis.report.studies import Study
from experiments.analysis.statistics import comparison
from experiments.analysis.statistics.difference import BETTER, WORSE
from experiments.analysis.studies import DEFAULT_EXPERIMENT
from experiments.pages import script
from experiments.rounded import rounded

PARTNERS = {
    "batch_size": ("batch_size",),
    "lr_wd_heatmap": ("heatmap",),
    "optimizers": ("optimizers", "betas"),
}
"""Figures of the paper, and the studies here that ask the same question of a proxy."""
NOISE = {
    "sigma": "noise, the same for all weights",
    "relative": "noise, relative to the weights",
}
"""Kinds of noise of a landscape study, and their axes."""
COMMANDS = {
    "imagenet": f"{script('run')} experiment=vit_b16_imagenet optimizer=lion "
    "data.root=/data/imagenet",
    "landscape": f"{script('landscape')} RUN_ID RUN_ID ...",
}
"""Figures without a proxy study, and what runs their question here."""
MISSING = {
    **dict.fromkeys(
        ("diffusion", "language", "glue"),
        "The paper's models (runs of our proxies are among the drawn figures)",
    ),
    "landscape": "Runs here",
}
"""What no panel shows, where that is more or less than the paper's own models."""


def add_studies(
    figures: Iterable[Figure], studies: Sequence[Study], noise: pd.DataFrame | None = None
) -> None:
    """Puts the studies' panels beside the paper's, and says which are missing.

    Args:
        figures: The paper's.
        studies: Ours.
        noise: Loss of our runs under noise on the weights (`sources.noise`).
    """
    mine = [study for study in studies if study.kind == "study"]
    mine.sort(key=lambda study: study.experiment != DEFAULT_EXPERIMENT)
    by_name = {study.name: study for study in reversed(mine)}  # the first of a name stays
    for figure in figures:
        for name in PARTNERS.get(figure.name, ()):
            if name in by_name:
                figure.panels += _panels(name, by_name[name])
                figure.sources.append(by_name[name].source.removeprefix("results/"))
            else:
                figure.missing.append((f"The proxy study {name}", make_study(name)))
        if figure.name == "landscape" and noise is not None:
            figure.panels += under_noise(noise)
            figure.sources.append(f"studies/{noise.experiment.iloc[0]}/landscape/noise.csv")
        elif figure.name not in (*PARTNERS, *held_out.FIGURES, "proxies"):
            command = COMMANDS.get(figure.name, "")
            figure.missing.append((MISSING.get(figure.name, "The paper's models"), command))


def _panels(name: str, study: Study) -> list[Panel]:
    if name == "heatmap":
        return heatmaps(study)
    if name == "batch_size":
        return [over_batch_size(study)]
    return [ranking(study)]


def heatmaps(study: Study) -> list[Panel]:
    """Mean validation value over lr and weight decay, every optimizer on one scale."""
    _, cells = with_cells(study)
    cells = cells[cells.val_mean.notna()]
    cells = cells.assign(said=[_said(row) for row in cells.itertuples()])
    scale = scale_of(cells.val_mean, study.unit, study.headline.better == "higher")
    drawn = []
    for _, mine in cells.groupby("view"):
        traces = panels.heatmap(mine, "val_mean", scale, study.unit)
        layout = {
            "xaxis": axis("learning rate", type="category"),
            "yaxis": axis("weight decay", type="category"),
        }
        title = f"{panels.display(mine.optimizer.iloc[0])}, {_subject(study)}"
        cut = " What lies beyond the end of the scale is as dark." if scale.is_cut else ""
        note = f"Mean validation value, n = {_span(mine.n)} seeds per cell.{cut}"
        height = 130 + 24 * mine.weight_decay.nunique()
        drawn.append(Panel(title, traces, layout, "proxy", height, note))
    return drawn


def over_batch_size(study: Study) -> Panel:
    """Test value against batch size; validation picked everything else at each."""
    traces, numbers, edges = [], [], []
    for name, mine in _picked(study).groupby("optimizer"):
        chosen = mine.sort_values("batch_size").to_dict("records")
        x, y = [c["batch_size"] for c in chosen], [c["test_mean"] for c in chosen]
        errors = [_or_zero(c["test_error"]) for c in chosen]
        notes = [c["said"] for c in chosen]
        traces.append(panels.points(panels.display(name), x, y, errors, notes))
        numbers += [c["n"] for c in chosen]
        edges += [f"{panels.display(name)} at {c['batch_size']:g}" for c in chosen if c["on_edge"]]
    layout = {
        "xaxis": batch_axis(sorted(study.runs.batch_size.dropna().unique())),
        "yaxis": axis(f"test value, {study.unit}"),
    }
    return Panel(_subject(study), traces, layout, "proxy", note=_tuned(numbers, edges))


def ranking(study: Study) -> Panel:
    """Test value of every optimizer (and pair of betas), best on top; tuned on validation."""
    cells = _picked(study)
    chosen = cells.assign(label=_labels(cells)).to_dict("records")
    chosen.sort(key=lambda c: c["test_mean"], reverse=study.headline.better == "higher")
    traces = []
    for c in chosen:
        bars = {"type": "data", "array": [_or_zero(c["test_error"])], "thickness": 1.2}
        label, mark = c["label"], " *" if c["on_edge"] else ""
        value, said = [c["test_mean"]], [c["said"]]
        traces.append(panels.dots(label, [label + mark], value, said, error_x=bars))
    layout = {"xaxis": axis(f"test value, {study.unit}"), "yaxis": category_axis()}
    edges = [f"{c['label']} *" for c in chosen if c["on_edge"]]
    title, note = f"{study.name}: {_subject(study)}", _tuned([c["n"] for c in chosen], edges)
    return Panel(title, traces, layout, "proxy", 110 + 21 * len(chosen), note)


def under_noise(noise: pd.DataFrame) -> list[Panel]:
    """Mean training loss over the scale of the noise, a panel for each kind of noise."""
    clean, drawn = noise[noise.noise == "none"], []
    for kind, label in NOISE.items():
        rows = noise[noise.noise == kind]
        rows = pd.concat([clean.assign(scale=0.0), rows])
        table = rows.groupby(["optimizer", "scale"]).loss.agg(["mean", "sem", "count"])
        traces = [
            panels.points(
                panels.display(name),
                [f"{scale:g}" for scale in mine.index.get_level_values("scale")],
                mine["mean"].tolist(),
                [_or_zero(error) for error in mine["sem"]],
                [f" ± {row.sem:.3f} (s.e.), n = {row.count}" for row in mine.itertuples()],
            )
            for name, mine in table.groupby("optimizer")
        ]
        layout = {"xaxis": axis(label, type="category"), "yaxis": axis("training loss, nats")}
        title = ", ".join(map(str, noise.experiment.unique()))
        note = f"Mean and standard error over n = {_span(table['count'])} seeds."
        drawn.append(Panel(title, traces, layout, "proxy", note=note))
    return drawn


def _picked(study: Study) -> pd.DataFrame:
    """The cells that validation picks, with `on_edge`, and `said` for the hover text."""
    runs, cells = with_cells(study)
    found = picks(study, runs)
    cells = cells[cells.cell.isin(found)]
    said = [_said_of_pick(row, found[row.cell]) for row in cells.itertuples()]
    return cells.assign(said=said, on_edge=[found[cell] for cell in cells.cell])


def _said_of_pick(row: Any, on_edge: bool) -> str:
    spread = f" ± {row.test_error:.2f} (s.e.)" if row.n > 1 else ""
    edge = "; on the edge of its grid: not tuned" if on_edge else ""
    return f"{spread}, n = {row.n}, lr {row.lr:g}, decay {number(row.weight_decay)}{edge}"


def _tuned(numbers: Iterable[int], edges: Sequence[str] = ()) -> str:
    said = f"Mean and standard error over n = {_span(numbers)} seeds; tuned on validation."
    return f"{said} On an edge of the grid, so not tuned: {', '.join(edges)}." if edges else said


def proxies(studies: Sequence[Study]) -> Figure:
    """Difference of Lion and AdamW on each published comparison."""
    rows, values, errors, notes, shown = [], [], [], [], []
    published = [study for study in studies if study.kind == "proxy"]
    for study in published:
        try:
            d = comparison.compare(study.runs, "lion", "adamw")
        except ValueError:  # one of them has no setting that finished with every seed
            continue
        rows.append(study.name)
        shown += [study.name] if d.verdict in (BETTER, WORSE) else []
        values.append(d.mean)
        errors.append(d.high - d.mean)
        ends = " to ".join(rounded(end, 2, signed=True) for end in (d.low, d.high))
        notes.append(f" points, 95 % interval {ends}, n = {d.n}: {d.verdict}")
    bars = {"type": "data", "array": errors, "thickness": 1.5}
    trace = panels.dots("Lion minus AdamW", rows, values, notes, error_x=bars)
    trace["marker"]["color"] = panels.COLOURS["Lion"]
    layout = {
        "xaxis": axis("difference in test accuracy, points", zeroline=True),
        "yaxis": category_axis(),
    }
    note = (
        "Right of zero: Lion's mean is higher. A difference counts as shown where its interval "
        "does not hold zero, an exact test agrees and both picks lie inside their grids: "
        f"{', '.join(shown) or 'nowhere'}. Not shown is not equal."
    )
    panel = Panel("Lion minus AdamW", [trace], layout, "proxy", 240, note)
    caption = (
        "Test accuracy of Lion minus AdamW on small models, each at the learning rate that "
        "validation picked (each seed reports what the other seeds picked); bars are 95 % "
        "intervals over paired seeds. Provenance: proxy runs "
        "of this repository (n in the hover text). They say nothing of the paper's scale."
    )
    sources = [study.source.removeprefix("results/") for study in published]
    missing = [] if rows else [("The proxy comparisons", f"{script('demo')} --publish")]
    return Figure("proxies", "Proxies run here", caption, sources, [panel] if rows else [], missing)


def _labels(cells: pd.DataFrame) -> list[str]:
    """Names of optimizers; with their betas where one has several pairs."""
    pairs = cells.groupby("optimizer")[["beta1", "beta2"]].nunique().max(axis=1)
    several = set(pairs[pairs > 1].index)
    return [
        f"{panels.display(row.optimizer)} ({row.beta1:g}, {row.beta2:g})"
        if row.optimizer in several
        else panels.display(row.optimizer)
        for row in cells.itertuples()
    ]


def _subject(study: Study) -> str:
    pages = sorted(map(str, study.runs.experiment.dropna().unique()))
    return ", ".join(pages) or study.name


def _said(row: object) -> str:
    error = getattr(row, "val_error", float("nan"))
    spread = f" ± {error:.2f} (s.e.)" if error == error else ""
    diverged = f", {row.num_diverged} diverged" if row.num_diverged else ""
    return f"{spread}, n = {row.n}{diverged}"


def _or_zero(value: float) -> float:
    return value if value == value else 0.0


def _span(numbers: Iterable[int]) -> str:
    found = sorted({int(n) for n in numbers})
    if not found:
        return "0"
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
