"""T5 fine-tuned on GLUE. Source: the paper's Table 6."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.analysis.drawing import fresh_panels, gain_panels
from experiments.analysis.sources import RESULTS, paper
from experiments.analysis.tuned import NOT_RUN

TITLE = "T5 fine-tuned on GLUE: development set score"
CAPTION = (
    "Paper: arXiv:2302.06675, Table 6, transcribed (rounding 0.005). Each score is the peak over "
    "training on the validation set, so it favours noisy runs; number of runs not stated. Bars of "
    "all panels share one scale."
)
PROXY = "t5_proxy"
ROWS = {
    "average": "Average of the 12",
    "cola_default": "CoLA (Matthews)",
    "sst2_default": "SST-2 (accuracy)",
    "mrpc_f1": "MRPC (F1)",
    "mrpc_acc": "MRPC (accuracy)",
    "stsb_pearson": "STS-B (Pearson)",
    "stsb_spearman": "STS-B (Spearman)",
    "qqp_f1": "QQP (F1)",
    "qqp_acc": "QQP (accuracy)",
    "mnli_m_default": "MNLI-m (accuracy)",
    "mnli_mm_default": "MNLI-mm (accuracy)",
    "qnli_default": "QNLI (accuracy)",
    "rte_default": "RTE (accuracy)",
}


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Both scores (x 100) and their difference, by task and model."""
    rows = paper("glue", results)
    rows["row"], rows["panel"] = rows.metric.map(ROWS), rows.model + " (" + rows.params + ")"
    gains = gain_panels.pair(rows, ["row", "panel"], ["AdamW"]).assign(group="")
    rank = gains.row.map(list(ROWS.values()).index)
    gains = gains.assign(rank=rank).sort_values("rank", kind="stable", ignore_index=True)
    return gains[gain_panels.COLUMNS]


def draw(results: Path = RESULTS) -> Figure:
    """The table as numbers and bars."""
    is_run = fresh_panels.read(results, PROXY) is not None
    ours = "Ours: a proxy, in the figure of language models." if is_run else NOT_RUN
    caption = f"{CAPTION} {ours}"
    return gain_panels.draw(table(results), TITLE, caption, label_inches=1.8, bar_inches=1.5)
