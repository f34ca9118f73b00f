"""scripts/noise_gains.py: walks on made-up noise go as the formula says; runs are not touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import runner
from experiments.analysis import step_sizes
from experiments.analysis.noise_gains import gain, walked_by_noise
from experiments.compose import compose
from scripts import noise_gains as script


@pytest.fixture(scope="module")
def walks() -> dict[float, script.Walks]:
    """By the mean over the deviation of a normal gradient: 3,000 steps."""
    found = {}
    for mean in (0.0, 2.0):
        draws = torch.Generator().manual_seed(3)
        found[mean] = script.Walks((0.9, 0.999), 1e-8, 3000)
        for _ in range(3000):
            found[mean].step(torch.randn(600, generator=draws) + mean)
    return found


@pytest.fixture(scope="module")
def walked(walks: dict[float, script.Walks]) -> dict[float, pd.DataFrame]:
    return {mean: pd.DataFrame(of.rows()) for mean, of in walks.items()}


@pytest.mark.parametrize("betas", script.LIONS)
def test_noise_is_walked_as_the_formula_says_and_a_mean_by_the_learning_rate(
    walked: dict[float, pd.DataFrame], betas: tuple[float, float]
) -> None:
    def of(mean: float, window: int) -> float:
        rows = walked[mean][walked[mean].third == 3]
        mine = (rows.lion_beta1 == betas[0]) & (rows.lion_beta2 == betas[1])
        return float(rows.loc[mine & (rows.window == window), "gain"].iloc[0])

    for window in (1, 10, 100, 1000):
        by_hand = walked_by_noise(*betas, window)
        assert of(0.0, window) == pytest.approx(by_hand, rel=0.01 if window == 1 else 0.1)
    assert of(2.0, 1000) == pytest.approx(1.12, rel=0.05)  # E g / sqrt(E g^2) = 2 / sqrt(5)


def test_the_parts_of_the_formula_are_measured(walks: dict[float, script.Walks]) -> None:
    """Of normal noise they give G again; where the mean rules nothing lies near 0."""
    for mean, walk in walks.items():
        rows = pd.DataFrame(walk.rows_of_parts())
        assert list(rows.third) == [1] * 4 + [2] * 4 + [3] * 4
        for row in rows[rows.third == 3].itertuples():
            if mean:
                assert row.expected < 0.6 and (row.lion_beta1 == 0 or row.expected == 0)
                continue
            of_normal = gain(row.lion_beta1, row.lion_beta2)
            assert row.density == pytest.approx(0.798, rel=0.08)
            assert row.smaller == pytest.approx(of_normal / 0.79788, rel=0.1)
            assert row.expected == pytest.approx(of_normal, rel=0.1)


def test_heavy_tails_give_more_and_what_never_moves_nothing() -> None:
    torch.manual_seed(0)
    walk = script.Walks((0.9, 0.999), 1e-8, 1500)
    tails = torch.distributions.StudentT(3.0)
    for _ in range(1500):
        walk.step(torch.cat([tails.sample((300,)), torch.zeros(300)]))
    rows = pd.DataFrame(walk.rows_of_parts())
    own = rows[(rows.third == 3) & (rows.lion_beta2 == 0.99) & (rows.lion_beta1 == 0.9)].iloc[0]
    assert 1.1 * gain(0.9, 0.99) < own.expected * 2**0.5 < 1.5 * gain(0.9, 0.99)


def test_gain_is_that_of_signs_alone_and_of_one_average() -> None:
    assert gain(0.0, 0.5) == pytest.approx(0.79788, abs=1e-5)  # sqrt(2 / pi)
    assert gain(0.9, 0.9) == pytest.approx(gain(0.0, 0.5) * (1.9 / 0.1) ** 0.5)
    assert gain(0.9, 0.99) == pytest.approx(6.7265, abs=1e-4)
    for betas in script.LIONS[1:]:  # long walks come near it; those of signs alone go by their size
        assert walked_by_noise(*betas, 100_000) == pytest.approx(gain(*betas), rel=0.05)
    assert walked_by_noise(0.0, 0.5, 100_000) == pytest.approx(1.0, abs=1e-3)
    assert walked_by_noise(0.9, 0.9, 1) == pytest.approx((1.9 / 0.1) ** 0.5)


@pytest.mark.parametrize("betas", script.LIONS)
def test_noise_is_walked_by_the_weights_of_past_gradients(betas: tuple[float, float]) -> None:
    """The sum of all pairs of signs in a window, from the weights that two steps have in common."""
    (beta1, beta2), window = betas, 7
    ages = np.arange(6000)
    weights = beta1 * (1 - beta2) * beta2 ** np.maximum(ages - 1.0, 0)
    weights[0] = 1 - beta1
    shared = [weights[: len(ages) - lag] @ weights[lag:] for lag in range(window)]
    signs = 2 / np.pi * np.arcsin(np.array(shared) / shared[0])
    walked = sum(signs[abs(a - b)] for a in range(window) for b in range(window)) ** 0.5
    adamw = sum(0.1 / 1.9 * 0.9 ** abs(a - b) for a in range(window) for b in range(window)) ** 0.5
    assert walked_by_noise(*betas, window) == pytest.approx(walked / adamw, rel=1e-9)


def test_windows_of_a_run_are_counted_by_its_thirds() -> None:
    walks = script.Walks((0.9, 0.999), 1e-8, 30)
    for _ in range(30):
        walks.step(torch.ones(2))
    rows = pd.DataFrame(walks.rows())
    assert set(rows.window) == {1, 10}
    assert rows.groupby(["third", "window"]).windows.first().tolist() == [10, 1, 10, 1, 10, 1]
    assert rows[rows.window == 10].adamw_walked.tolist() == pytest.approx([10.0] * 12)


def test_a_run_is_measured_beside_itself_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "experiment=mlp_proxy optimizer=lion train.epochs=null train.steps=30 data.num_train=200"
    )
    alone = runner.run(compose([*words.split(), f"results_dir={tmp_path / 'alone'}"]))
    row = {"experiment": "mlp_proxy", "optimizer": "lion", "run_id": alone.run_id}
    rows = [{**row, "steps": 30, "command": f"python run.py {words}"}]
    monkeypatch.setattr(step_sizes, "wanted", lambda: pd.DataFrame(rows))
    results, train = [], runner.run
    monkeypatch.setattr(runner, "run", lambda config: results.append(train(config)) or results[-1])
    assert script.main(["--out", str(tmp_path)]) == 0
    assert results[0].run_id == alone.run_id
    values = [[row["value"] for row in outcome.results] for outcome in (alone, *results)]
    assert values[0] == values[1], "a run does not notice"
    path = tmp_path / "mlp_proxy/noise_gains/windows.csv"
    parts, table = pd.read_csv(path.with_name("parts.csv")), pd.read_csv(path)
    assert len(parts) == 3 * len(script.LIONS) and set(parts.run_id) == {alone.run_id}
    assert len(table) == 3 * 2 * len(script.LIONS) and set(table.run_id) == {alone.run_id}
    assert (table[table.window == 1].lion_walked.round(6) == 1).all(), "every step has a sign"
    before = path.read_bytes()
    assert script.main(["--out", str(tmp_path)]) == 0
    assert len(results) == 1 and path.read_bytes() == before


def test_without_studies_there_is_nothing_to_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step_sizes, "wanted", pd.DataFrame)
    assert script.main(["--out", str(tmp_path)]) == 2
    assert "no study" in capsys.readouterr().err
