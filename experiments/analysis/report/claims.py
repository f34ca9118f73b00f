"""The claims of the paper with their verdicts, as one table, and the topics they belong to."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.analysis.report.page import is_missing
from experiments.pages import script
from experiments.store import UserError

NOT_RUN = "not run"
SCALES = {"proxy": "proxy", "measured": "measured", "paper_scale": "paper scale"}
"""How a claim is answered here, and the word for it: by small runs, measurements, full runs."""
ANSWER = ("verdict", "measure", "estimate", "low", "high", "n", "unit", "seeds_to_decide")
MORE = ("note", "files", "command")
COLUMNS = (
    *("claim_id", "version", "task", "metric", "claim", "paper_low", "paper_high", "paper_unit"),
    *("paper_consistency", "paper_recomputed"),
    *(f"{scale}_{column}" for scale in SCALES for column in (*ANSWER, *MORE)),
    *("cost", "cost_basis", "note", "command", "source"),
)
"""Columns that the page knows; any of them but the claim may be missing."""

OTHER_NAMES = {"id": "claim_id", "low": "paper_low", "high": "paper_high", "unit": "paper_unit"}
"""Names in results/paper/claims.csv that differ from those of results/claims.csv."""

VERDICTS = {
    "proxy_verdict": "Proxy runs here",
    "measured_verdict": "Measured here",
    "paper_scale_verdict": "Paper scale",
    "paper_consistency": "The paper's own numbers",
}
"""Columns with verdicts, and what each is about."""

TOPICS = (
    ("Memory and speed", ("memory", "runtime", "deployment")),
    ("Batch size", ("batch size",)),
    ("Tuning", ("tuning",)),
    ("Betas", ("beta ablation", "momentum")),
    ("Optimizers", ("optimizer comparison", "sgd")),
    ("JFT", ("jft",)),
    ("ImageNet", ("imagenet", "scratch", "strong augmentation", "resnet")),
    ("Vision-language", ("basic", "lit ", "lit-")),
    ("Diffusion", ("diffusion", "imagen ")),
    ("Language", ("lm", "large-scale lm", "masked lm", "t5")),
    ("Flatness", ("landscape", "regularisation")),
    ("Search and rule", ("search", "simplification", "update")),
    ("Limits", ("limitation",)),
)
"""Topics, and how the tasks of results/paper/claims.csv begin that belong to them."""


def topic_of(task: object) -> str:
    """The topic of a task; a task that no topic knows is "Other"."""
    text = f"{task} ".lower()
    found = (topic for topic, beginnings in TOPICS if text.startswith(beginnings))
    return next(found, "Other")


def read_claims(results: Path) -> tuple[pd.DataFrame, bool]:
    """The claims and whether they have verdicts (`results/claims.csv`) or not yet.

    Raises:
        UserError: if a table cannot be read, or has no claims in it.
    """
    judged, listed = results / "claims.csv", results / "paper/claims.csv"
    path = judged if judged.exists() else listed
    try:
        table = pd.read_csv(path).rename(columns=OTHER_NAMES)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from None
    if "claim" not in table:
        raise UserError(f"{path} has no column 'claim': run `{script('claims')}` again")
    table = table.reindex(columns=[*COLUMNS]).astype(object)
    for scale in SCALES:
        verdicts = table[f"{scale}_verdict"]
        table[f"{scale}_verdict"] = verdicts.where(verdicts.notna(), NOT_RUN)
    table["topic"] = [topic_of(task) for task in table.task]
    return table, path == judged


def word(verdict: object) -> str:
    """The verdict's own word: what follows a colon or bracket explains it."""
    if is_missing(verdict):
        return ""
    return str(verdict).split("(")[0].split(":")[0].split(";")[0].strip()
