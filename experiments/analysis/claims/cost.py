"""What it would cost to run a claim at the paper's scale, and how that was estimated.

All estimates are training FLOPs over the speed of an A100 at 40 % of its bf16 peak (312 TFLOP/s),
as on the pages of conf/experiment; tuning is left out unless said. Where the sources state
neither the model's size nor the cost, there is no estimate.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from experiments.analysis.claims.evidence import Evidence
from experiments.analysis.claims.paper_tables import Tables

A100_FLOPS = 0.4 * 312e12
"""Assumed speed of one A100, FLOP/s."""


@dataclass(frozen=True)
class Cost:
    """Of the runs that a claim needs."""

    amount: float | None  # None: not to be estimated from the sources
    unit: str
    basis: str

    def __str__(self) -> str:
        if self.amount is None:
            return self.unit or "unknown"
        return (
            f"{self.amount:,.0f} {self.unit}"
            if self.amount >= 9.5  # what is rounded to 10 or more
            else f"{self.amount:.1g} {self.unit}"
        )


Estimate = Callable[[Evidence, Tables], Cost]


def _hours(flops: float) -> float:
    return flops / A100_FLOPS / 3600


def _pages(runs: dict[str, int], why: str) -> Estimate:
    """Runs of pages whose headers say what one run costs."""

    def estimate(evidence: Evidence, tables: Tables) -> Cost:
        del tables
        total, parts = 0.0, []
        for page, number in runs.items():
            found = re.search(
                r"Cost \(estimate\): ([\d,.]+) A100-hours a run", evidence.page("experiment", page)
            )
            if not found:
                return Cost(None, "", f"the header of {page} has no estimate")
            total += number * float(found[1].replace(",", ""))
            parts.append(f"{number} x {found[1]} ({page})")
        return Cost(total, "A100-hours", f"{why}: {' + '.join(parts)}")

    return estimate


def _jft(budgets: dict[str, int], why: str) -> Estimate:
    """Pre-training runs whose exaFLOPs the paper's figure shows."""

    def estimate(evidence: Evidence, tables: Tables) -> Cost:
        del evidence
        exaflops = 0.0
        for budget, number in budgets.items():
            rows = tables.rows("jft_compute", {"model_and_budget": budget})
            exaflops += number * float(rows.pretrain_exaflops.iloc[0])
        runs = ", ".join(f"{number} x {budget}" for budget, number in budgets.items())
        basis = f"{why}: {runs}; {exaflops:,.0f} exaFLOP (jft_compute.csv); JFT is private"
        return Cost(_hours(exaflops * 1e18), "A100-hours", basis)

    return estimate


def _language(models: dict[float, int], tokens: float, why: str) -> Estimate:
    """6 x parameters x tokens, per model and number of runs."""

    def estimate(evidence: Evidence, tables: Tables) -> Cost:
        del evidence, tables
        flops = sum(6 * size * tokens * number for size, number in models.items())
        sizes = ", ".join(f"{number} x {size / 1e6:,.0f} M" for size, number in models.items())
        basis = f"{why}: {sizes} parameters; 6 x parameters x {tokens:.3g} tokens"
        return Cost(_hours(flops), "A100-hours", basis)

    return estimate


def _stated(amount: float, unit: str, basis: str) -> Estimate:
    return lambda evidence, tables: Cost(amount, unit, basis)


def _brief(basis: str) -> Estimate:
    return lambda evidence, tables: Cost(None, "minutes", basis)


def _unknown(basis: str) -> Estimate:
    return lambda evidence, tables: Cost(None, "", basis)


def _images_21k(evidence: Evidence, tables: Tables) -> Cost:
    """ImageNet-21K: ViT-L costs as many times more than ViT-B as on JFT."""
    del evidence
    cost = tables.read("jft_compute").groupby("model_and_budget").pretrain_exaflops.first()
    factor = cost["ViT-L/16, 7 epochs"] / cost["ViT-B/16, 7 epochs"]
    flops = 3 * 35.13e9 * 280_000 * 4096 * (1 + factor) * 2
    basis = (
        "one run each of B/16 and L/16 with both optimizers: 3 x 35.13 GFLOP x 280K steps x 4096 "
        f"images, L/16 {factor:.2f} x that; without fine-tuning"
    )
    return Cost(_hours(flops), "A100-hours", basis)


_ASSUMED = "of the size that the page assumes where the paper is silent"
_PRIVATE = "whose data are private"
_VIT = {"vit_b16_imagenet": 6}
_TEN = {"vit_s16_imagenet_aug": 10, "vit_b16_imagenet_aug": 10}
_SCRATCH = {
    "resnet50_imagenet": 6, "mixer_s16_imagenet": 6, "mixer_b16_imagenet": 6,
    "vit_s16_imagenet": 6, "vit_b16_imagenet": 6,
}  # fmt: skip
_SMALL_LM = 262_144 * 125_000
_SEARCH = _stated(72_000, "TPU-V2-hours", "stated: about 3000 TPU V2 days for the whole search")
_L_AND_H = _jft({"ViT-L/16, 14 epochs": 2, "ViT-H/14, 14 epochs": 2}, "both optimizers")
_BATCHES = _pages({"vit_b16_imagenet_aug": 12}, "6 batch sizes, both optimizers, settings known")
_GRID = _pages({"vit_b16_imagenet": 18}, "the two 3 x 3 grids")
_LANDSCAPE = _pages({"vit_b16_imagenet": 2}, "one run of each optimizer, then 1000 evaluations")
_LARGE_LM = _language({1.07e9: 2, 2.14e9: 2, 7.49e9: 2}, 300e9, "both optimizers")
_LIT = _pages({"lit_b32_b": 2, "lit_b16_b": 2, "lit_g14_288_l": 2}, f"both optimizers, {_ASSUMED}")
_UNET = _pages({"diffusion_imagenet256": 2}, f"both optimizers, {_ASSUMED}")
_T5 = _pages(
    {"t5_base_glue": 2, "t5_large_glue": 2, "t5_11b_glue": 2},
    "both optimizers, settings known, 64 tokens a pair",
)

COSTS: dict[str, Estimate] = {
    "C001": _brief("one step of a model of the paper's size"),
    "C002": _brief("some steps on 8 and on 16 TPU V4 chips"),
    "C003": _brief("some hundred steps of each task on the paper's hardware"),
    "C005": _pages(_VIT, "both optimizers, 3 runs"),
    "C006": _L_AND_H,
    "C007": _jft({"ViT-L/16, 14 epochs": 1, "ViT-H/14, 14 epochs": 1}, "one run each"),
    "C008": _jft({"ViT-L/16, 7 epochs": 1, "ViT-H/14, 14 epochs": 1}, "one run each"),
    "C009": _jft({"ViT-L/16, 14 epochs": 5}, "1M steps with Lion and 4M with AdamW"),
    "C010": _jft({"ViT-L/16, 14 epochs": 1}, "the Lion run; the other is prior work"),
    "C011": _pages({"vit_giant14_jft3b": 1, "vit_giant14_518_from_jft3b": 1},
                   f"the Lion run, {_PRIVATE}; the other is prior work"),
    "C012": _pages({"vit_gigantic14_jft3b": 2, "vit_gigantic14_518_from_jft3b": 2},
                   f"both optimizers, {_PRIVATE}"),
    "C013": _L_AND_H,
    "C014": _L_AND_H,
    "C015": _L_AND_H,
    "C016": _jft({"ViT-L/16, 14 epochs": 2}, "both optimizers"),
    "C017": _pages({"coatnet7_jft5b": 2, "basic_l": 2}, f"both optimizers, {_PRIVATE}"),
    "C018": _pages({"coatnet7_jft5b": 1, "basic_l": 1, "coatnet7_imagenet_from_basic_l": 1},
                   f"the Lion run, {_PRIVATE}; the other is prior work"),
    "C019": _LIT, "C020": _pages({"lit_b16_b": 2}, f"both optimizers, {_ASSUMED}"),
    "C021": _UNET, "C022": _UNET,
    "C023": _pages({"diffusion_imagenet64": 2, "diffusion_imagenet128": 2,
                    "diffusion_imagenet256": 2}, f"both optimizers, {_ASSUMED}"),
    "C024": _pages({"imagen_base64": 2}, f"both optimizers, {_ASSUMED}"),
    "C025": _pages({"imagen_sr256": 2}, f"both optimizers, {_ASSUMED}"),
    "C026": _language({336e6: 2}, _SMALL_LM, "both optimizers"),
    "C027": _language({336e6: 2}, _SMALL_LM, "both optimizers"),
    "C028": _language({731e6: 2}, _SMALL_LM, "both optimizers"),
    "C029": _language({110e6: 4, 336e6: 4, 731e6: 2}, _SMALL_LM, "all curves of the figure"),
    "C030": _LARGE_LM, "C031": _LARGE_LM, "C032": _LARGE_LM,
    "C033": _language({7.49e9: 1}, 300e9, "the Adafactor baseline"),
    "C034": _language({110e6: 2, 336e6: 2, 731e6: 2}, _SMALL_LM, "both optimizers"),
    "C035": _T5, "C036": _T5,
    "C037": _pages(_TEN, "ten optimizers, one run, settings known"),
    "C038": _pages(_TEN, "ten optimizers, one run, settings known"),
    "C039": _pages(_TEN, "ten optimizers, one run, settings known"),
    "C040": _pages(_TEN, "ten optimizers, one run, settings known"),
    "C041": _language({110e6: 3, 336e6: 3, 731e6: 3}, _SMALL_LM, "Lion and two ablations"),
    "C042": _pages({"vit_b16_imagenet": 3}, "AdamW, Lion and the ablation"),
    "C043": _jft({"ViT-B/16, 7 epochs": 3}, "AdamW, Lion and the ablation"),
    "C044": _pages({"vit_b16_imagenet_aug": 3}, "three values of beta"),
    "C046": _BATCHES, "C047": _BATCHES, "C048": _BATCHES, "C049": _BATCHES,
    "C050": _GRID, "C051": _GRID, "C052": _GRID,
    "C054": _language({336e6: 4}, _SMALL_LM, "two betas of each optimizer"),
    "C056": _pages({"vit_s16_imagenet": 6, "vit_b16_imagenet": 6}, "both optimizers, 3 runs"),
    "C057": _images_21k,
    "C058": _pages(_SCRATCH, "both optimizers, 3 runs"),
    "C059": _pages({"vit_s16_imagenet_aug": 6, "vit_b16_imagenet_aug": 6, "coatnet3_imagenet": 6},
                   "both optimizers, 3 runs"),
    "C060": _pages({"vit_s16_imagenet_aug": 6, "vit_b16_imagenet_aug": 6},
                   "both optimizers with the early recipes, 3 runs"),
    "C061": _pages({"resnet50_imagenet": 9}, "three optimizers, 3 runs"),
    "C062": _LANDSCAPE, "C063": _LANDSCAPE,
    "C065": _pages({"vit_b16_imagenet": 4}, "AdamW and Lion, each with and without"),
    "C066": _pages({"vit_b16_imagenet": 2}, "Lion with and without"),
    "C067": _unknown("needs the programs of the search"),
    "C069": _pages({"vit_b16_imagenet": 2}, "with one and with two buffers"),
    "C075": _SEARCH, "C076": _SEARCH, "C077": _SEARCH, "C078": _SEARCH, "C079": _SEARCH,
    "C080": _SEARCH,
    "C081": _unknown("the model is not named: prior work"),
    "C082": _pages(_SCRATCH, "both optimizers, 3 runs"),
    "C083": _LIT,
    "C084": _L_AND_H,
    "C085": _BATCHES,
    "C086": _L_AND_H,
}  # fmt: skip
"""Claim id -> how to estimate. Claims that no run can settle are not here."""
