"""What the heads of proxies' pages say of them is what the committed tables say."""

from __future__ import annotations

import pandas as pd
import pytest
from plain_numbers import ROOT, SETTING, STUDIES, runs_of


def head(page: str) -> str:
    lines = (ROOT / "conf" / f"{page}.yaml").read_text().splitlines()
    return " ".join(line.removeprefix("# ") for line in lines if line.startswith("# "))


@pytest.mark.parametrize(("page", "longest"), [("lm_proxy", 3), ("mlm_proxy", 2)])
def test_what_counting_gets_on_the_test_text(page: str, longest: int) -> None:
    """The targets beside it are of that text, too."""
    table = pd.read_csv(STUDIES / "lm_proxy" / "kjv_entropies.csv").query("split == 'test'")
    nats = [f"{value:.2f}" for value in table.sort_values("n").nats[:longest]]
    said = head(f"experiment/{page}")
    if page == "lm_proxy":
        one, two, three = nats
        assert (
            f"counting gets {one} nats a character (single ones), {two} (pairs) and {three} (t"
            in said
        )
    else:
        assert f"frequency gives {nats[0]} nats, the one before it {nats[1]}:" in said
    fresh = runs_of(f"{page}/fresh").groupby("optimizer").test.mean()
    assert f"AdamW {fresh.adamw:.3f}, Lion {fresh.lion:.3f} nats" in said


def test_how_widely_seeds_of_the_mixer_spread() -> None:
    runs = pd.read_csv(ROOT / "results" / "proxies" / "mixer_proxy.csv")
    spread = runs.groupby(["optimizer", *SETTING[:2]]).test.std()
    said = f"standard deviations of {spread.min():.0f} to {spread.max():.0f} points"
    assert said in head("experiment/mixer_proxy")


@pytest.mark.parametrize(
    ("page", "study", "text"),
    [("batch_size_signals", "vit_signals_proxy/batch_size", "{least} steps at the largest batch"),
     ("contrastive_batch_size", "lit_proxy/batch_size", "pairs, {most:,} to {least} steps")],
)  # fmt: skip
def test_steps_at_each_batch_size(page: str, study: str, text: str) -> None:
    steps = runs_of(study).groupby("batch_size").steps.max()
    said = text.format(least=steps.iloc[-1], most=steps.iloc[0])
    assert said in head(f"sweep/{page}")
