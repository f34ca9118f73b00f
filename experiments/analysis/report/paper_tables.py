"""The paper's numbers, and how captions name their provenance."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.store import UserError

METRICS = {
    "imagenet_top1": "ImageNet",
    "real_top1": "ReaL",
    "v2_top1": "ImageNet-V2",
    "imagenet_a_top1": "ImageNet-A",
    "imagenet_r_top1": "ImageNet-R",
    "average": "average of 12 scores",
    "zeroshot_imagenet": "ImageNet, zero-shot",
    "imagenet_zeroshot_top1": "ImageNet, zero-shot",
    "clip_score": "CLIP score",
    "fid30k": "FID-30K",
    "train_loss_L": "training loss",
    "perturbed_train_loss_L_N": "training loss under weight noise",
}
"""Metrics of the tables, for people."""
TRANSCRIBED = "Provenance: numbers of the paper's tables, transcribed"
DIGITISED = "Provenance: the paper's figure, digitised; hover shows each point's reading error"
NO_SPREAD = "the paper gives no run-to-run spread."


def read(paper: Path, name: str, version: str = "neurips") -> pd.DataFrame:
    """A table of the paper's numbers, of one version of its text.

    Raises:
        UserError: if the table is damaged.
    """
    path = paper / f"{name}.csv"
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from None
    return table[table.version == version] if "version" in table else table


def metric_name(name: object) -> str:
    """A metric of the tables, for people."""
    return METRICS.get(str(name), str(name))
