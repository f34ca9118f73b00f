"""Every page of conf/sweep makes the cells that it promises, with the paper's values."""

from __future__ import annotations

import csv
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import run
from experiments.config import RunConfig
from experiments.pages import groups_of
from experiments.sweep import command, planning
from experiments.sweep.manifest import Cell
from experiments.sweep.request import parse
from experiments.sweep.writing import axes, trials

PAGES = sorted(path.stem for path in (run.CONF / "sweep").glob("*.yaml"))
LAUNCHERS = sorted(path.stem for path in (run.CONF / "launcher").glob("*.yaml"))
PAPER = {
    "paper_heatmap": "vit_b16_imagenet",
    "batch_size": "vit_b16_imagenet_aug",
    "optimizers": "vit_s16_imagenet_aug",
}
NAMES = {"Ablation_0.9": "lion_single_beta", "Ablation_0.99": "lion_single_beta_99"}


@cache
def plan(page: str, *overrides: str) -> tuple[list[Cell], set[str]]:
    """The cells of a page, planned once for all tests."""
    request = parse([f"sweep={page}", *overrides], groups_of([run.CONF]))
    loaded = planning.sweep_page(request, [run.CONF])
    return planning.plan(request, loaded)


def rows(name: str) -> list[dict[str, str]]:
    with (run.CONF.parent / "results" / "paper" / name).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_a_header_plans_cells_with_equal_budgets(page: str) -> None:
    text = (run.CONF / "sweep" / f"{page}.yaml").read_text()
    found = re.findall(r"python run\.py -m (.*)", re.sub(r"\\\n#\s*", " ", text))
    assert found and all(f"sweep={page}" in arguments for arguments in found)
    for arguments in found:
        request = parse(shlex.split(arguments), groups_of([run.CONF]))
        command.launcher_section(request.launcher, request.launcher_changes, [run.CONF])
        kept = ("experiment=", "optimizer=")
        cells, _ = plan(page, *(o for o in shlex.split(arguments) if o.startswith(kept)))
        assert len({cell.run_id for cell in cells}) == len(cells) > 1
        budget = trials(cells)
        assert len(set(budget.values())) == 1
        experiment = request.choices["experiment"][0]
        is_paper = not experiment.endswith("_proxy") and experiment != "fashion"
        assert {cell.config["scale"] for cell in cells} == {"paper" if is_paper else "proxy"}


@pytest.mark.parametrize(("page", "experiment"), PAPER.items())
def test_the_header_of_a_page_of_the_paper_names_its_experiment(page: str, experiment: str) -> None:
    assert f"experiment={experiment} " in (run.CONF / "sweep" / f"{page}.yaml").read_text()


def test_the_heatmaps_are_the_papers() -> None:
    cells, _ = plan("paper_heatmap", "experiment=vit_b16_imagenet")
    expected = {
        (row["optimizer"].lower(), float(row["lr"]), float(row["weight_decay"]))
        for row in rows("lr_wd_heatmap.csv")
    }
    ours = {
        (c.optimizer, c.settings["optimizer.lr"], c.settings["optimizer.weight_decay"])
        for c in cells
    }
    assert ours == expected and len(cells) == 18


def test_the_optimizers_are_the_papers_ten() -> None:
    cells, _ = plan("optimizers", "experiment=vit_s16_imagenet_aug")
    named = {row["optimizer"] for row in rows("optimizer_comparison.csv")}
    assert set(trials(cells)) == {NAMES.get(name, name.lower()) for name in named}
    assert set(trials(cells).values()) == {9}


def test_batch_sizes_are_the_papers_at_a_fixed_number_of_epochs() -> None:
    cells, conditions = plan("batch_size", "experiment=vit_b16_imagenet_aug")
    sizes = {int(row["batch_size"]) for row in rows("batch_size_ablation.csv")}
    assert {cell.settings["train.batch_size"] for cell in cells} == sizes
    assert conditions == {"batch_size"}
    assert {cell.config["train"]["epochs"] for cell in cells} == {300}
    (share,) = {cell.config["schedule"]["warmup_fraction"] for cell in cells}
    assert round(share * 300 * (1_281_167 // 4096)) == 10_000  # as the page of batch 4096 has it


def test_single_betas_of_language_are_the_papers() -> None:
    """Beside them stands Lion's own pair in language."""
    setup = {(r["experiment"], r["quantity"]): r["value"] for r in rows("training_setup.csv")}
    said = setup["PG-19 beta ablation", "single betas"]
    single = {(float(b), float(b)) for b in re.findall(r"0\.\d+", said)}
    lion = next(
        r for r in rows("hyperparameters.csv") if "PG-19" in r["model"] and r["beta1"] != "0.9"
    )
    for size in re.findall(r"small|medium|large", said):
        cells, conditions = plan("betas_language", f"experiment=lm_{size}_pg19")
        pairs = {tuple(cell.config["optimizer"]["betas"]) for cell in cells}
        assert pairs == single | {(float(lion["beta1"]), float(lion["beta2"]))}
        assert conditions == {"betas"} and len(cells) == 9


def lr_at(cells: list[Cell], optimizer: str, size: int) -> list[float]:
    return sorted(
        {
            cell.settings["optimizer.lr"]
            for cell in cells
            if (cell.optimizer, cell.settings["train.batch_size"]) == (optimizer, size)
        }
    )


def test_the_lr_follows_the_square_root_of_the_batch() -> None:
    cells, _ = plan("batch_size", "experiment=vit_b16_imagenet_aug")
    recipe: RunConfig = run.compose(["experiment=vit_b16_imagenet_aug", "optimizer=adamw"])
    lr = recipe.optimizer["lr"]
    assert lr_at(cells, "adamw", 4096) == pytest.approx([lr / 2, lr, 2 * lr], rel=1e-3)
    assert lr_at(cells, "adamw", 64) == pytest.approx([lr / 16, lr / 8, lr / 4], rel=1e-3)


def test_the_largest_batch_of_the_proxy_has_steps_enough() -> None:
    cells, _ = plan("batch_size_proxy", "experiment=vit_proxy")
    largest = max(cell.settings["train.batch_size"] for cell in cells)
    num_examples = 1151  # stated on the page of vit_proxy
    assert 250 * (num_examples // largest) >= 500


def test_the_single_betas_are_pairs_of_one_value() -> None:
    cells, conditions = plan("betas", "experiment=vit_proxy")
    pairs = axes(cells)["lion"]["betas"]
    assert conditions == {"betas"}
    assert {(0.9, 0.9), (0.99, 0.99), (0.9, 0.99), (0.95, 0.98)} <= {(a, b) for a, b in pairs}


def test_the_discovered_program_is_set_for_its_own_arm_alone() -> None:
    cells, conditions = plan("discovered", "experiment=lm_proxy")
    assert conditions == set()
    assert trials(cells) == {"adamw": 20, "lion": 20, "program": 20}
    of = {name: axes(cells)[name] for name in ("adamw", "lion", "program")}
    assert len(of["program"]["path"]) == 1 and of["lion"]["betas"] == [[0.9, 0.99]]
    assert set(of["adamw"]) == {"lr", "weight_decay"}
    digests = {c.config["optimizer"].get("digest") for c in cells}
    assert len(digests) == 2 and None in digests  # AdamW and Lion have none


@pytest.mark.parametrize("experiment", ["vit_signals_proxy", "lm_proxy"])
def test_the_optimizers_since_2023_have_equal_trials_and_fair_settings(experiment: str) -> None:
    cells, conditions = plan("optimizers_since_2023", f"experiment={experiment}")
    assert conditions == set()
    assert len(trials(cells)) == 11 and set(trials(cells).values()) == {20}
    for cell in cells:
        is_averaging = cell.optimizer == "schedulefree"  # its rule needs an lr that does not fall
        assert (cell.config["schedule"]["name"] == "constant") == is_averaging
        assert cell.config["schedule"]["warmup_fraction"] == 0.05
        if cell.optimizer not in ("adopt", "muon"):
            assert cell.config["optimizer"]["betas"] == [0.9, 0.99]
    lamb = [cell for cell in cells if cell.optimizer == "lamb"]
    assert all(cell.settings["optimizer.weight_decay"] > 0 for cell in lamb), "else it is Adam"
    of = axes(cells)
    assert of["clion"] == of["lionc"] == of["lion"], "variants of Lion see Lion's grid"


def test_the_transfer_keeps_lr_times_weight_decay() -> None:
    cells, _ = plan("transfer", "experiment=vit_proxy")
    products = [c.settings["optimizer.lr"] * c.settings["optimizer.weight_decay"] for c in cells]
    assert products == pytest.approx([8e-3 * 0.05] * len(cells), rel=1e-3)


@pytest.mark.parametrize("page", LAUNCHERS)
def test_every_launcher_page_names_the_arguments_of_its_function(page: str) -> None:
    import inspect

    from omegaconf import OmegaConf

    from experiments.build import locate

    section: Any = OmegaConf.to_container(OmegaConf.load(run.CONF / "launcher" / f"{page}.yaml"))
    function = locate(section.pop("_target_"), "launcher")
    parameters = inspect.signature(function).parameters
    assert set(section) <= set(parameters)
    assert next(iter(parameters)) == "path"
    assert Path(inspect.getfile(function)).parent.name == "sweep"
