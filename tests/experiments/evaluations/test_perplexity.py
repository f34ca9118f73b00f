"""Perplexities that are no numbers, and the runs that end with them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import texts
import tiny
import torch

from experiments import runner
from experiments.distributed import World
from experiments.evaluations.perplexity import TokenTally


@pytest.mark.parametrize("case", ["causal", "masked"])
def test_a_run_whose_last_evaluation_is_no_number_has_diverged(tmp_path: Path, case: str) -> None:
    """Its losses were numbers: the last step alone broke it. It ends as diverged, not as failed."""

    def end_after(steps: int) -> runner.Outcome:
        sizes = {"train__epochs": None, "train__steps": steps, "train__batch_size": 8}
        often = {"eval__every_epochs": None, "eval__every_steps": 1, "train__ema_decay": None}
        changes = {**texts.sections(case), **sizes, **often, "optimizer__lr": 1e30}
        return runner.run(tiny.config(tmp_path, **changes))

    found, later = end_after(1), end_after(2)
    assert (found.state, found.step) == ("diverged", 1) and "loss is not finite" in found.message
    assert later.state == "diverged" and "the loss of step 2" in later.message
    rows = {(row["split"], row["metric"]): row for row in found.results}
    for metric in ("loss", "perplexity"):
        assert math.isnan(rows["val", metric]["value"]) and rows["val", metric]["error"] is None


@pytest.mark.parametrize(
    ("nats", "perplexity"),
    [(1.0, math.e), (1000.0, math.inf), (math.inf, math.inf), (math.nan, math.nan)],
)
def test_a_perplexity_beyond_all_numbers_is_infinite(nats: float, perplexity: float) -> None:
    tally = TokenTally(World(0, 1, torch.device("cpu")))
    tally.add(torch.tensor([[nats], [nats]]), torch.ones(2, 1, dtype=torch.bool))
    loss, found = tally.measurements("val")
    assert found.value == pytest.approx(perplexity, nan_ok=True)
    assert loss.error is not None
    assert math.isnan(loss.error) == (not math.isfinite(nats))  # 0 would claim certainty


def test_one_window_alone_does_not_tell_how_sure_it_is() -> None:
    """However many tokens it has; one of which nothing is scored is no second."""
    tally = TokenTally(World(0, 1, torch.device("cpu")))
    tally.add(torch.tensor([[1.0, 3.0], [9.0, 9.0]]), torch.tensor([[True, True], [False, False]]))
    for found in tally.measurements("val", num_words=1):
        assert math.isfinite(found.value) and found.error is not None and math.isnan(found.error)
    tally.add(torch.tensor([[1.0]]), torch.tensor([[True]]))
    assert all((one.error or 0) > 0 for one in tally.measurements("val"))


def test_windows_of_one_batch_are_windows_of_several() -> None:
    losses = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    scored = torch.tensor([[True] * 3, [True, True, False], [False] * 3, [True, False, False]])
    found = []
    for size in (1, 2, 4):
        tally = TokenTally(World(0, 1, torch.device("cpu")))
        for rows in zip(losses.split(size), scored.split(size), strict=True):
            tally.add(*rows)
        found.append([(one.value, one.error, one.n) for one in tally.measurements("val", 5)])
    for one in found[1:]:
        assert one == [pytest.approx(row) for row in found[0]]


def test_tokens_weigh_alike_and_windows_are_independent_by_hand() -> None:
    """Of two processes that have the same; what is not scored may be anything."""
    double = SimpleNamespace(device=torch.device("cpu"), sum=lambda sums: sums.mul_(2))
    tally = TokenTally(double)  # type: ignore[arg-type]
    tally.add(torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3, dtype=torch.bool))
    tally.add(torch.tensor([[7.0, math.nan, 1e9]]), torch.tensor([[True, False, False]]))
    loss = 13 / 4
    away = [6 - 3 * loss, 7 - loss]  # of each window's nats from what its tokens let expect
    error = math.sqrt(2 * sum(value**2 for value in away)) / 8
    for _ in range(2):  # asking changes nothing
        found = {one.metric: one for one in tally.measurements("val", num_words=5)}
        assert (found["loss"].value, found["loss"].n) == (loss, 8)
        assert found["loss"].error == pytest.approx(error)
        assert found["perplexity"].error == pytest.approx(math.exp(loss) * error)
        words = found["loss_per_word"]
        assert (words.value, words.n) == (26 / 5, 5) and words.error == pytest.approx(error * 8 / 5)
    assert [one.metric for one in tally.measurements("val", num_words=0)] == ["loss", "perplexity"]
    empty = TokenTally(double)  # type: ignore[arg-type]
    assert list(empty.measurements("val")) == []
