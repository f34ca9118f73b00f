"""Every check of the paper's own tables notices a changed cell that its claim names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.analysis.claims import paper
from experiments.analysis.claims.paper_tables import Tables

PAPER = Path(__file__).resolve().parents[4] / "results" / "paper"
Cell = tuple[str, dict[str, Any], str, float]
"""Table, which rows, column, by how much it is changed."""


def scratch(model: str, optimizer: str, by: float, metric: str = "imagenet_top1", **more: Any):
    where = {"version": "neurips", "model": model, "optimizer": optimizer, "metric": metric}
    return ("imagenet_from_scratch", {"randaug_mixup": "no", **where, **more}, "value", by)


def jft(model: str, optimizer: str, metric: str, by: float, **more: Any) -> Cell:
    where = {"model": model, "optimizer": optimizer, "metric": metric, "polyak": "yes"}
    return ("jft", {"version": "neurips", **where, **more}, "value", by)


ZHAI = {"model": "ViT-L/16", "variant": "from prior work (Zhai et al.)"}
B16 = {"version": "hero-lion", "polyak": "no"}
BASIC = {"version": "neurips", "model": "BASIC-L"}
COCA = {"model": "CoCa (previous best)"}
ABLATION = "Ablation (single interpolate, beta 0.9, sign)"
S16 = {"model": "ViT-S/16", "metric": "imagenet_top1"}


def lit(optimizer: str, metric: str, by: float, **more: Any) -> Cell:
    where = {"version": "neurips", "model": "LiT-B/16-B", "optimizer": optimizer}
    return ("lit", {**where, "metric": f"{metric}_zeroshot_top1", **more}, "value", by)


def batch(size: int, optimizer: str, by: float) -> Cell:
    return ("batch_size_ablation", {"batch_size": size, "optimizer": optimizer}, "value", by)


def lm(dataset: str, size: str, by: float) -> Cell:
    where = {"dataset": dataset, "model_size": size, "optimizer": "Lion"}
    return ("lm_curves", where, "log_perplexity", by)


def compute(budget: str, optimizer: str, column: str, by: float, metric: str) -> Cell:
    where = {"model_and_budget": budget, "optimizer": optimizer, "metric": metric}
    return ("jft_compute", where, column, by)


def landscape(optimizer: str, metric: str) -> Cell:
    return ("landscape", {"optimizer": optimizer, "metric": metric}, "value", 0.05)


def shot(size: str, group: str, optimizer: str, by: float) -> Cell:
    where = {"model_size": size, "task": f"Average {group}", "optimizer": optimizer}
    return ("llm_in_context", where, "value", by)


CELLS: dict[str, list[Cell]] = {
    "C005": [scratch("ViT-B/16", "Lion", -0.1), scratch("ViT-S/16", "Lion", 2.0)],
    "C007": [compute("ViT-L/16, 14 epochs", "Lion", "accuracy", -0.2, "imagenet_top1"),
             compute("ViT-H/14, 14 epochs", "AdamW", "pretrain_exaflops", 2000, "imagenet_top1"),
             compute("ViT-L/16, 14 epochs", "Lion", "accuracy", -0.5, "v2_top1")],
    "C008": [compute("ViT-L/16, 7 epochs", "Lion", "accuracy", -0.3, "real_top1")],
    "C009": [jft("ViT-L/16", "Lion", "imagenet_top1", -0.2, polyak="no", epochs=14),
             jft("ViT-L/16", "Lion", "v2_top1", -1.0, polyak="no", epochs=14),
             ("jft", {"metric": "real_top1", **ZHAI}, "value", 0.4)],
    "C010": [jft("ViT-L/16", "Lion", "imagenet_top1", -0.2),
             ("jft", {"model": "ViT-H/14"}, "params_m", 200)],
    "C011": [jft("ViT-g/14", "Lion", "imagenet_top1", -0.1),
             jft("ViT-G/14", "Adafactor", "v2_top1", 0.1),
             ("jft", {"model": "ViT-g/14"}, "params_m", 300)],
    "C012": [jft("ViT-G/14", "Lion", "imagenet_top1", 0.1),
             jft("ViT-G/14", "Adafactor", "imagenet_top1", 0.1)],
    "C013": [jft("ViT-H/14", "Lion", "v2_top1", 0.1), jft("ViT-L/16", "AdamW", "v2_top1", 0.1)],
    "C014": [jft("ViT-H/14", "Lion", "imagenet_a_top1", 0.1)],
    "C015": [jft("ViT-L/16", "AdamW", "imagenet_r_top1", 0.1)],
    "C016": [jft("ViT-L/16", "Lion", "imagenet_top1", 0.1, version="hero-lion")],
    "C017": [("basic", {**BASIC, "optimizer": o, "metric": "zeroshot_imagenet"}, "value", 0.1)
             for o in ("Lion", "Adafactor")]
            + [("basic", {**COCA, "metric": "zeroshot_imagenet"}, "value", 0.1)],
    "C018": [("basic", {**BASIC, "optimizer": "Lion", "metric": "finetune_imagenet"},
              "value", -0.1),
             ("basic", {**COCA, "metric": "finetune_imagenet"}, "value", 0.1)],
    "C019": [lit("Lion", "imagenet", 0.1), lit("AdamW", "imagenet", 0.1),
             lit("AdafactorW", "imagenet", 0.1, version="hero-lion")],
    "C020": [("retrieval_curves", {"dataset": "Flickr30K", "direction": "img2txt", "metric": "R@1",
                                   "optimizer": "Lion"}, "value", 0.1)],
    "C021": [("diffusion_fid_curves", {"resolution": "256x256", "optimizer": "Lion"}, "fid", 0.2)],
    "C022": [("diffusion_fid_curves", {"resolution": "256x256", "optimizer": o}, "fid", 0.2)
             for o in ("Lion", "AdamW")],
    "C023": [("diffusion_fid_curves", {"resolution": "64x64", "optimizer": "AdamW"}, "fid", 2.0)],
    "C026": [lm("Wiki-40B", "medium", 0.05)],
    "C027": [lm("PG-19", "medium", 0.05)],
    "C028": [lm("PG-19", "large", 0.05)],
    "C029": [lm("PG-19", "small", -0.2), lm("Wiki-40B", "small", -0.2)],
    "C031": [shot("2.1B", "NLG", "Lion", 0.5)],
    "C032": [shot("7.5B", "NLU", "Adafactor", 0.5)],
    "C033": [shot("7.5B", "NLG", "Adafactor", -5.0)],
    "C034": [("mlm_c4", {"model_size": "medium", "optimizer": "Lion"}, "value", 0.1)],
    "C035": [("glue", {"model": "T5-Large", "optimizer": "Lion", "metric": "cola_default"},
              "value", -30.0)],
    "C036": [("glue", {"model": "T5-11B", "optimizer": "AdamW", "metric": "average"},
              "value", 0.1)],
    "C037": [("optimizer_comparison", {**S16, "optimizer": "AMSGrad"}, "value", 3.0)],
    "C038": [("optimizer_comparison", {**S16, "optimizer": "AddSign"}, "value", 5.0)],
    "C043": [jft("ViT-B/16", optimizer, "imagenet_top1", 0.1, **B16)
             for optimizer in ("Lion", "AdamW", ABLATION)],
    "C045": [("hyperparameters", {"optimizer": "Lion", "group": "scratch ImageNet"},
              "beta2", -0.05)],
    "C046": [batch(4096, "Lion", -1.0), batch(1024, "AdamW", 1.0)],
    "C047": [batch(32768, "Lion", 0.2)],
    "C048": [batch(64, "AdamW", 0.2)],
    "C049": [batch(1024, "Lion", -0.5)],
    "C050": [("hyperparameters", {"version": "neurips", "model": "BASIC-L",
                                  "optimizer": "Adafactor"}, "lr", 0.0005),
             ("hyperparameters", {"version": "neurips", "model": "ViT-B/16", "optimizer": "Lion",
                                  "group": "pre-train JFT-300M"}, "lr", 0.00002)],
    "C052": [("lr_wd_heatmap", {"optimizer": "Lion", "lr": 5e-4, "weight_decay": 2.0},
              "value", 9.0)],
    "C056": [scratch("ViT-S/16", "AdamW", 0.1), scratch("ViT-B/16", "Lion", 0.1)],
    "C057": [("imagenet21k", {"version": "neurips", "model": "ViT-L/16", "metric": "real_top1",
                              "optimizer": "Lion"}, "value", 0.1)],
    "C058": [scratch("ResNet-50", "Lion", 3.0)],
    "C059": [scratch("ViT-B/16", "AdamW", 0.1, randaug_mixup="yes"),
             scratch("ViT-B/16", "AdamW", 1.9), scratch("CoAtNet-3", "Lion", 0.1,
                                                        randaug_mixup="yes")],
    "C060": [scratch("ViT-S/16", "Lion", 0.1, version="hero-lion", randaug_mixup="yes")],
    "C061": [scratch("ResNet-50", o, 0.1) for o in ("Lion", "AdamW", "SGD (momentum)")]
            + [scratch("ResNet-50", "Lion", -2.0, m) for m in ("real_top1", "v2_top1")],
    "C062": [landscape(o, "train_loss_L") for o in ("Lion", "AdamW")],
    "C063": [landscape(o, "perturbed_train_loss_L_N") for o in ("Lion", "AdamW")],
    "C083": [lit("Lion", "cifar100", 0.1), lit("AdamW", "oxford_pet", 0.1)],
    "C084": [compute("ViT-H/14, 14 epochs", "AdamW", "accuracy", 0.5, "real_top1")],
    "C085": [batch(64, "Lion", -0.5), batch(32768, "Lion", -3.0)],
    "C086": [jft("ViT-L/16", "Lion", "v2_top1", -1.0), jft("ViT-H/14", "Lion", "real_top1", 1.0)],
}  # fmt: skip
"""Claim -> cells that it names; each changed alone turns the answer."""
DIFFER = {
    "C040": ("optimizer_comparison", {"model": "ViT-B/16", "optimizer": "Ablation_0.99"},
             "value", -9.0),
    "C051": ("hyperparameters", {"group": "scratch ImageNet", "optimizer": "Lion"},
             "weight_decay", 0.0),
    "C082": ("imagenet_from_scratch", {"model": "ResNet-50", "optimizer": "Lion"}, "value", 1.0),
}  # fmt: skip
"""Claims that differ from the tables: what differs, in the first place."""


class Changed(Tables):
    """The tables with one cell (or curve) moved."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(PAPER)
        original, (name, where, column, by) = self.read, cell

        def read(asked: str) -> pd.DataFrame:
            table = original(asked)
            if asked != name:
                return table
            at = pd.Series(True, index=table.index)
            for key, wanted in where.items():
                at &= table[key] == wanted
            assert at.any(), f"no such cell: {cell}"
            table = table.astype({column: float})
            table.loc[at, column] += by
            return table

        self.read = read  # type: ignore[method-assign]


def agrees(name: str, tables: Tables) -> bool:
    try:
        return paper.CHECKS[name](tables).agrees
    except LookupError:
        return False


@pytest.mark.parametrize(
    ("name", "number"), [(n, k) for n, cells in CELLS.items() for k in range(len(cells))]
)
def test_a_changed_cell_is_noticed(name: str, number: int) -> None:
    assert agrees(name, Tables(PAPER))
    assert not agrees(name, Changed(CELLS[name][number])), CELLS[name][number]


def test_no_check_is_left_out() -> None:
    assert set(CELLS) | set(DIFFER) == set(paper.CHECKS)
    assert [n for n in paper.CHECKS if not agrees(n, Tables(PAPER))] == list(DIFFER)


def test_a_claim_that_differs_can_agree() -> None:
    assert agrees("C040", Changed(DIFFER["C040"]))
    assert agrees("C082", Changed(DIFFER["C082"]))


def test_figure_and_claim_say_the_same_of_language_models() -> None:
    from experiments.analysis.claims.paper_trends import sooner
    from experiments.analysis.figures import language
    from experiments.analysis.statistics.crossing import times_sooner

    points = language.table()
    mine = points[
        (points.dataset == "PG-19") & (points.model_size == "medium") & points.step.notna()
    ]
    curves: Mapping[Any, pd.DataFrame] = dict(iter(mine.groupby("optimizer")))
    drawn = times_sooner(curves["Lion"], curves["AdamW"])
    assert drawn == pytest.approx(sooner(Tables(PAPER), "PG-19", "medium"))
    assert f"{drawn:.2f} x sooner" in paper.CHECKS["C027"](Tables(PAPER)).text
