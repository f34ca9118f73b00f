"""Do the paper's claims agree with the paper's own tables? Needs no run, and supports no claim.

One line of `CHECKS` per claim: what to look up in results/paper/*.csv, and what it should give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.analysis.claims import paper_trends as trends
from experiments.analysis.claims import paper_vision as vision
from experiments.analysis.claims.paper_tables import PaperCheck, Recomputed, Tables


@dataclass(frozen=True)
class Gain:
    """Value of one row minus another's, or their ratio, against the number claimed."""

    table: str
    where: Mapping[str, Any]
    claimed: float
    ours: str = "Lion"
    theirs: str = "AdamW"
    value: str = "value"
    tolerance: float = 0.0101  # of two values that are rounded to 0.01

    def __call__(self, tables: Tables) -> Recomputed:
        values = [
            tables.value(self.table, {**self.where, "optimizer": name}, self.value)
            for name in (self.ours, self.theirs)
        ]
        gain = values[0] - values[1]
        text = f"{values[0]:g} - {values[1]:g} = {gain:+.2f} (claimed {self.claimed:+g})"
        return Recomputed(abs(gain - self.claimed) <= self.tolerance, text)


@dataclass(frozen=True)
class Value:
    """One number in a table against the one claimed."""

    table: str
    where: Mapping[str, Any]
    claimed: float
    tolerance: float = 0.0051
    column: str = "value"

    def __call__(self, tables: Tables) -> Recomputed:
        found = tables.value(self.table, self.where, self.column)
        agrees = abs(found - self.claimed) <= self.tolerance
        return Recomputed(agrees, f"{found:g} (claimed {self.claimed:g})")


@dataclass(frozen=True)
class All:
    """Several checks of one claim."""

    parts: Sequence[PaperCheck]

    def __call__(self, tables: Tables) -> Recomputed:
        found = [part(tables) for part in self.parts]
        return Recomputed(all(f.agrees for f in found), "; ".join(f.text for f in found))


def _scratch(model: str, claimed: float, augmented: str = "no", version: str = "neurips") -> Gain:
    where = {"version": version, "model": model, "randaug_mixup": augmented}
    return Gain("imagenet_from_scratch", {**where, "metric": "imagenet_top1"}, claimed)


def _jft(metric: str, claims: Mapping[str, float], version: str = "neurips") -> All:
    where: dict[str, Any] = {
        "version": version,
        "pretrain_data": "JFT-300M",
        "metric": metric,
        "polyak": "yes",
    }
    where["variant"] = None  # not the rows quoted from prior work
    return All([Gain("jft", {**where, "model": m}, claimed) for m, claimed in claims.items()])


def _in_context(group: str, claims: Mapping[str, float]) -> All:
    where = {"group": "average", "task": f"Average {group}"}
    parts = [
        Gain("llm_in_context", {**where, "model_size": s}, c, theirs="Adafactor", tolerance=0.101)
        for s, c in claims.items()
    ]
    return All(parts)


def _landscape(metric: str, lion: float, adamw: float) -> All:
    where = {"version": "neurips", "metric": metric}
    values = [Value("landscape", {**where, "optimizer": o}, v)
              for o, v in (("Lion", lion), ("AdamW", adamw))]  # fmt: skip
    return All(values)


def _lit(
    metric: str, claims: Mapping[str, float], version: str = "neurips", theirs: str = "AdamW"
) -> list[Gain]:
    where = {"version": version, "metric": metric}
    return [Gain("lit", {**where, "model": m}, c, theirs=theirs) for m, c in claims.items()]


def _masked(size: str, claimed: float) -> Gain:
    where = {"model_size": size}
    return Gain("mlm_c4", where, -claimed)


_GAINS_21K = {"ViT-L/16": (0.52, 0.57, 0.74), "ViT-B/16": (0.33, 0.23, 0.25)}
_METRICS_21K = ("imagenet_top1", "real_top1", "v2_top1")
_LIT = {"LiT-B/32-B": 1.10, "LiT-B/16-B": 1.13, "LiT-g/14-L": 0.66}
_CIFAR = {"LiT-B/32-B": 0.37, "LiT-B/16-B": 0.24, "LiT-g/14-L": 0.50}
_PET = {"LiT-B/32-B": 0.74, "LiT-B/16-B": 1.37, "LiT-g/14-L": 0.98}
_COCA = {"version": "neurips", "model": "CoCa (previous best)"}
_B16 = {"version": "hero-lion", "model": "ViT-B/16", "metric": "imagenet_top1"}
_ABLATION = "Ablation (single interpolate, beta 0.9, sign)"
_BASIC = {"version": "neurips", "model": "BASIC-L"}
_GLUE = {"T5-Base": 0.49, "T5-Large": 0.40, "T5-11B": 0.52}

CHECKS: dict[str, PaperCheck] = {
    "C005": vision.best_on_vit,
    "C007": All([
        trends.compute("ViT-L/16, 14 epochs", "ViT-H/14, 14 epochs", metric, 3)
        for metric in ("imagenet_top1", "v2_top1")
    ]),
    "C008": trends.compute("ViT-L/16, 7 epochs", "ViT-H/14, 14 epochs", "real_top1", 5),
    "C009": vision.steps_of_prior_work,
    "C010": vision.half_the_size,
    "C011": vision.smaller_giant,
    "C012": Gain("jft", {"version": "neurips", "model": "ViT-G/14", "metric": "imagenet_top1"},
                 0.26, theirs="Adafactor"),
    "C013": _jft("v2_top1", {"ViT-L/16": 1.33, "ViT-H/14": 1.12}),
    "C014": _jft("imagenet_a_top1", {"ViT-L/16": 6.08, "ViT-H/14": 3.14}),
    "C015": _jft("imagenet_r_top1", {"ViT-L/16": 5.54, "ViT-H/14": 2.77}),
    "C016": _jft("imagenet_top1", {"ViT-L/16": 0.78}, "hero-lion"),
    "C017": All([
        Value("basic", {**_BASIC, "metric": "zeroshot_imagenet", "optimizer": "Lion"}, 88.3),
        Value("basic", {**_BASIC, "metric": "zeroshot_imagenet", "optimizer": "Adafactor"}, 85.7),
        Value("basic", {**_COCA, "metric": "zeroshot_imagenet"}, 86.3),
    ]),
    "C018": All([
        Value("basic", {**_BASIC, "metric": "finetune_imagenet", "optimizer": "Lion"}, 91.1),
        Value("basic", {**_COCA, "metric": "finetune_imagenet"}, 91.0),
    ]),
    "C019": All([
        *_lit("imagenet_zeroshot_top1", _LIT),
        *_lit("imagenet_zeroshot_top1", _LIT, "hero-lion", "AdafactorW"),
    ]),
    "C020": trends.retrieval,
    "C021": trends.diffusion_steps,
    "C022": trends.diffusion_end,
    "C023": trends.diffusion_gap,
    "C026": trends.steps_to_adamw("Wiki-40B", "medium", 1.6),
    "C027": trends.steps_to_adamw("PG-19", "medium", 1.5),
    "C028": trends.steps_to_adamw("PG-19", "large", 2),
    "C029": trends.sooner_with_size,
    "C031": _in_context("NLG", {"1.1B": 1.0, "2.1B": 0.9, "7.5B": 0.6}),
    "C032": _in_context("NLU", {"1.1B": 0.7, "2.1B": 0.6, "7.5B": 0.4}),
    "C033": trends.beats_palm,
    "C034": All([_masked("small", 0.07), _masked("medium", 0.12), _masked("large", 0.07)]),
    "C035": trends.glue_wins,
    "C036": All([Gain("glue", {"model": m, "metric": "average"}, c) for m, c in _GLUE.items()]),
    "C037": trends.ranking,
    "C038": trends.all_below(("PowerSign", "AddSign"), trends.ADAPTIVE),
    "C040": trends.all_below(("Ablation_0.9", "Ablation_0.99"), (*trends.ADAPTIVE, "Lion")),
    "C043": All([
        Value("jft", {**_B16, "optimizer": name}, value)
        for name, value in (("AdamW", 84.24), (_ABLATION, 84.39), ("Lion", 84.72))
    ]),
    "C045": trends.memory_of_betas,
    "C046": trends.best_batch,
    "C047": trends.batch_gain(32768, 2.5),
    "C048": trends.batch_gain(64, 0.0),
    "C049": trends.batch_trend,
    "C050": trends.lr_ratio,
    "C051": trends.decay_ratio,
    "C052": trends.heatmap,
    "C056": All([_scratch("ViT-B/16", 1.96), _scratch("ViT-S/16", 0.58)]),
    "C057": All([
        Gain("imagenet21k", {"version": "neurips", "model": model, "metric": metric}, claimed)
        for model, gains in _GAINS_21K.items()
        for metric, claimed in zip(_METRICS_21K, gains, strict=True)
    ]),
    "C058": vision.with_less_bias,
    "C059": vision.shrinks_with_augmentation,
    "C060": All([_scratch("ViT-S/16", 0.52, "yes", "hero-lion"),
                 _scratch("ViT-B/16", 0.46, "yes", "hero-lion")]),
    "C061": vision.resnet,
    "C062": _landscape("train_loss_L", 0.75, 0.61),
    "C063": _landscape("perturbed_train_loss_L_N", 1.37, 3.74),
    "C082": vision.on_every_architecture,
    "C083": All([*_lit("cifar100_zeroshot_top1", _CIFAR), *_lit("oxford_pet_zeroshot_top1", _PET)]),
    "C084": vision.compute_range,
    "C085": vision.stays_near_its_best,
    "C086": vision.harder_gain_more,
}  # fmt: skip
"""Claim id -> how to look it up."""
