"""Where each rule draws its line, which way it points, and the numbers that it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.doctor import __main__ as command
from experiments.doctor import readers, rules, sweep_rules
from experiments.doctor.evidence import Evidence, Finding
from experiments.headline import Headline


def found(settings: dict[str, Any], **series: Any) -> list[Finding]:
    """Of a run of Lion; a series is a list of values, at steps 10, 20, 30, ..."""
    baseline = settings.pop("baseline", {})
    resumed = settings.pop("resumed_at", [])
    run = Evidence("", {"optimizer": "Lion", **settings}, baseline, resumed_at=resumed)
    for name, values in series.items():
        steps = range(10, 10 * len(values) + 1, 10)
        run.series[name.replace("__", "/")] = list(zip(steps, values, strict=True))
    return rules.examine(run)


SWITCH = {"lr": 1e-4, "weight_decay": 1.0, "baseline": {"lr": 1e-3, "weight_decay": 0.1}}


@pytest.mark.parametrize(
    "changes, evidence, remedy",
    [
        (
            {"weight_decay": 0.1},
            "0.0001 x 0.1 = 1e-05, the baseline's 0.001 x 0.1 = 0.0001: 0.1 times as strong",
            "try weight_decay=1 at this lr",
        ),
        ({"weight_decay": 5.5}, "0.00055, .* 0.0001: 5.5 times as strong", "weight_decay=1 at"),
        ({"weight_decay": 4.9}, "", ""),
        ({"weight_decay": 0.19}, ": 0.19 times as strong", "weight_decay=1 at"),
        ({"weight_decay": 0.21}, "", ""),
    ],
)
def test_the_decay_that_is_kept(changes: dict[str, Any], evidence: str, remedy: str) -> None:
    check(found({**SWITCH, **changes}), evidence, remedy)


def check(findings: list[Finding], evidence: str, remedy: str = "") -> None:
    """That there is the one finding, or none where nothing is to be said."""
    assert len(findings) == bool(evidence), findings
    for one in findings:
        assert re.search(evidence.replace("(", r"\(").replace(")", r"\)"), one.evidence), (
            one.evidence
        )
        assert remedy in one.remedy, one.remedy


@pytest.mark.parametrize(
    "optimizer, ours, base, evidence",
    [
        ("lion", 0.5, 0.1, "the lr ends at 5e-05, 50% of its peak; the baseline's at 10%"),
        ("lion", 0.21, 0.1, "ends at 2.1e-05, 21%"),
        ("lion", 0.19, 0.1, ""),
        ("lion", 0.0009, 0.0, ""),
        ("adamw", 0.5, 0.1, ""),
    ],
)
def test_the_final_lr(optimizer: str, ours: float, base: float, evidence: str) -> None:
    baseline = {**SWITCH["baseline"], "final_fraction": base}
    settings = {**SWITCH, "optimizer": optimizer, "final_fraction": ours, "baseline": baseline}
    findings = [one for one in found(settings) if one.rule.startswith("final")]
    check(findings, evidence, f"end it at {1e-4 * base:.2g} (schedule.final_fraction={base:.2g})")


RISE = [2.0, 1.5, 2.6, 2.1, 2.0, 1.9, 1.8]


@pytest.mark.parametrize(
    "losses, warmup, evidence",
    [
        (RISE, 5, "warm-up 5 of 700 steps; the loss rises from 2 to 2.6 in the first tenth"),
        (RISE, None, "^the loss rises from 2 to 2.6"),
        (RISE, 70, ""),  # a tenth already
        (RISE, 69, "warm-up 69 of 700"),
        ([2.0, 1.5, 2.3, 2.1, 2.0, 1.9, 1.8], 5, ""),  # against the beginning, not the least
        ([*[2.0] * 7, 9.0], 5, ""),  # later on
    ],
)
def test_a_rise_in_the_first_tenth(
    losses: list[float], warmup: float | None, evidence: str
) -> None:
    settings = {"total_steps": 700, "warmup_steps": warmup}
    check(found(settings, loss=losses), evidence, "try a warm-up of 70 steps, then a smaller lr")


@pytest.mark.parametrize(
    "optimizer, group, sizes, flips, evidence",
    [
        ("lion", "embeddings", [1, 2, 5], 0.2, "grew 5 times, from 1 to 5; only 20% of their"),
        ("lion", "scalars", [1, 2, 4.1], 0.29, "grew 4.1 times"),
        ("lion", "scalars", [1, 2, 3.9], 0.2, ""),
        ("lion", "scalars", [1, 2, 5], 0.31, ""),
        ("lion", "scalars", [2, 9, 1], 0.2, ""),  # shrinks
        ("lion", "decay", [1, 2, 5], 0.2, ""),
        ("adamw", "scalars", [1, 2, 5], 0.2, ""),
    ],
)
def test_a_drift(
    optimizer: str, group: str, sizes: list[float], flips: float, evidence: str
) -> None:
    series = {f"weight_rms__{group}": sizes, f"sign_flips__{group}": [flips] * 3}
    check(found({"optimizer": optimizer}, **series), evidence)


@pytest.mark.parametrize(
    "dtype, shares, evidence",
    [
        ("torch.float16", [0, 0, 0.6, 0.8], "^a step leaves as they were: 70% of decay$"),
        ("bfloat16", [0.51] * 4, "51% of decay"),
        ("bfloat16", [0.49] * 4, ""),
        ("bfloat16", [1, 1, 0.1, 0.1], ""),  # at first only
        ("float32", [1.0] * 4, ""),
    ],
)
def test_weights_that_are_rounded_back(dtype: str, shares: list[float], evidence: str) -> None:
    check(found({"param_dtype": dtype}, zero_updates__decay=shares), evidence)


@pytest.mark.parametrize(
    "series, evidence",
    [
        ({"grad_norm": [2, 3, 4, 5, 9]}, "^100% of the steps are clipped at norm 1; typical .* 4$"),
        ({"grad_norm": [2, 3, 4, 5]}, ""),  # too few
        ({"grad_norm": [0.5, 2, 3, 4, 5, 6]}, ""),
        ({"clip_share": [0.91] * 4}, "91% of the steps"),
        ({"clip_share": [0.89] * 4}, ""),
    ],
)
def test_clipping(series: dict[str, list[float]], evidence: str) -> None:
    check(found({"grad_clip_norm": 1.0}, **series), evidence)


@pytest.mark.parametrize(
    "momenta, evidence",
    [
        ([9, 9, 1, 1, 1, 0.25], "^resumed at step 50: the momentum of decay falls to 25%$"),
        ([9, 9, 1, 1, 1, 0.35], ""),  # against what it was just before
        ([1, 1, 1, 1, 1], ""),
    ],
)
def test_a_momentum_that_is_lost(momenta: list[float], evidence: str) -> None:
    settings = {"resumed_at": [50.0]}
    check(found(settings, momentum_rms__decay=momenta), evidence, "optimizer.state_dict()")


@pytest.mark.parametrize(
    "group, decay, size, rates, evidence",
    [
        ("no_decay", 0.1, 2.0, "lr/no_decay", "^updates have an RMS of 2.00 lr (no_decay);"),
        ("no_decay", 0.1, 1.7, "lr", "1.70 lr (no_decay)"),
        ("no_decay", 0.1, 1.5, "lr", ""),
        ("no_decay", 0.1, 2.5, "lr", ""),
        ("decay", 0.1, 2.0, "lr/no_decay", ""),  # its decay is in the update
        ("decay", 0.0, 2.0, "lr/no_decay", "2.00 lr (decay)"),
    ],
)
def test_an_update_of_twice_the_lr(
    group: str, decay: float, size: float, rates: str, evidence: str
) -> None:
    series = {f"update_rms__{group}": [size * 0.5] * 4, rates: [0.5] * 4}
    check(found({"weight_decay": decay}, **series), evidence, "a second optimizer.step()")


def grid(optimizer: str, vals: dict[float, float], seeds: int = 2, **more: Any) -> pd.DataFrame:
    """A row for each learning rate and seed."""
    rows = [
        {"optimizer": optimizer, "lr": lr, "seed": seed, "state": "finished", "val": val, **more}
        for lr, val in vals.items()
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


MIDDLE = {1.0: 1.0, 2.0: 3.0, 3.0: 2.0}
HIGHER = Headline("val", "higher", "%")


def examined(*parts: pd.DataFrame, headline: Headline = HIGHER) -> list[str]:
    found = sweep_rules.examine(pd.concat(parts, ignore_index=True), headline)
    return [one.evidence for one in found]


def test_a_budget_is_settings_not_runs() -> None:
    assert not examined(grid("lion", MIDDLE, seeds=4), grid("adamw", MIDDLE))
    both = [grid("lion", MIDDLE, data=name) for name in ("a", "b")]
    alone = grid("adamw", MIDDLE, data="a")
    assert examined(*both, alone) == ["settings tried: adamw 3, lion 6"]


def test_betas_have_no_edge_and_picks_among_other_runs_are_no_reason_to_be_silent() -> None:
    betas = pd.concat([grid("lion", {1.0: val}, beta1=b) for b, val in ((0.8, 1), (0.9, 2))])
    assert not examined(betas)
    rising = grid("lion", {1.0: 1.0, 2.0: 2.0, 3.0: 3.0}, sweep="a")
    fresh = grid("adamw", MIDDLE, sweep="a-fresh")
    assert examined(rising, fresh) == ["lion: lr 3 wins, at the end of lr"]


def test_the_direction_that_is_told_counts(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    grid("lion", {1.0: 1.0, 2.0: 3.0, 3.0: 5.0}).to_csv(path, index=False)
    ends = {
        better: command.findings(path, {"better": better}, {})[0].evidence
        for better in ("higher", "lower")
    }
    assert "lr 3 wins" in ends["higher"] and "lr 1 wins" in ends["lower"]


def test_what_a_configuration_says() -> None:
    plain = {"optimizer": {"lr": 1e-3}, "train": {"steps": 200, "param_dtype": "bfloat16"}}
    schedule = {"name": "constant", "warmup_fraction": 0.1}
    found = readers.settings_of({**plain, "schedule": schedule})
    assert (found["final_fraction"], found["warmup_steps"]) == (1.0, 20)
    assert found["param_dtype"] == "bfloat16"
    cosine = {"name": "cosine", "warmup_steps": 7, "warmup_fraction": 0.1, "final_fraction": 0.2}
    found = readers.settings_of({**plain, "schedule": cosine})
    assert (found["final_fraction"], found["warmup_steps"]) == (0.2, 7)


def test_of_several_losses_the_one_of_training_is_looked_at(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("step,loss,train/loss,telemetry/grad_norm,grad_norm\n1,5,2,7,8\n2,5,nan,7,8\n")
    run = readers.read(log)
    assert run.values("loss") == [2.0] and run.values("grad_norm") == [7.0, 7.0]
