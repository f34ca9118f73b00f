"""Every figure by its name. A new one is a file here and a line in `FIGURES`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.figures import (
    basic,
    batch_size,
    betas,
    diffusion,
    glue,
    imagen,
    imagenet,
    in_context,
    jft,
    jft_compute,
    landscape,
    language,
    lit,
    lr_wd_heatmaps,
    optimizers,
    proxies,
    retrieval,
)
from experiments.analysis.sources import RESULTS


class FigureModule(Protocol):
    """What each file of this folder offers."""

    TITLE: str

    def table(self, results: Path = RESULTS) -> pd.DataFrame:
        """The tidy numbers that the figure shows."""
        ...

    def draw(self, results: Path = RESULTS) -> Figure:
        """The figure."""
        ...


FIGURES: dict[str, FigureModule] = {
    "proxies": proxies,
    "lr_wd_heatmaps": lr_wd_heatmaps,
    "batch_size": batch_size,
    "betas": betas,
    "optimizers": optimizers,
    "landscape": landscape,
    "imagenet": imagenet,
    "jft": jft,
    "jft_compute": jft_compute,
    "lit": lit,
    "retrieval": retrieval,
    "basic": basic,
    "diffusion": diffusion,
    "imagen": imagen,
    "language": language,
    "in_context": in_context,
    "glue": glue,
}
