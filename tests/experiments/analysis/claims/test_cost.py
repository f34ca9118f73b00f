"""What the paper's claims would cost: each amount is the arithmetic that stands beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.analysis.claims.cost import COSTS, Cost
from experiments.analysis.claims.evidence import Evidence
from experiments.analysis.claims.paper_tables import Tables

ROOT = Path(__file__).resolve().parents[4]
FLOPS = 124.8e12 * 3600
"""Of an A100 in an hour, at 40 % of 312 TFLOP/s."""
BUDGETS = {"ViT-B/16, 7 epochs": 227, "ViT-L/16, 7 epochs": 783, "ViT-L/16, 14 epochs": 1569,
           "ViT-H/14, 14 epochs": 4262}  # fmt: skip
"""ExaFLOPs, read off the paper's figure."""
RUNS = {
    "one run": 1, "one run each": 1, "the Adafactor baseline": 1, "the Lion run": 1,
    "both optimizers": 2, "one run of each optimizer": 2, "Lion with and without": 2,
    "with one and with two buffers": 2, "three values of beta": 3, "Lion and two ablations": 3,
    "AdamW, Lion and the ablation": 3, "two betas of each optimizer": 4,
    "AdamW and Lion, each with and without": 4, "1M steps with Lion and 4M with AdamW": 5,
    "both optimizers, 3 runs": 6, "both optimizers with the early recipes, 3 runs": 6,
    "three optimizers, 3 runs": 9, "ten optimizers, one run": 10,
    "6 batch sizes, both optimizers": 12, "the two 3 x 3 grids": 18,
}  # fmt: skip
"""How many runs of each model a reason asks for."""
MIXED = {"C029": [4, 4, 2]}
"""The figure has four curves of two models and two of a third."""


@pytest.fixture(scope="module")
def costs() -> dict[str, Cost]:
    evidence, tables = Evidence(ROOT), Tables(ROOT / "results" / "paper")
    return {name: estimate(evidence, tables) for name, estimate in COSTS.items()}


def test_costs_by_hand(costs: dict[str, Cost]) -> None:
    assert costs["C005"].amount == pytest.approx(6 * 90.2)
    assert costs["C008"].amount == pytest.approx((783 + 4262) * 1e18 / FLOPS)
    assert costs["C028"].amount == pytest.approx(2 * 6 * 731e6 * 262144 * 125000 / FLOPS)
    images = 3 * 35.13e9 * 280_000 * 4096  # ViT-L takes 783 / 227 times ViT-B's
    assert costs["C057"].amount == pytest.approx(2 * images * (1 + 783 / 227) / FLOPS)
    assert (str(costs["C079"]), str(costs["C067"])) == ("72,000 TPU-V2-hours", "unknown")
    assert costs["C021"].amount == 2 * 30_600, "a thousand has a comma on the page"
    assert (str(costs["C001"]), str(costs["C050"])) == ("minutes", "1,624 A100-hours")


def test_each_amount_is_that_of_the_runs_named_beside_it(costs: dict[str, Cost]) -> None:
    told = 0
    for name, cost in costs.items():
        if cost.unit != "A100-hours" or name == "C057":
            continue
        why, runs = re.fullmatch(r"(.*?): (\d+ x .*)", cost.basis).groups()  # type: ignore[union-attr]
        if "exaFLOP" in runs:
            found = re.findall(r"(\d+) x (ViT-\S+ \d+ epochs)", runs)
            hours = sum(int(number) * BUDGETS[model] * 1e18 / FLOPS for number, model in found)
            assert f"; {hours * FLOPS / 1e18:,.0f} exaFLOP" in runs
        elif "tokens" in runs:
            found = re.findall(r"(\d+) x ([\d,]+) M", runs)
            tokens = float(re.findall(r"parameters x (\S+) tokens", runs)[0])
            weights = sum(int(number) * float(size.replace(",", "")) for number, size in found)
            hours = 6 * weights * 1e6 * tokens / FLOPS
        else:
            found = re.findall(r"(\d+) x (\S+) \((\w+)\)", runs)
            hours = sum(int(number) * float(each.replace(",", "")) for number, each, _ in found)
            for _, each, page in found:
                header = (ROOT / "conf" / "experiment" / f"{page}.yaml").read_text()
                assert f"Cost (estimate): {each} A100-hours a run" in header
        assert cost.amount == pytest.approx(hours, rel=2e-3), name
        reason = re.split(r", settings known|; the other|, then|, of the size|, whose data", why)[0]
        wanted = MIXED.get(name) or [RUNS[reason]] * len(found)
        assert [int(one[0]) for one in found] == wanted, (name, why)
        told += 1
    assert told > 40


def test_a_page_without_an_estimate_has_no_cost(tmp_path: Path) -> None:
    page = tmp_path / "conf" / "experiment" / "vit_b16_imagenet.yaml"
    page.parent.mkdir(parents=True)
    page.write_text("# no header\n")
    cost = COSTS["C005"](Evidence(tmp_path), Tables(tmp_path))
    assert (cost.amount, str(cost)) == (None, "unknown")
    assert cost.basis == "the header of vit_b16_imagenet has no estimate"


@pytest.mark.parametrize(
    ("amount", "text"),
    [(3.26, "3"), (0.0321, "0.03"), (9.6, "10"), (10.0, "10"), (1234.5, "1,234")],
)
def test_an_amount_in_words(amount: float, text: str) -> None:
    assert str(Cost(amount, "A100-hours", "")) == f"{text} A100-hours"
