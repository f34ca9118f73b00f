"""The program of our searches that came through the funnel, beside AdamW and Lion, all tuned.

Each page has a tuning study, `discovered`, and one of the picks on fresh seeds, which is what is
compared (conf/sweep/discovered.yaml).
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false
# (pandas' own types do not follow columns and filters)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import fresh_pairs
from experiments.analysis.sources import RESULTS, study
from experiments.headline import of_table

PAGES = {
    "vit_proxy": "ViT, digits",
    "vit_mnist1d_proxy": "ViT, MNIST-1D",
    "resnet_proxy": "ResNet, digits",
    "lm_proxy": "language model",
    "mlm_proxy": "masked language model",
    "diffusion_proxy": "diffusion, digits",
}
"""Experiments, and what their panels are called."""
ARMS = {"program": "discovered program", "lion": "Lion"}
"""Pages of conf/optimizer that are compared with `THEIRS`, and how they are called here."""
THEIRS = "adamw"
STUDY = "discovered"
COLUMNS = (
    *("experiment", "arm", "theirs", "ours", "difference", "low", "high", "wide_low", "wide_high"),
    *("n", "p_holm", "verdict", "holds", "edges", "lr", "weight_decay", "their_lr"),
    *("their_weight_decay", "num_settings", "num_tuning_seeds"),
    *("sign", "unit", "metric", "report", "digits"),
)


def table(results: Path = RESULTS) -> pd.DataFrame:
    """Each arm minus AdamW on each page that has been tuned.

    Returns:
        `COLUMNS`: as `fresh_pairs.judge`, ours minus theirs in the page's own `unit`; `sign` times
        a difference is positive where ours is ahead. p_holm is corrected over the pages, for each
        arm by itself: two questions.
    """
    rows = []
    for experiment in PAGES:
        tuning = study(STUDY, results, experiment)
        if tuning is None:
            continue
        fresh = study(f"{STUDY}_fresh", results, experiment)
        fresh = tuning.iloc[:0] if fresh is None else fresh
        rows += [_cell(experiment, arm, tuning, fresh) for arm in ARMS]
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    if found.empty:
        return found
    parts = [fresh_pairs.corrected(found[found.arm == arm].copy()) for arm in ARMS]
    return pd.concat(parts).sort_index()


def _cell(experiment: str, arm: str, tuning: pd.DataFrame, fresh: pd.DataFrame) -> dict[str, Any]:
    headline = of_table(tuning)
    cell = fresh_pairs.judge(tuning, fresh, arm, THEIRS)
    names = {
        **{arm: "ours", f"{arm}_lr": "lr", f"{arm}_weight_decay": "weight_decay"},
        **{THEIRS: "theirs", f"{THEIRS}_lr": "their_lr"},
        f"{THEIRS}_weight_decay": "their_weight_decay",
    }
    said = {"sign": headline.sign, "unit": headline.points, "metric": headline.metric}
    return {
        "experiment": experiment,
        "arm": arm,
        **{names.get(key, key): value for key, value in cell.items()},
        **said,
        "report": headline.report,
        "digits": headline.digits,
    }
