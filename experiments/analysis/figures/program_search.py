"""Searches for optimizers: fitness over programs, final numbers, shares, over-fitting, lineage.

Drawn from the tables of `scripts/search.py collect NAME ... --study program_search`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import dot_panels, figure_style
from experiments.analysis.sources import RESULTS
from experiments.store import UserError

TITLE = "Searching for an optimizer: programs evolved on a small proxy"
STUDY = "program_search"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#A8578E", "#7A5C00", "#555555")
SHARES = {
    "invalid mutants %": "mutants that are no program",
    "cached %": "met before (cache)",
    "dead %": "dead before training",
    "redundant statements %": "statements that do not matter",
}
FAMILIES = {"lm": "language", "mlp": "perceptron", "conv": "convolutions"}
CAPTION = (
    "Gain: nats of held-out loss below that of the reference (AdamW without bias correction), both "
    "at the best of the same learning rates, same initial weights and batches. On search data it "
    "is biased upwards: it picks the best. Lines: mean over seeds, band: standard error. Fresh "
    "data and seeds: mean and standard error over rounds. A proxy of some thousand weights and few "
    "steps; nothing here is a claim about large models."
)


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of a study that are there, by name.

    Raises:
        UserError: if there is none.
    """
    names = ("searches", "curves", "finals", "lineage", "sightings", "funnel", "meta")
    paths = {name: folder / f"{name}.csv" for name in names}
    found = {name: pd.read_csv(path) for name, path in paths.items() if path.exists()}
    if "curves" not in found:
        raise UserError(f"{folder}: no searches there; scripts/search.py collect writes them")
    return found


def draw(results: Path = RESULTS) -> Figure:
    """Fitness, final numbers, shares and over-fitting of a study."""
    return overview(tables(results / "studies" / STUDY))


def overview(of: dict[str, pd.DataFrame]) -> Figure:
    """Four panels.

    Args:
        of: As `tables` gives them.
    """
    curves = of["curves"]
    arms = list(dict.fromkeys(curves.arm))
    colours = dict(zip(arms, PALETTE * len(arms), strict=False))
    seeds = ", ".join(f"{arm} {part.seed.nunique()}" for arm, part in curves.groupby("arm"))
    caption = f"{CAPTION} Seeds: {seeds}."
    figure, axes = figure_style.canvas(TITLE, caption, (12, 8.6), [1, 1], [1, 1])
    _fitness(axes[0, 0], curves, colours)
    _finals(axes[0, 1], of.get("finals", pd.DataFrame()), colours)
    _shares(axes[1, 0], curves[curves.arm == arms[0]], arms[0])
    _meta(axes[1, 1], of.get("meta", pd.DataFrame()))
    return figure


def band(curves: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Mean and standard error over seeds at common places, each seed as a step function.

    Args:
        curves: Of one arm: seed, x, y.
        x: Column of the place.
        y: Column of the value.

    Returns:
        x, mean, error (0 with one seed); only where every seed has a value.
    """
    by_seed = [part.sort_values(x) for _, part in curves.groupby("seed")]
    low, high = max(p[x].min() for p in by_seed), min(p[x].max() for p in by_seed)
    places = np.unique(np.concatenate([part[x].to_numpy() for part in by_seed]))
    places = places[(places >= low) & (places <= high)]
    values = np.stack(
        [p[y].to_numpy()[np.searchsorted(p[x].to_numpy(), places, "right") - 1] for p in by_seed]
    )
    count = len(by_seed)
    error = values.std(axis=0, ddof=1) / count**0.5 if count > 1 else np.zeros(len(places))
    return pd.DataFrame({"x": places, "mean": values.mean(axis=0), "error": error})


def _fitness(axis: Any, curves: pd.DataFrame, colours: dict[str, str]) -> None:
    labels = []
    for arm, part in curves.groupby("arm", sort=False):
        line = band(part, "told", "best")
        colour = colours[str(arm)]
        axis.fill_between(line.x, line["mean"] - line.error, line["mean"] + line.error,
                          color=colour, alpha=0.2, linewidth=0)  # fmt: skip
        axis.plot(line.x, line["mean"], color=colour, linewidth=1.8)
        labels.append((float(line["mean"].iloc[-1]), str(arm), colour))
    axis.axhline(0, color=figure_style.FAINT, linewidth=0.8)
    axis.set_xlim(left=0)
    axis.grid(axis="y")
    axis.set_xlabel("programs generated")
    axis.set_ylabel("best gain on search data (nats)")
    figure_style.panel_title(axis, "Best program so far")
    figure_style.end_labels(axis, labels)
    dot_panels.as_proxy(axis)


def _finals(axis: Any, finals: pd.DataFrame, colours: dict[str, str]) -> None:
    """The best finalist of each search, and where the search itself placed it."""
    figure_style.panel_title(axis, "The best on fresh data (open: search data)")
    if finals.empty:
        return _nothing(axis, "no final numbers yet")
    dot_panels.as_proxy(axis)
    found = finals[finals.kind == "finalist"].dropna(subset="mean")
    best = found.loc[found.groupby("search")["mean"].idxmax()]
    best = best.sort_values(["arm", "seed"]).reset_index(drop=True)
    for height, row in best.iterrows():
        colour = colours[row.arm]
        axis.errorbar([row["mean"]], [height], xerr=[row.standard_error], color=colour, marker="o",
                      markersize=6, capsize=3)  # fmt: skip
        axis.plot([row.on_search_data], [height], marker="o", markerfacecolor="white",
                  color=colour, markersize=6)  # fmt: skip
    axis.set_ylim(len(best) - 0.5, -0.5)
    axis.set_yticks(range(len(best)), [f"{row.arm}, seed {row.seed}" for row in best.itertuples()])
    axis.axvline(0, color=figure_style.FAINT, linewidth=0.8)
    axis.set_xlabel("gain (nats)")


def _shares(axis: Any, curves: pd.DataFrame, arm: str) -> None:
    labels = []
    for (column, said), colour in zip(SHARES.items(), PALETTE, strict=False):
        line = band(curves, "told", column)
        axis.plot(line.x, line["mean"], color=colour, linewidth=1.4)
        labels.append((float(line["mean"].iloc[-10:].mean()), said, colour))
    axis.set_ylim(0, 100)
    axis.set_xlim(left=0)
    axis.grid(axis="y")
    axis.set_xlabel("programs generated")
    axis.set_ylabel("share (%)")
    figure_style.panel_title(axis, f"What becomes of children: {arm}")
    figure_style.end_labels(axis, labels, size=8.5)
    dot_panels.as_proxy(axis)


def _meta(axis: Any, meta: pd.DataFrame) -> None:
    """The best so far on search data, and the same program on fresh data of each family."""
    figure_style.panel_title(axis, "Meta-overfitting: the best so far, elsewhere")
    if meta.empty:
        return _nothing(axis, "not measured yet (scripts/search.py meta)")
    dot_panels.as_proxy(axis)
    once = meta.drop_duplicates(["search", "told"])
    lines = [("on search data", once.assign(value=once.best), figure_style.INK)]
    for (family, part), colour in zip(meta.groupby("family", sort=False), PALETTE, strict=False):
        name = FAMILIES.get(str(family), str(family))
        lines.append((f"fresh: {name}", part.assign(value=part["mean"]), colour))
    labels = []
    for name, part, colour in lines:
        line = band(part, "told", "value")
        axis.plot(line.x, line["mean"], color=colour, linewidth=1.6, marker="o", markersize=3)
        if np.isfinite(last := float(line["mean"].iloc[-1])):
            labels.append((last, name, colour))
    axis.axhline(0, color=figure_style.FAINT, linewidth=0.8)
    axis.set_xlabel("programs generated")
    axis.set_ylabel("gain (nats)")
    figure_style.end_labels(axis, labels, size=8.5)


def lineage(of: dict[str, pd.DataFrame], search: str | None = None) -> Figure:
    """The way from the initial program to the best, a row per change that moved the fitness.

    Args:
        of: As `tables` gives them.
        search: Which one; None: the first.

    Raises:
        UserError: if the study has no lineage of it.
    """
    steps = of.get("lineage", pd.DataFrame(columns=["search"]))
    steps = steps[steps.search == (search or steps.search.iloc[0])] if len(steps) else steps
    if steps.empty:
        raise UserError(f"no lineage of {search or 'any search'}; collect a search that has ended")
    rows = steps.reset_index(drop=True)
    moved = rows.fitness.ne(rows.fitness.shift()) | rows.fitness.isna()
    shown, neutral = rows[moved], int((~moved).sum())
    caption = (
        f"Search {rows.search.iloc[0]}. Each row: candidate number, its change (+ inserted, - "
        f"deleted, ~ modified statement), its gain on the data it was first judged on. {neutral} "
        "changes that left every update as it was are not shown. Rows of different rounds of data "
        "compare only roughly."
    )
    figure, axes = figure_style.canvas(
        "From the initial program to the best", caption, (11, 1.7 + 0.28 * len(shown)), [1.5, 1]
    )
    left, right = axes[0]
    left.set_axis_off()
    for axis in (left, right):
        axis.set_ylim(len(shown) - 0.5, -0.5)
    for height, row in enumerate(shown.itertuples()):
        left.text(0.0, height, f"{row.number}", fontsize=9, va="center", color=figure_style.FAINT)
        left.text(0.11, height, row.change, fontsize=9, va="center", family="DejaVu Sans Mono")
    right.barh(range(len(shown)), shown.fitness, color=PALETTE[0], height=0.6)
    right.axvline(0, color=figure_style.FAINT, linewidth=0.8)
    right.set_yticks([])
    right.set_xlabel("gain (nats)")
    return figure


def betas(of: dict[str, pd.DataFrame]) -> Figure:
    """Every sign momentum that the searches met, by its two betas.

    Raises:
        UserError: if they met none.
    """
    rows = of.get("sightings", pd.DataFrame(columns=["beta1_value"])).dropna(subset="beta1_value")
    if rows.empty:
        raise UserError("no search of this study met sign momentum: there is nothing to draw")
    spread = rows[rows.beta1_value.between(-0.5, 1.5) & rows.beta2_value.between(-0.5, 1.5)]
    caption = (
        f"{len(rows)} programs that are proved to be sign momentum (diamonds: without clip, arcsin "
        f"and the like), of {rows.search.nunique()} searches; {len(rows) - len(spread)} lie "
        "outside. Colour: gain in nats on the data that each was first judged on. Crosses: the "
        "paper's Lion, (0.9, 0.99) and (0.95, 0.98). On the diagonal there is one average only."
    )
    figure, axes = figure_style.canvas("Sign momentum, as it was met", caption, (7.2, 6.2))
    axis = axes[0, 0]
    drawn = None
    limit = float(spread.fitness.abs().max()) or 1.0
    for is_exact, part in spread.groupby("is_exact"):
        look = {"linewidths": 0.8, "edgecolors": figure_style.INK} if is_exact else {}
        marker = "o" if is_exact else "d"
        drawn = axis.scatter(part.beta1_value, part.beta2_value, c=part.fitness, cmap="PuOr",
                             vmin=-limit, vmax=limit, s=34, marker=marker, **look)  # fmt: skip
    if drawn is not None:
        figure.colorbar(drawn, ax=axis, label="gain (nats)", shrink=0.8)
    for beta1, beta2 in ((0.9, 0.99), (0.95, 0.98)):
        axis.plot([beta1], [beta2], marker="x", color=figure_style.INK, markersize=9)
    low, high = min(axis.get_xlim()[0], axis.get_ylim()[0]), 1.02
    axis.plot([low, high], [low, high], color=figure_style.FAINT, linewidth=0.8)
    axis.set_xlabel("beta1 (weight of the momentum in the update)")
    axis.set_ylabel("beta2 (weight of the momentum in the momentum)")
    dot_panels.as_proxy(axis)
    return figure


def funnel(of: dict[str, pd.DataFrame]) -> Figure:
    """Each finalist at each gate: its gain on every family.

    Raises:
        UserError: if no funnel was run.
    """
    rows = of.get("funnel", pd.DataFrame())
    if rows.empty:
        raise UserError("no funnel yet; run scripts/search.py funnel, then collect again")
    gates = list(dict.fromkeys(rows.gate))
    caption = (
        "Gain on fresh data in nats below the reference, mean and standard error over "
        f"{rows.n.min()} seeds. Promoted (filled): better by more than 2 standard errors on one "
        "family, and not worse by more than 2 on any. T2 has 10 times the steps of T1."
    )
    names = list(dict.fromkeys(f"{a}, {n}" for a, n in zip(rows.arm, rows.number, strict=True)))
    size = (4.2 * len(gates) + 2, 1.9 + 0.5 * len(names))
    figure, axes = figure_style.canvas(
        "Which finalists hold elsewhere", caption, size, [1] * len(gates)
    )
    for axis, gate in zip(axes[0], gates, strict=True):
        _gate(axis, rows[rows.gate == gate], names, axis is axes[0, 0])
        figure_style.panel_title(axis, gate)
    return figure


def _gate(axis: Any, rows: pd.DataFrame, names: Sequence[str], labelled: bool) -> None:
    families = list(dict.fromkeys(rows.family))
    for place, family in enumerate(families):
        part = rows[rows.family == family]
        for row in part.itertuples():
            height = names.index(f"{row.arm}, {row.number}") + 0.2 * (place - 1)
            face = PALETTE[place] if row.promoted else "white"
            axis.errorbar([row.mean], [height], xerr=[row.standard_error], color=PALETTE[place],
                          marker="o", markersize=5, markerfacecolor=face, capsize=2,
                          label=FAMILIES.get(family, family))  # fmt: skip
    handles, said = axis.get_legend_handles_labels()
    unique = dict(zip(said, handles, strict=True))
    axis.legend(unique.values(), unique.keys(), frameon=False, fontsize=8.5)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_yticks(range(len(names)), names if labelled else [""] * len(names))
    axis.axvline(0, color=figure_style.FAINT, linewidth=0.8)
    axis.set_xlabel("gain (nats)")
    dot_panels.as_proxy(axis)


def _nothing(axis: Any, said: str) -> None:
    axis.set_axis_off()
    axis.text(0.02, 0.8, said, color=figure_style.FAINT, transform=axis.transAxes)


ALL = {"overview": overview, "lineage": lineage, "betas": betas, "funnel": funnel}
"""Every figure of a study, by name; each takes the tables, and says what it lacks."""
