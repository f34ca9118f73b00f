"""Blocks on studies of vit_proxy, claims and plans: small tables, text worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import known_truth
import pandas as pd
import pytest
import study_folder
from scipy import stats

from experiments.analysis.text_tables import ASKED, BLOCKS

FACTS = {"n": 10_000, "weight_decay": 0.1}
THEIRS = (80.0, 80.1, 80.2, 80.3, 80.4, 80.5)
GAINS = (0.10, 0.08, 0.12, 0.10, 0.08, 0.12)
EVEN = (0.3, -0.3, 0.2, -0.2, 0.1, -0.1)
GAIN = "+0.10 [0.08, 0.12]"
"""Of `GAINS`: mean 0.1, sd 0.0179, error 0.0073; times Student's 2.571: 0.0188."""
LOSS = "−0.010 [−0.012, −0.008]"
MEANS = {"adamw": "80.25 ± 0.08", "lion": "80.35 ± 0.08"}
"""Standard errors: sqrt(0.0350 / 6) and sqrt(0.0369 / 6)."""
P = float(stats.ttest_1samp(GAINS, 0).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def pair(gains: tuple[float, ...] = GAINS, **more: Any) -> list[dict[str, Any]]:
    """AdamW and Lion, one setting each, a tenth of the gain less test loss."""
    rows = []
    for seed, gain in enumerate(gains):
        for name, own, lr in (("adamw", 0.0, 1e-2), ("lion", gain, 1e-3)):
            test = {"test": THEIRS[seed] + own, "test_loss": 1 - own / 10}
            rows.append(known_truth.run(name, seed, 90.0, **{"lr": lr, **FACTS, **test, **more}))
    return rows


def grid(edge: str = "") -> list[dict[str, Any]]:
    """Two more rates of each that are worse on validation, and better on the test set."""
    rows = pair()
    for row in pair():
        for factor in (0.1, 0.01 if row["optimizer"] == edge else 10.0):
            other = row | {"lr": row["lr"] * factor, "val": 88.0, "test": 95.0 + row["seed"] / 10}
            rows.append(other | {"run_id": f"{row['run_id']}-{factor}"})
    return rows


def make(folder: Path, **studies: list[dict[str, Any]]) -> Path:
    return study_folder.make(folder, **studies)


def test_the_heatmap_says_its_picks_and_their_difference(tmp_path: Path) -> None:
    lines = BLOCKS["heatmap"](make(tmp_path, heatmap=grid())).splitlines()
    assert lines[0] == "|  | lr | weight decay | validation | test |"
    assert lines[2:] == [
        f"| AdamW | 0.01 | 0.1 | 90.00 | {MEANS['adamw']} |",
        f"| Lion | 0.001 | 0.1 | 90.00 | {MEANS['lion']} |",
        "",
        f"Lion − AdamW: {GAIN} points of test accuracy (Lion is ahead; the pairs correlate by "
        f"+1.00), {LOSS} nats of test loss (Lion is ahead).",
    ]


def test_a_pick_on_an_edge_is_said_and_not_compared(tmp_path: Path) -> None:
    results = make(tmp_path, heatmap=grid(edge="lion"), betas=grid(edge="lion"))
    text = BLOCKS["heatmap"](results)
    assert "points of test accuracy (not tuned; " in text
    assert text.endswith(" On the edge of its grid: Lion.")
    assert "| 0.9, 0.99 | 0.001 (edge: not tuned) | 90.00 |" in BLOCKS["betas"](results)


def test_batch_sizes_are_corrected_over_the_sizes(tmp_path: Path) -> None:
    rows = [*pair(batch_size=64), *pair(EVEN, batch_size=128), *pair(batch_size=256)]
    head, _, small, middle, large = BLOCKS["batch_size"](
        make(tmp_path, batch_size=rows)
    ).splitlines()
    assert head == (
        "| batch | Lion − AdamW, points [95 %] | p (Holm, all sizes) | by accuracy | in test "
        "loss, nats [95 %] |"
    )
    assert small == f"| 64 | {GAIN} | {3 * P:.2g} | Lion is ahead | {LOSS} |"
    assert middle.startswith("| 128 | +0.00 [−") and "| 1 | not shown |" in middle
    assert large == f"| 256 | {GAIN} | {3 * P:.2g} | Lion is ahead | {LOSS} |"


def test_single_betas_stand_first(tmp_path: Path) -> None:
    rows = [row for row in pair() if row["optimizer"] == "lion"]
    pairs = {(0.9, 0.99): 0.0, (0.99, 0.99): 1.0, (0.95, 0.98): 2.0, (0.9, 0.9): 3.0}
    arms = [
        row | {"beta1": one, "beta2": two, "val": 90 + more, "test": row["test"] - more,
               "run_id": f"{row['run_id']}{one}{two}"}
        for (one, two), more in pairs.items() for row in rows
    ]  # fmt: skip
    assert BLOCKS["betas"](make(tmp_path, betas=arms)).splitlines()[2:] == [
        "| 0.9, 0.9 | 0.001 | 93.00 | 77.35 ± 0.08 |",
        "| 0.99, 0.99 | 0.001 | 91.00 | 79.35 ± 0.08 |",
        "| 0.9, 0.99 | 0.001 | 90.00 | 80.35 ± 0.08 |",
        "| 0.95, 0.98 | 0.001 | 92.00 | 78.35 ± 0.08 |",
    ]


def test_all_optimizers_stand_in_order_and_lion_minus_each(tmp_path: Path) -> None:
    """SGD is AdamW with 2 points and 0.2 nats more."""
    more = [
        row | {"optimizer": "sgd", "test": row["test"] + 2, "test_loss": 1.2,
               "run_id": f"sgd{row['seed']}"}
        for row in pair() if row["optimizer"] == "adamw"
    ]  # fmt: skip
    text = BLOCKS["optimizers"](make(tmp_path, optimizers=pair() + more))
    head, _, sgd, lion, adamw = text.splitlines()
    assert head == (
        "|  | lr | weight decay | test | Lion − it, points [95 %] | verdict | in test loss, nats | "
        "by loss |"
    )
    assert sgd == (
        "| SGD | 0.01 | 0.1 | 82.25 ± 0.08 | −1.90 [−1.92, −1.88] | Lion is behind | "
        "−0.210 [−0.212, −0.208] | Lion is ahead |"
    )
    assert lion == f"| **Lion** | 0.001 | 0.1 | {MEANS['lion']} |  |  |  |  |"
    assert adamw == (
        f"| AdamW | 0.01 | 0.1 | {MEANS['adamw']} | {GAIN} | Lion is ahead | {LOSS} | "
        "Lion is ahead |"
    )


def put_proxies(results: Path, **tables: list[dict[str, Any]]) -> None:
    (results / "proxies").mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(results / "proxies" / f"{name}.csv", index=False)


def test_the_published_comparisons_and_what_each_shows(tmp_path: Path) -> None:
    results = tmp_path
    put_proxies(results, vit_proxy=pair(), fashion=pair(GAINS[:3]), resnet_proxy=pair())
    lines = BLOCKS["demo"](results).splitlines()
    tried = "optimizer | picked lr | weight decay | validation %"
    assert lines[0] == f"| {tried} | test %, mean ± s.e. | n |"
    assert lines[2:] == [
        f"| AdamW | 0.01 | 0.1 | 90.00 | {MEANS['adamw']} | 6 |",
        f"| Lion | 0.001 | 0.1 | 90.00 | {MEANS['lion']} | 6 |",
        "",
        f"Lion minus AdamW, each seed with what the others picked: {GAIN} points (95 %): "
        "**Lion is better**.",
    ]
    # three gains: sd 0.02, error 0.0115, times Student's 4.303: 0.0497
    head, _, *rows = BLOCKS["proxies"](results).splitlines()
    tested = "AdamW, test % | Lion, test % | Lion − AdamW, points [95 %]"
    assert head == f"| proxy | {tested} | in test loss, nats |  |"
    assert rows == [
        "| `fashion` | 80.10 ± 0.06 | 80.20 ± 0.06 | +0.10 [0.05, 0.15] | −0.010 [−0.015, −0.005] "
        "| not shown (3 seeds show nothing: it takes 4) |",
        f"| `resnet_proxy` | {MEANS['adamw']} | {MEANS['lion']} | {GAIN} | {LOSS} | "
        "Lion is ahead |",
    ]
    bare = [{key: v for key, v in row.items() if key != "test_loss"} for row in pair(EVEN)]
    put_proxies(results, vit_proxy=bare, resnet_proxy=bare)
    assert "**no difference is shown**" in BLOCKS["demo"](results)
    heads, _, _, row = BLOCKS["proxies"](results).splitlines()
    assert "test loss" not in heads and row.count(" | ") == 4 and row.endswith("| not shown |")


@pytest.mark.parametrize(
    ("facts", "answer"),
    [
        ({"verdict": "supported"}, "**Yes.** gain: 1.23 [0.5, 2] points, n = 6"),
        ({"verdict": "contradicted", "estimate": -1.5, "low": -2.0, "high": -1.0},
         "**No.** gain: −1.5 [−2, −1] points, n = 6"),
        ({"verdict": "inconclusive"}, "**Not shown.** gain: 1.23 [0.5, 2] points, n = 6"),
        ({"verdict": "inconclusive", "unit": "x", "low": 1.1}, "**Yes.** gain: 1.23 [1.1, 2] x"),
        ({"verdict": "supported", "unit": "x", "low": 1.0}, "**Not shown.** gain"),
        ({"verdict": "inconclusive", "unit": "x", "low": 0.1, "high": 0.9}, "**No.** gain"),
        ({"verdict": "inconclusive", "unit": "nats",
          "note": "one; under noise of sigma 0.1, AdamW - Lion: -1 [-2, -0.5]"},
         "**The two contradict, at the settings found.** gain: 1.23 [0.5, 2] nats, n = 6; "
         "under noise of sigma 0.1, AdamW − Lion: −1 [−2, −0.5]"),
        ({"verdict": "not run"}, ""),
    ],
)  # fmt: skip
def test_the_main_questions_have_the_answers_of_the_claims(
    tmp_path: Path, facts: dict[str, Any], answer: str
) -> None:
    usual = {"verdict": "not run", "measure": "gain", "estimate": 1.234, "low": 0.5, "high": 2.0,
             "n": 6, "unit": "points", "note": ""}  # fmt: skip
    rows = [
        {"claim_id": name}
        | {f"proxy_{key}": v for key, v in (usual | (facts if name == "C005" else {})).items()}
        for name, *_ in ASKED
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "claims.csv", index=False)
    lines = BLOCKS["short"](tmp_path).splitlines()[2:]
    assert len(lines) == bool(answer)
    if answer:
        assert lines[0].startswith(f"| Is tuned Lion better than tuned AdamW? | {answer}")
        assert lines[0].endswith(" | ViT-B/16: +1.96 | C005 |")


def test_sharded_plans_in_units_for_people(tmp_path: Path) -> None:
    assert "not run yet" in BLOCKS["sharded"](tmp_path)
    plan = {"experiment": "lm_7b", "params_total": 7.49e9, "devices": 1024, "micro_batch_size": 2,
            "ddp_bytes": 119.84e9, "hsdp_bytes": 20.06e9, "fsdp_bytes": 5.0e9,
            "checkpoint_bytes": 89.96e9, "days": 12.345}  # fmt: skip
    plans = [plan | {"optimizer": name} for name in ("adamw", "adafactor", "lion_int8")]
    pd.DataFrame(plans).to_csv(tmp_path / "plan_sharded.csv", index=False)
    numbers = "1,024 | 2 | 119.8 | 20.1 | 5.0 | 90.0 | 12.3 |"
    head, _, *rows = BLOCKS["sharded"](tmp_path).splitlines()
    assert head == (
        "| page | optimizer | GPUs | micro-batch | `ddp`, GB | `hsdp`, GB | `fsdp`, GB | "
        "checkpoint, GB | days |"
    )
    assert rows == [
        f"| `lm_7b` (7.5 B) | AdamW | {numbers}",
        f"| `lm_7b` (7.5 B) | Lion, int8 momentum | {numbers}",
    ]


def test_a_tie_that_turns_a_verdict_is_said_in_points_and_in_nats(tmp_path: Path) -> None:
    """AdamW's second of two equals: a point above the first, and 0.2 nats below."""
    rows = pair()
    for lr, val, more in ((1e-3, 80.0, 0.0), (2e-2, 90.0, 1.0), (1e-1, 80.0, 0.0)):
        rows += [
            row | {"lr": lr, "val": val, "test": row["test"] + more, "test_loss": 1 - more / 5,
                   "run_id": f"{row['run_id']}-{lr}"}
            for row in pair() if row["optimizer"] == "adamw"
        ]  # fmt: skip
    *_, remark, _, points, _, nats = BLOCKS["optimizers"](
        make(tmp_path, optimizers=rows)
    ).splitlines()
    assert remark.startswith("Picks with a remark: AdamW is tied with lr 0.02, ")
    said = "Of settings that are equally good on validation the first in order is taken; "
    said += "with another of them: AdamW"
    assert points == f"{said} −0.90 [−0.92, −0.88] points, Lion is behind."
    assert nats == f"{said} +0.190 [0.188, 0.192] nats of test loss, Lion is behind."
    alone = tmp_path / "alone"
    alone.mkdir()
    text = BLOCKS["heatmap"](make(alone, heatmap=rows))
    assert text.endswith("with another of them: −0.90 [−0.92, −0.88], Lion is behind.")
