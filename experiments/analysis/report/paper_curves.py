"""The paper's curves over training steps, as interactive panels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.analysis.report import panels
from experiments.analysis.report.panels import Figure, Panel, axis
from experiments.analysis.report.paper_tables import DIGITISED, NO_SPREAD, metric_name, read


def diffusion(paper: Path) -> Figure:
    """FID over training."""
    table = read(paper, "diffusion_fid_curves")
    table = table.assign(panel="ImageNet, " + table.resolution + " pixels")
    order = ["ImageNet, 64x64 pixels", "ImageNet, 128x128 pixels", "ImageNet, 256x256 pixels"]
    drawn = _curve_panels(table, order, "fid", "FID (lower is better)")
    caption = f"FID of diffusion models while they are trained. {DIGITISED}; {NO_SPREAD}"
    sources = ["paper/diffusion_fid_curves.csv"]
    return Figure("diffusion", "Diffusion", caption, sources, drawn)


def retrieval(paper: Path) -> Figure:
    """Image-text retrieval over training."""
    table = read(paper, "retrieval_curves")
    ways = table.direction.replace({"img2txt": "image to text", "txt2img": "text to image"})
    table = table.assign(panel=table.dataset + ", " + ways + ", " + table.metric)
    drawn = _curve_panels(table, sorted(table.panel.unique()), "value", "recall, %")
    caption = f"Zero-shot retrieval of LiT-B/16-B while it is trained. {DIGITISED}; {NO_SPREAD}"
    return Figure("retrieval", "Retrieval", caption, ["paper/retrieval_curves.csv"], drawn)


def language(paper: Path) -> Figure:
    """Perplexity of language models over training."""
    table = read(paper, "lm_curves")
    table = table.assign(panel=table.dataset + ", " + table.model_size)
    title = "log perplexity (lower is better)"
    drawn = _curve_panels(table, sorted(table.panel.unique()), "log_perplexity", title)
    caption = (
        "Autoregressive language models while they are trained; the paper does not state the "
        f"logarithm's base. {DIGITISED}; {NO_SPREAD}"
    )
    return Figure("language", "Language modelling", caption, ["paper/lm_curves.csv"], drawn)


def imagen(paper: Path) -> Figure:
    """Text-to-image models over training."""
    table = read(paper, "imagen_curves")
    names = [metric_name(m) for m in table.metric]
    table = table.assign(
        panel=table.model.str.replace("_", " ") + ", " + pd.Series(names, table.index)
    )
    drawn = _curve_panels(table, list(table.panel.unique()), "value", "value")
    for panel in drawn:
        panel.layout["yaxis"] = axis(panel.title.rpartition(", ")[2])
    caption = (
        f"Imagen's base and super-resolution models. {DIGITISED}; hollow: hard to read (all of "
        f"super-resolution); {NO_SPREAD}"
    )
    return Figure("imagen", "Imagen", caption, ["paper/imagen_curves.csv"], drawn)


def _curve_panels(
    table: pd.DataFrame, titles: Sequence[str], value: str, label: str
) -> list[Panel]:
    """One panel per value of `panel`, one curve per optimizer over `step`."""
    drawn = []
    for title in titles:
        mine = table[table.panel == title]
        traces = [
            panels.line(name, curve, "step", value, "uncertainty")
            for name, curve in mine.groupby("optimizer")
        ]
        layout = {"xaxis": axis("optimizer step"), "yaxis": axis(label)}
        drawn.append(Panel(title, traces, layout, "digitised"))
    return drawn
