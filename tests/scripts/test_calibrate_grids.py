"""The luck that tuning is taken to add is enough for the designs of the committed studies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scripts import calibrate_grids, calibrate_worlds
from scripts.calibrate_grids import Design


@pytest.fixture(scope="module")
def committed() -> pd.DataFrame:
    return pd.read_csv(calibrate_grids.OUT)


def test_equal_optimizers_rarely_come_out_as_different(committed: pd.DataFrame) -> None:
    assert len(committed) == len(calibrate_grids.DESIGNS) * len(calibrate_grids.WORLDS)
    wide = committed.filter(regex=r"of_optimizers_\d+_percent").to_numpy()
    grids = committed[committed.num_weight_decays > 1]
    bare = grids.filter(regex=r"at_settings_\d+_percent").to_numpy()
    assert wide.max() < 4 and bare.min() > 9


def test_the_committed_table_is_of_this_program(committed: pd.DataFrame) -> None:
    rows = committed[(committed.world == "made up") & (committed.num_lrs == 5)]
    (row,) = rows[(rows.num_weight_decays == 5) & (rows.num_seeds == 3)].to_dict("records")
    found = calibrate_grids.measure("made up", Design(5, 5, 3), 200)
    for name in ("at_settings_17", "of_optimizers_17"):
        error = np.hypot(found[f"{name}_error"], row[f"{name}_error"])
        assert abs(found[f"{name}_percent"] - row[f"{name}_percent"]) < 4 * error


def test_other_spacings_of_the_committed_studies_ask_for_no_more_luck() -> None:
    for factors in ((2.5, 5.0), (2.0, 10 / 3)):
        found = calibrate_grids.measure("made up", Design(5, 5, 1), 200, factors)
        shares = [found[f"of_optimizers_{n}_percent"] for n in calibrate_grids.FRESH]
        assert max(shares) < 5 and found["at_settings_17_percent"] > 20


def test_more_tuning_seeds_pick_better_and_no_pick_lies_on_an_edge() -> None:
    rng = np.random.default_rng(0)
    users = [calibrate_worlds.draw_user(rng, calibrate_worlds.WORLD) for _ in range(200)]
    surfaces = [replace(user.surfaces["lion"], crash=0.0) for user in users]
    regrets = []
    for seeds in (1, 25):
        picks = [calibrate_grids.pick(one, Design(5, 5, seeds), rng) for one in surfaces]
        regrets.append(np.mean([regret for regret in picks if regret is not None]))
    assert regrets[1] < 0.8 * regrets[0]
    assert calibrate_grids.pick(surfaces[0], Design(2, 2, 1), rng) is None
    along_lr = [calibrate_grids.pick(one, Design(6, 1, 25), rng) for one in surfaces[:20]]
    assert along_lr.count(None) < 10  # a weight decay that is given is no edge


def test_at_equal_settings_the_plain_interval_holds_what_it_says() -> None:
    rng = np.random.default_rng(0)
    shares = np.mean([calibrate_grids.finals([0.0, 0.0], 9, rng) for _ in range(200)], axis=0)
    assert shares[0] == pytest.approx(0.05, abs=0.015) and shares[1] < 0.01
