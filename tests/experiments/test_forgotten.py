"""What an optimizer remembers beside its state is lost at a stop, and a run says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forgetful
import pytest
import tiny
import torch
from omegaconf import OmegaConf

import run
from experiments import runner, schedule_free
from experiments.build import build
from experiments.forgotten import Watch

PAGES = sorted((run.CONF / "optimizer").glob("*.yaml"))
COUNTING: dict[str, Any] = {"_target_": "forgetful.Counting", "lr": 0.1}


def said(make: Any, num_steps: int = 3) -> list[str]:
    """What is said at the saves after one step and after each of the next ones."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Linear(3, 3))
    optimizer = make(list(model.parameters()))
    schedule_free.train(optimizer)
    watch, found = Watch(optimizer), []
    for _ in range(num_steps):
        model(torch.randn(7, 5)).square().sum().backward()
        optimizer.step()
        watch.stepped()
        found.append(watch.warning(optimizer.state_dict()))
        optimizer.zero_grad()
    return found


@pytest.mark.parametrize("how", ["number", "tensor", "list"])
def test_a_counter_in_an_attribute_is_named_once(how: str) -> None:
    first, second, third = said(lambda params: forgetful.Counting(params, how=how))
    assert first == third == ""
    assert second.startswith("Counting keeps count in an attribute, which a checkpoint does not")
    assert "keep it in self.state or in the groups" in second


@pytest.mark.parametrize("how", ["groups", "state", "state_dict"])
def test_a_counter_that_is_saved_is_none_to_speak_of(how: str) -> None:
    """Nor are a table, a switch, and weights that are listed."""
    assert said(lambda params: forgetful.Counting(params, how=how)) == [""] * 3


def test_the_state_of_an_optimizer_within_is_named_unless_it_is_shared() -> None:
    assert said(forgetful.Wrapping)[1].startswith("Wrapping keeps inner in an attribute")
    assert said(lambda params: forgetful.Wrapping(params, shared=True)) == [""] * 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_nothing_is_said_of_the_optimizers_of_the_pages(page: Path) -> None:
    section: Any = OmegaConf.to_container(OmegaConf.load(page))
    if section["_target_"].startswith("schedulefree"):
        pytest.importorskip("schedulefree")
    assert said(lambda params: build(section, "optimizer", params), 8) == [""] * 8


@pytest.mark.parametrize(("how", "count"), [("number", 1), ("groups", 0)])
def test_a_run_says_so_once(tmp_path: Path, how: str, count: int) -> None:
    config = tiny.config(tmp_path, optimizer={**COUNTING, "how": how}, train__epochs=2.0)
    log = (runner.run(config).folder / "log.txt").read_text()
    assert log.count("Counting keeps count in an attribute") == count
