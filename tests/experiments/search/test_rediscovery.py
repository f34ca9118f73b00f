"""Milestones of a search: what counts as found again, and after how many trained programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.search import library, rediscovery, sightings
from experiments.search.evaluation import Tier
from experiments.search.folder import SearchFolder
from experiments.search.language import parse
from experiments.search.settings import SearchSettings
from experiments.search.sightings import Sighting

STARTS = Path(__file__).parents[3] / "conf" / "search" / "starts"
TINY = Tier(family="mlp", num_steps=10, lrs=(0.004,), reference=library.load("adamw_early").text())
WORSE = """
def train(w, g, m, v, lr):
  update = interp(g, m, 0.9)
  update = sign(update)
  m = interp(g, m, 0.99)
  far = w * -3000.0
  update = update + far
  update = update * lr
  return update, m, v
"""


def sighting(number: int, text: str) -> Sighting:
    return next(sightings.find([(number, parse(text))]))


def test_the_first_program_as_good_as_lion_is_found_and_a_worse_one_passed_over() -> None:
    lion = library.load("lion")
    found = [sighting(3, WORSE), sighting(9, lion.text())]
    assert rediscovery.first_as_good(found[:1], lion, TINY, 3) == (None, None)
    good, behind = rediscovery.first_as_good(found, lion, TINY, 3)
    assert good is found[1] and behind == (0.0, 0.0)
    assert rediscovery.first_as_good([], lion, TINY, 3) == (None, None)


@pytest.mark.parametrize(
    ("start", "met"),
    [("lion", "two"), ("sign_momentum", "one"), ("sign_sgd", "none"), ("evolved_step2", "two")],
)
def test_one_average_two_averages_and_none_are_told_apart(start: str, met: str) -> None:
    one = sighting(0, library.load(start).text())
    said = "two" if rediscovery.is_of_two_averages(one) else "one" if one.lion.beta2 else "none"
    assert said == met


def test_a_search_is_measured_in_trained_programs(tmp_path: Path) -> None:
    settings = SearchSettings(name="again", initial=str(STARTS / "lion_without_momentum.txt"),
                              family="mlp", num_steps=10, lrs=[0.004])  # fmt: skip
    folder = SearchFolder.create(settings, 0, tmp_path)
    keep = ["insert", 2, [["m", "interpolate", "g", "m", 0.9]]]
    again = ["insert", 2, [["m", "interpolate", "g", "m", 0.99]]]
    trained = {"how": "evaluated", "round": 0, "losses": [1.0], "killed": [None], "steps": 10}
    trained |= {"after": 0, "structure": "s"}
    child = {**trained, "kind": "child", "parent": 0, "tries": 1}
    lines = [
        {**trained, "number": 0, "kind": "initial", "key": "a", "fitness": 0},
        {**child, "number": 1, "edit": keep, "how": "cached", "of": 0, "key": "a"},
        {**child, "number": 2, "edit": keep, "key": "b", "fitness": 0.1},
        {**child, "number": 3, "edit": again, "key": "c", "fitness": 0.1},
    ]
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = rediscovery.measure(folder, library.load("lion"), 2)
    assert row["sign_momentum_number"] == 1 and row["sign_momentum_trained"] == 1
    assert (row["two_averages_number"], row["two_averages_trained"]) == (3, 3)
    assert row["two_averages_beta2"] == "99/100" and row["as_good_number"] == 3
    assert (row["minus_lion"], row["error"]) == (0, 0)
    assert json.loads((folder.path / rediscovery.FILE).read_text()) == row


@pytest.mark.parametrize("path", sorted(STARTS.glob("*.txt")), ids=lambda path: path.stem)
def test_a_damaged_program_is_valid_and_not_lion(path: Path) -> None:
    met = list(sightings.find([(0, library.read_file(path))]))
    assert not any(one.lion.beta2 for one in met)
