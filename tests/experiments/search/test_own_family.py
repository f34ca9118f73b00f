"""A proxy of one's own, outside of this repository, is searched on like ours."""

from __future__ import annotations

from pathlib import Path

import my_family
import pytest
import torch

from experiments import trust
from experiments.config import ConfigError, UserError
from experiments.jobs.search import read_page, start
from experiments.search import __main__ as search_command
from experiments.search import library
from experiments.search.evaluation import Job, Tier, judge
from experiments.search.export import ProgramOptimizer
from experiments.search.folder import SearchFolder
from experiments.search.proxies import families
from experiments.store import read_json

OWN = {
    **read_page("smoke"),
    **{"family": "my_family.bowl", "num_candidates": 60, "num_finalists": 1, "window": 8},
    **{"rotate_every": 30, "num_incumbents": 2, "population": 10},
}


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    families._made.cache_clear()
    families.proxy.cache_clear()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv(trust.VARIABLE, "")


def population(root: Path) -> str:
    return read_json(SearchFolder(next(root.glob("smoke-*"))).status)["population"]


def test_a_search_on_it_is_the_same_with_workers(tmp_path: Path) -> None:
    for name, more in (("a", {}), ("b", {"executor": "pool", "num_workers": 1})):
        assert start({**OWN, **more}, 0, tmp_path / name) == 0
    assert population(tmp_path / "a") == population(tmp_path / "b")
    folder = SearchFolder(next((tmp_path / "a").glob("smoke-*")))
    rows = list(folder.final_rows())
    assert len(rows) == 2 and rows[0]["mean"] == 0.0
    assert trust._file().read_text() == "my_family.bowl\n"  # so `funnel` may judge on it
    check_what_it_found_trains(folder.path, tmp_path / "found.txt")


def check_what_it_found_trains(search: Path, found: Path) -> None:
    """`export` writes the best program of a search; torch trains with it, as the guide shows."""
    assert search_command.main(["export", str(search)]) == 2  # a search is no FILE to train with
    assert search_command.main(["export", str(search), "--out", str(found)]) == 0
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = ProgramOptimizer([weight], lr=1e-3, path=str(found))
    weight.square().sum().backward()
    optimizer.step()
    assert not torch.equal(weight, torch.ones(3))


def test_its_gradient_is_right_and_lanes_are_apart() -> None:
    trust.add("my_family")
    bowl = families.proxy("my_family.bowl")
    weights = torch.stack([bowl.layout.initial(seed) for seed in range(3)]).requires_grad_()
    batch = bowl.training(0, 2)[1].of(torch.zeros(3, dtype=torch.int64))
    (slope,) = torch.autograd.grad(bowl.loss(weights, batch).sum(), weights)
    torch.testing.assert_close(bowl.loss_and_gradient(weights.detach(), batch)[1], slope)
    tier = Tier("my_family.bowl", 20, reference=library.load("adamw_early").text())
    assert tier.rates == my_family.bowl().lrs
    lion = library.load("lion")
    alone, beside = judge([Job(lion, tier, 0)])[0], judge([Job(lion, tier, 0)] * 3)
    assert beside == [alone] * 3


def test_a_search_is_not_gone_on_with_on_changed_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start(OWN, 0, tmp_path) == 0
    folder = SearchFolder(next(tmp_path.glob("smoke-*")))
    assert folder.read()["family_code"] == families.code("my_family.bowl") != families.code("lm")
    monkeypatch.setattr(families, "code", lambda name: "other")
    assert start(OWN, 0, tmp_path) == 0  # nothing is judged any more
    with pytest.raises(UserError, match="judged otherwise"):
        start({**OWN, "cache_from": [folder.path.name], "name": "next"}, 0, tmp_path)
    lines = folder.events.read_text().splitlines(keepends=True)
    folder.events.write_text("".join(lines[:-10]))
    folder.finals.unlink()
    with pytest.raises(UserError, match="the code of my_family.bowl has changed since") as told:
        start(OWN, 0, tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("my_family.bowel", "did you mean my_family.bowl"),
        ("my_familie.bowl", "my_familie"),
        ("my_family.STEEPNESS", "is no class or function"),
        ("my_family.no_family", "must return a Family, not Bowl"),
    ],
)
def test_what_is_no_family_is_one_line(tmp_path: Path, family: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as told:
        start({**OWN, "family": family}, 0, tmp_path)
    assert "\n" not in str(told.value)


def test_the_family_of_a_strangers_search_is_not_run() -> None:
    with pytest.raises(ConfigError, match="never used here: if you trust it, say --trust my_fam"):
        families.family("my_family.bowl")
    assert families.names("my_family.bowl", "lm") == ("mlp", "lm", "conv", "my_family.bowl")
