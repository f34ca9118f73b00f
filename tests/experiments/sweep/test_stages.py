"""Stage two of a sweep starts from what stage one has chosen, seed by seed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import swept
import tiny
from rich.console import Console

from experiments.config import ConfigError, UserError
from experiments.identity import run_id
from experiments.sweep import command, planning, report, results, stages
from experiments.sweep.confirm import confirm
from experiments.sweep.manifest import Cell, Sweep
from experiments.table import read_runs
from run import compose

SHORT: dict[str, Any] = {"train__epochs": None, "train__steps": 2, "eval__every_epochs": None}
PAGES = {
    "experiment/tiny_finetune.yaml": """# @package _global_
defaults: [/task: image, _self_]
scale: proxy
stands_for: nothing
data: {_target_: tiny.images}
model: {_target_: tiny.Net}
start_from: {source: RUN_ID, leave_out: [head.*]}
train: {steps: 2, batch_size: 16}
launch: {device: cpu, num_threads: 1}
""",
    "recipe/tiny_finetune/sgd.yaml": """# @package _global_
optimizer: {lr: 0.01}
provenance: {source: a test}
""",
}
THEN = {
    "experiment": "tiny_finetune",
    "optimizer": "sgd",
    "grid": {"optimizer.lr": ["/10", "x1"]},
    "fixed": ["launch.progress=false"],
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pages")
    for name, text in PAGES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, pages: str) -> Sweep:
    """Two optimizers, two learning rates, two seeds, trained for real."""
    root = tmp_path_factory.mktemp("stages")
    cells = []
    for name in ("lion", "adamw"):
        for lr in (1e-3, 3e-2):
            for seed in (0, 1):
                changes = {"optimizer_name": name, "seed": seed, "optimizer__lr": lr}
                made = tiny.config(root / "runs", **SHORT, **changes)
                cells.append(Cell.of(made, {"optimizer.lr": lr}))
    sweep = swept.sweep(root, cells, then=vars(stages.read({**THEN, "config_dir": pages})))
    with pytest.raises(UserError, match="stage two of trial waits for 8 of 8 cells of stage one"):
        stages.second(sweep)
    assert swept.work(sweep.path) == 0
    return sweep


def test_cells_that_failed_for_good_are_not_waited_for_in_vain(
    first: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To call the same command again would change nothing."""
    states = dict.fromkeys(first.states(), "finished")
    states[next(iter(states))] = "failed"
    monkeypatch.setattr(first, "states", lambda: states)
    said = stages.what_is_left(first)
    assert "waits for 1 of 8 cells of stage one, of which 1 failed for good: python" in said
    assert f"resume {first.path} --retry-failed" in said and "again" in said


def test_each_seed_starts_from_the_same_seed_of_what_its_optimizer_chose(first: Sweep) -> None:
    chosen = {best.optimizer: best.settings["lr"] for best in results.best_cells(first)}
    source = {
        (c.optimizer, c.seed): c.run_id
        for c in first.cells
        if c.settings["optimizer.lr"] == chosen[c.optimizer]
    }
    after = stages.second(first)
    assert after.name == "trial-then" and len(after.cells) == 8
    assert after.manifest["conditions"] == ["init_optimizer"]
    assert after.manifest["budget"] == {"sgd": 4}
    for cell in after.cells:
        assert (
            cell.config["start_from"]["source"]
            == source[cell.settings["init_optimizer"], cell.seed]
        )
        assert cell.config["start_from"]["leave_out"] == ["head.*"]
    tried = {(c.settings["init_optimizer"], c.settings["optimizer.lr"]) for c in after.cells}
    assert tried == {(name, lr) for name in chosen for lr in (0.001, 0.01)}
    again = stages.second(first)
    assert [c.run_id for c in again.cells] == [c.run_id for c in after.cells]


def test_stage_two_trains_and_each_first_optimizer_has_its_best_cell(first: Sweep) -> None:
    after = stages.second(first)
    assert swept.work(after.path) == 0
    best = results.best_cells(after)
    assert {b.settings["init_optimizer"] for b in best} == {"lion", "adamw"}
    assert all(b.num_trials == 2 and b.num_seeds == 2 for b in best)
    report.show(after, Console(file=(shown := StringIO()), width=200))
    assert re.search(r"optimizer +init optimizer +lr .*\n.*\n +sgd +lion +0", shown.getvalue())
    ledger = read_runs(after.manifest["runs_dir"], runs=[c.run_id for c in after.cells])
    told = dict(zip(ledger.run_id, ledger.init_optimizer, strict=True))
    table = results.runs_table(after).set_index("run_id")
    for cell in after.cells:
        name = cell.settings["init_optimizer"]
        assert told[cell.run_id] == table.init_optimizer[cell.run_id] == name
    with pytest.raises(UserError, match="trial-then has no stage two"):
        stages.second(after)


def test_picks_without_a_common_seed_start_nothing(
    first: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {"lion": {0: "a"}, "adamw": {1: "b"}}
    monkeypatch.setattr(stages, "_runs", lambda best, sweep: runs[best.optimizer])
    with pytest.raises(UserError, match="no seed with which the picks of all have finished"):
        stages.second(first)


def test_an_optimizer_without_a_pick_is_said_to_be_left_out(
    first: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (picked, *_) = results.best_cells(first)
    monkeypatch.setattr(stages, "best_cells", lambda _: [picked])
    monkeypatch.setattr(stages, "set_aside_other_picks", lambda *_: None)
    monkeypatch.setattr(stages.writing, "write", lambda path, cells, **_: cells)
    cells: Any = stages.second(first)
    assert {c.settings["init_optimizer"] for c in cells} == {picked.optimizer} == {"lion"}
    assert "nothing is picked of adamw: no setting" in capsys.readouterr().err


def test_the_command_of_a_cell_makes_the_same_run(first: Sweep, pages: str) -> None:
    after = stages.second(first)
    table = results.runs_table(after).set_index("run_id")
    if table.empty:
        assert swept.work(after.path) == 0
        table = results.runs_table(after).set_index("run_id")
    for cell in after.cells[:2]:
        words = table.command[cell.run_id].replace("'", "").split()[2:]
        made = compose([*words, f"results_dir={after.manifest['runs_dir']}"], pages)
        assert run_id(made) == cell.run_id


def test_fresh_runs_of_stage_two_begin_with_fresh_runs_of_stage_one(first: Sweep) -> None:
    after = stages.second(first)
    assert swept.work(after.path) == 0
    fresh = confirm(first, [100, 101])
    assert fresh.manifest["then"] == first.manifest["then"]
    with pytest.raises(UserError, match="seed 100: first call .* confirm trial with the same"):
        confirm(after, [100, 101])
    assert swept.work(fresh.path) == 0
    with pytest.raises(UserError, match="no finished fresh run of seed 102"):
        confirm(after, [100, 102])
    begun = confirm(after, [101, 100])
    assert begun.name == "trial-then-fresh" and swept.work(begun.path) == 0
    source = {(c.optimizer, c.seed): c.run_id for c in fresh.cells}
    picked = {b.settings["init_optimizer"]: b.settings["lr"] for b in results.best_cells(after)}
    told = read_runs(begun.manifest["runs_dir"]).groupby("run_id").init_optimizer.first()
    for cell in begun.cells:
        name = cell.settings["init_optimizer"]
        assert cell.config["start_from"]["source"] == source[name, cell.seed]
        assert cell.settings["optimizer.lr"] == picked[name] and told[cell.run_id] == name
    assert sorted(c.seed for c in begun.cells) == [100, 100, 101, 101]
    table = results.runs_table(begun)
    assert sorted(table.init_optimizer) == ["adamw", "adamw", "lion", "lion"]


def test_a_fresh_run_with_another_setting_than_the_pick_began_with_is_none(first: Sweep) -> None:
    assert swept.work(confirm(first, [100, 101]).path) == 0
    after = stages.second(first)
    assert swept.work(after.path) == 0
    chosen = {best.optimizer: best.settings["lr"] for best in results.best_cells(first)}
    begun = next(c for c in after.cells if c.settings["init_optimizer"] == "lion")
    other = next(
        cell.run_id
        for cell in first.cells
        if (cell.optimizer, cell.seed) == ("lion", begun.seed)
        and cell.settings["optimizer.lr"] != chosen["lion"]
    )
    path = after.path / "manifest.json"
    kept = path.read_text()
    try:
        path.write_text(kept.replace(begun.config["start_from"]["source"], other))
        with pytest.raises(UserError, match="lion's pick there has no finished fresh run"):
            confirm(Sweep(after.path), [100, 101])
    finally:
        path.write_text(kept)


@pytest.mark.parametrize(
    "section, said",
    [
        (
            {**THEN, "optimiser": "sgd"},
            r"sweep.then.optimiser: no such key; did you mean optimizer",
        ),
        ({"experiment": "x"}, "sweep.then.optimizer is missing: name a page of conf/optimizer"),
        ({**THEN, "start_from": {"source": "x"}}, "source: stage one chooses it"),
    ],
)
def test_a_wrong_section_is_refused_with_its_key(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        stages.read(section)


def test_a_choice_under_each_of_several_conditions_is_none(tmp_path: Path, pages: str) -> None:
    cells = []
    for size in (16, 32):
        made = tiny.config(tmp_path / "runs", **SHORT, train__batch_size=size)
        cells.append(Cell.of(made, {"train.batch_size": size}))
    then = vars(stages.read({**THEN, "config_dir": pages}))
    sweep = swept.sweep(tmp_path, cells, conditions=["batch_size"], then=then)
    assert swept.work(sweep.path) == 0
    with pytest.raises(UserError, match="has chosen 2 settings of .*, one under each condition"):
        stages.second(sweep)


def test_the_page_plans_stage_one_and_names_stage_two() -> None:
    """What is written into the manifest can be read again."""
    from experiments.pages import CONF, groups_of

    asked = ["experiment=pretrain_proxy", "sweep=pretrain_then_finetune", "launch.progress=false"]
    request = command.parse(asked, groups_of([CONF]))
    page = planning.sweep_page(request, [CONF])
    stage = json.loads(json.dumps(command.stage_two(page, request, None)))
    assert stage["experiment"] == "finetune_proxy" and stage["fixed"] == ["launch.progress=false"]
    assert stages.read(stage) == stages.Stage(**stage)


def test_what_started_from_former_picks_does_not_stay_beside_the_new(
    first: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a wider grid in stage one: the same setting of stage two has other runs now."""
    before = stages.second(first)
    picked = results.best_cells(first)
    other = {1e-3: 3e-2, 3e-2: 1e-3}
    changed = replace(picked[0], settings={"lr": other[picked[0].settings["lr"]]})
    monkeypatch.setattr(stages, "best_cells", lambda _: [changed, *picked[1:]])
    after = stages.second(first)
    former = {c.run_id for c in before.cells if c.settings["init_optimizer"] == changed.optimizer}
    assert len(after.cells) == len(before.cells) == 8 and len(former) == 4
    assert not former & {cell.run_id for cell in after.cells}
    assert len(Sweep(after.path.with_name("trial-then-before")).cells) == 8


def stage_two_of(*asked: str, data: Any, is_here: bool = False) -> dict[str, Any]:
    from experiments.pages import CONF, groups_of

    request = command.parse(
        ["experiment=vit_b16_imagenet21k", "sweep=pretrain_then_finetune", *asked],
        groups_of([CONF]),
    )
    page = planning.sweep_page(request, [CONF])
    found = command.stage_two(page, request, None, data, is_here)
    assert found is not None
    return found


def test_where_data_lie_holds_for_a_stage_two_that_reads_the_same() -> None:
    """Stage two had no data, which came out when stage one was over."""
    same, other = "vit_l16_384_from_imagenet21k", "finetune_proxy"
    there = stages.example(stages.Stage(experiment=same, optimizer="sgd")).data
    page, root = f"sweep.then.experiment={same}", "data.root=/x"
    assert stage_two_of(page, root, data=there)["fixed"] == [root]
    assert stage_two_of(page, root, data={**there, "name": "another"})["fixed"] == []
    own = stage_two_of(page, root, "sweep.then.set={data.root: /y}", data=there)
    assert own["fixed"] == [] and own["set"] == {"data.root": "/y"}
    assert stage_two_of(f"sweep.then.experiment={other}", root, data=there)["fixed"] == []


def test_data_that_stage_two_lacks_are_said_before_stage_one() -> None:
    page = "sweep.then.experiment=vit_l16_384_from_imagenet21k"
    with pytest.raises(UserError, match=r"stage two: data.root is not set; .*sweep.then.set="):
        stage_two_of(page, data={}, is_here=True)
    assert stage_two_of(page, data={})  # trained elsewhere
