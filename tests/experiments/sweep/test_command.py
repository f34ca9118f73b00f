"""`python run.py -m`: from the command line to the cells, and one line for every mistake."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import run
from experiments import precision
from experiments.again import command_of
from experiments.config import ConfigError
from experiments.identity import run_id
from experiments.store import read_json, read_sweep
from experiments.sweep import local
from experiments.sweep.manifest import Sweep

Call = Callable[..., tuple[int, str]]
SHORT = ["train.epochs=null", "train.steps=2", "eval.every_epochs=null"]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Call:
    """Calls `run.py -m` without starting workers; gives the exit code and what was said."""

    def main(*arguments: str) -> tuple[int, str]:
        given = [*arguments]
        if not [text for text in given if text.startswith("results_dir=")]:
            given.append(f"results_dir={tmp_path}/runs")
        if not [text for text in given if text.startswith("launcher=")]:
            given.append("launcher=none")
        monkeypatch.setattr(sys, "argv", ["run.py", "-m", *given])
        code = run.main()
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return main


def made(tmp_path: Path, name: str) -> dict[str, Any]:
    return read_sweep(tmp_path / "sweeps" / name)


def test_a_page_gives_each_optimizer_its_own_grid(call: Call, tmp_path: Path) -> None:
    code, said = call("experiment=vit_proxy", "optimizer=adamw,lion", "sweep=lr_wd", "seed=0,1")
    assert code == 0 and "0 of 100 cells done (100 waiting)" in said
    manifest = made(tmp_path, "vit_proxy-lr_wd")
    assert manifest["budget"] == {"adamw": 25, "lion": 25} and manifest["seeds"] == [0, 1]
    assert manifest["axes"]["adamw"]["lr"] == [2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2]
    assert manifest["axes"]["lion"]["lr"] == [5e-4, 1e-3, 2e-3, 4e-3, 8e-3]
    assert manifest["axes"]["lion"]["weight_decay"] == [0.03, 0.1, 0.3, 0.9, 3.0]
    assert [cell["seed"] for cell in manifest["cells"]] == [0] * 50 + [1] * 50
    cell = manifest["cells"][-1]
    assert cell["config"]["optimizer"]["lr"] == cell["settings"]["optimizer.lr"]


def test_a_page_in_a_subfolder_makes_a_sweep_that_tables_see(call: Call, tmp_path: Path) -> None:
    pages = tmp_path / "a=b, (ö"
    (pages / "experiment/lab").mkdir(parents=True)
    page = (run.CONF / "experiment/vit_proxy.yaml").read_text()
    (pages / "experiment/lab/nested.yaml").write_text(page)
    flags = ["--config-dir", str(pages)]
    code, said = call(*flags, "experiment=lab/nested", "seed=0,1", f"results_dir={tmp_path}/ö/runs")
    assert code == 0, said
    (manifest,) = (tmp_path / "ö/sweeps").iterdir()
    assert manifest.name == "lab.nested-seeds"
    assert all("/" not in cell["run_id"] for cell in read_sweep(manifest)["cells"])


def test_missing_data_is_said_before_a_sweep_is_written(call: Call, tmp_path: Path) -> None:
    asked = ["experiment=vit_s16_imagenet", "sweep=seeds", "data.root=/nowhere"]
    code, said = call(*asked, "launcher=local")
    assert code == 2 and "data.root=/nowhere" in said and not (tmp_path / "sweeps").exists()
    code, said = call(*asked, "launcher=none")  # the workers may be elsewhere
    assert code == 0, said


def test_calling_again_with_more_seeds_adds_to_the_same_sweep(call: Call, tmp_path: Path) -> None:
    call("sweep=transfer")
    call("sweep=transfer", "seed=0,1")
    assert len(made(tmp_path, "vit_proxy-transfer")["cells"]) == 12


def test_sweeps_lie_beside_their_runs(call: Call, tmp_path: Path) -> None:
    """Two folders of runs never share a sweep by being neighbours."""
    for folder in ("one", "two"):
        code, said = call("optimizer.lr=1e-3,2e-3", f"results_dir={tmp_path}/{folder}")
        assert code == 0, said
        assert len(list((tmp_path / f"{folder}-sweeps").iterdir())) == 1


def test_values_on_the_command_line_replace_those_of_the_page(call: Call, tmp_path: Path) -> None:
    code, said = call("sweep=lr_wd", "optimizer.lr=1e-3,2e-3", "optimizer.weight_decay=0.5")
    assert code == 0, said
    (name,) = [p.name for p in (tmp_path / "sweeps").iterdir()]
    assert name.startswith("vit_proxy-lr_wd-"), "another weight decay is another sweep"
    manifest = made(tmp_path, name)
    assert manifest["budget"] == {"adamw": 2, "lion": 2}
    assert manifest["axes"]["lion"] == {"lr": [1e-3, 2e-3]}
    assert {c["config"]["optimizer"]["weight_decay"] for c in manifest["cells"]} == {0.5}
    assert manifest["fixed"] == ["optimizer.weight_decay=0.5"]


def test_other_keys_with_several_values_are_conditions(call: Call, tmp_path: Path) -> None:
    call("sweep=transfer", "train.batch_size=32,64")
    manifest = made(tmp_path, "vit_proxy-transfer")
    assert manifest["conditions"] == ["batch_size"] and manifest["budget"]["lion"] == 6


def test_what_the_page_compares_is_compared_with_other_values_too(
    call: Call, tmp_path: Path
) -> None:
    """And what it tunes is tuned: the best of two betas, or horizons, would hide the other."""
    call("sweep=betas", "optimizer=lion", "optimizer.betas=[0.9,0.99],[0.95,0.98]")
    assert made(tmp_path, "vit_proxy-betas")["conditions"] == ["betas"]
    page = ["sweep.grid={schedule.warmup_steps: [1, 2]}", "sweep.name=mine"]
    call(*page, "schedule.warmup_steps=3,4", "optimizer=lion")
    manifest = made(tmp_path, "mine")
    assert (manifest["conditions"], manifest["budget"]) == ([], {"lion": 2})


def test_other_data_are_compared_not_tuned(call: Call, tmp_path: Path) -> None:
    code, said = call(
        "experiment=vit_mnist1d_proxy", "data=mnist1d,mnist1d_long", "optimizer=lion",
        "optimizer.lr=1e-3,2e-3",
    )  # fmt: skip
    assert code == 0, said
    assert made(tmp_path, "vit_mnist1d_proxy-lr")["conditions"] == ["data"]


@pytest.mark.parametrize(
    "given",
    [
        ["train.batch_size=256", "train.micro_batch_size=256"],
        ["sweep.set={train.batch_size: 256, train.micro_batch_size: 256}"],
    ],
)
def test_a_batch_size_that_is_fixed_moves_the_lr_as_one_of_several_does(
    call: Call, tmp_path: Path, given: list[str]
) -> None:
    page = ["optimizer=lion", "sweep.lr_scaling=sqrt", "sweep.grid={optimizer.lr: [x1]}"]
    call(*page, "sweep.name=several", "train.batch_size=128,256")
    code, said = call(*page, "sweep.name=one", *given)
    assert code == 0, said
    (one,), several = (made(tmp_path, name)["cells"] for name in ("one", "several"))
    assert one["config"]["train"]["batch_size"] == one["settings"]["train.batch_size"] == 256
    assert one["settings"]["optimizer.lr"] == several[1]["settings"]["optimizer.lr"] == 4e-3
    sweep = Sweep(tmp_path / "sweeps/one")
    of = sweep.cells[0].overrides, 0, sweep.manifest["fixed"]
    words = shlex.split(command_of("vit_proxy", "lion", *of))[2:]
    again = run.compose([*words, f"results_dir={tmp_path}/runs"])
    assert run_id(again) == one["run_id"]


def test_keys_that_tables_could_not_tell_apart_are_refused(call: Call) -> None:
    """Their runs were trained, and then no setting could be picked."""
    code, said = call(
        "optimizer=schedulefree", "optimizer.warmup_steps=1,2", "schedule.warmup_steps=1,2"
    )
    assert code == 2 and "schedule.warmup_steps and optimizer.warmup_steps would be one" in said


def test_a_page_that_has_changed_since_does_not_put_a_cell_twice(
    call: Call, tmp_path: Path
) -> None:
    """Two runs of one setting and seed stood in the sweep, and nothing could be picked of it."""
    page = tmp_path / "pages/experiment/mine.yaml"
    page.parent.mkdir(parents=True)
    text = (run.CONF / "experiment/vit_proxy.yaml").read_text()
    asked = ["--config-dir", str(tmp_path / "pages"), "experiment=mine", "optimizer.lr=1e-3,2e-3"]
    page.write_text(text)
    assert call(*asked)[0] == call(*asked)[0] == 0
    page.write_text(text.replace("epochs: 30", "epochs: 31"))
    code, said = call(*asked)
    assert code == 2 and "has lion lr 0.001 seed 0 as the run mine-lion-s0-" in said, said
    assert "sweep.name=NAME" in said and len(made(tmp_path, "mine-lr")["cells"]) == 2


def test_without_a_page_the_cells_are_the_combinations(call: Call, tmp_path: Path) -> None:
    call("experiment=vit_proxy", "optimizer=lion,adamw", "optimizer.lr=1e-3,2e-3", "seed=range(3)")
    manifest = made(tmp_path, "vit_proxy-lr")
    assert len(manifest["cells"]) == 12 and manifest["budget"] == {"lion": 2, "adamw": 2}
    call("optimizer.betas=[0.9,0.99],[0.9,0.9]")
    assert made(tmp_path, "vit_proxy-betas")["axes"]["lion"]["betas"] == [[0.9, 0.9], [0.9, 0.99]]


def test_relative_to_another_optimizer(call: Call, tmp_path: Path) -> None:
    call("sweep=transfer")
    axes = made(tmp_path, "vit_proxy-transfer")["axes"]
    assert axes["lion"]["lr"] == [8e-4, 2.667e-3, 8e-3]
    assert axes["lion"]["weight_decay"] == [0.05, 0.15, 0.5]
    assert axes["adamw"]["lr"] == [2.667e-3, 8e-3, 2.4e-2]


def test_an_unequal_budget_is_refused(call: Call) -> None:
    page = "sweep.by_optimizer={adamw: {grid: {optimizer.eps: [1e-8, 1e-6]}}, lion: {}}"
    code, said = call("sweep=seeds", page)
    assert (code, said.count("\n")) == (2, 1)
    assert "the number of trials differs (adamw 2, lion 1)" in said
    code, said = call("sweep=seeds", page, "sweep.equal_budget=false")
    assert code == 0 and "UNEQUAL" in said


def test_a_folder_of_ones_own_pages(call: Call, tmp_path: Path) -> None:
    (tmp_path / "pages" / "sweep").mkdir(parents=True)
    (tmp_path / "pages" / "sweep" / "mine.yaml").write_text("grid: {optimizer.lr: [x1, x2]}\n")
    code, said = call("--config-dir", f"{tmp_path}/pages", "sweep=mine", "optimizer=lion")
    assert code == 0, said
    assert made(tmp_path, "vit_proxy-mine")["axes"]["lion"]["lr"] == [2e-3, 4e-3]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sweep=lr_wdd"], "sweep=lr_wdd: no such page; did you mean lr_wd?"),
        (["launcher=slrum", "sweep=seeds"], "launcher=slrum: no such page; did you mean slurm?"),
        (["sweep=seeds", "optimizr=lion"], "optimizr: no such key; did you mean optimizer?"),
        (["optimizer.lrr=1,2"], "optimizer.lrr: no such key; did you mean optimizer.lr?"),
        (["train.batch_size=8,x"], "train.batch_size=x: must be a whole number from 1 to"),
        (["optimizer=lion,lionn"], "optimizer=lionn: no such page; did you mean lion"),
        (["sweep=lr_wd", "optimizer=radam"], "radam has 0.0 there in vit_proxy: give it in a rec"),
        (["sweep=paper_heatmap", "optimizer=sgd"], "no axes for optimizer=sgd: choose from adam"),
        (["sweep=seeds", "sweep.sedes=[1]"], "sweep.sedes: no such key; did you mean seeds?"),
        (["sweep=seeds", "sweep.seeds=x"], "sweep.seeds=x: must be a list of 1 or more, each"),
        (["sweep=seeds", "sweep.grid=null"], "sweep.grid=null: must be a mapping"),
        (["sweep=seeds", f"sweep.name={'a' * 201}"], "must be a name of at most 200 bytes"),
        (["sweep=seeds", "sweep=lr_wd"], "sweep=seeds and sweep=lr_wd: choose one page"),
        (["seed=range(0,1000000000)"], "seed=range(0,1000000000): more than 100,000 values"),
        (["sweep=seeds", "start_from.source=nosuch"], "nosuch is no file, and no run in"),
        (["sweep=seeds", "results_dir=/dev/null"], "cannot make the folder /dev/null"),
        (["optimizer.lr=-1,1"], "optimizer.lr=-1: must be a finite number, 0 or more"),
        (["seed=range(5,1)"], "seed=range(5,1): there is no value in it"),
        (["seed=a,b"], "seed=a: must be a whole number"),
        (["sweep=seeds", "sweep.seeds=[]"], "sweep.seeds=[]: must be a list of 1 or more"),
        (["sweep=seeds", "sweep.max_tries=0"], "sweep.max_tries=0: must be a whole number"),
        (["sweep=seeds", "sweep.lease_seconds=-5"], "sweep.lease_seconds=-5: must be a"),
        (["sweep=seeds", "sweep.name=../../../x"], "sweep.name=../../../x: must be a name"),
        (["sweep=seeds", "sweep.grid={"], "grid"),
        (["sweep=lr_wd", "sweep.points=[{optimizer.lr:1}]"], "no such key; write a space behind"),
        (["sweep=seeds", "launcher=local", "launcher.num_workers=abc"], "num_workers=abc: must be"),
        (["sweep=seeds", "--cfg", "job"], "sweep=seeds does not go with --cfg (leave it out: "),
        (["sweep=seeds", "job=evaluate"], "sweep=seeds does not go with job=evaluate"),
        (["optimizer=glob(*)"], "optimizer=glob(*): list the values"),
        (["experiment=vit_s16_imagenet", "data.root=/a,/b"], "data.root=/a and data.root=/b are"),
        (["launch.num_threads=1,2"], "launch.num_threads=1 and launch.num_threads=2 are the same"),
        (["sweep=seeds", "launcher=local", "launcher.wokers=2"], "launcher.wokers: no such arg"),
    ],
)
def test_a_mistake_costs_one_line(call: Call, arguments: list[str], expected: str) -> None:
    code, said = call(*arguments)
    last = said.rstrip().splitlines()[-1]
    assert code == 2 and last.startswith("error: ") and expected in last, said


def test_a_page_without_multirun_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "sweep=lr_wd", "seed=1"])
    assert run.main() == 2
    assert (
        capsys.readouterr().err
    ) == "error: sweep=lr_wd needs -m: python run.py -m sweep=lr_wd seed=1\n"


def test_cells_composed_together_are_those_composed_one_by_one() -> None:
    base = ["experiment=vit_proxy", "optimizer=lion"]
    cells = [{"optimizer.lr": 1e-3, "seed": 2}, {"optimizer.betas": [0.9, 0.9], "train.epochs": 3}]
    one = run.compose([*base, "optimizer.lr=1e-3", "seed=2"])
    other = run.compose([*base, "optimizer.betas=[0.9,0.9]", "train.epochs=3"])
    assert run.compose_cells(base, cells) == [one, other]


CELLS: list[dict[str, Any]] = [
    {"optimizer.betas": [0.8, 0.9]},
    {"optimizer.betas": None},
    {"optimizer": {"lr": 5e-4}, "optimizer.weight_decay": 0.7},
    {"model": {"depth": 1}},
    {"param_groups.frozen": ["head.*"], "train.grad_clip_norm": 2.0},
    {"eval.every_steps": 7, "eval.every_epochs": None, "train.steps": 20, "train.epochs": None},
]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_cell_leaves_nothing_to_the_next(cell: dict[str, Any]) -> None:
    base = ["experiment=vit_proxy", "optimizer=lion"]
    plain, changed = run.compose(base), run.compose_cells(base, [cell])[0]
    assert changed != plain
    assert run.compose_cells(base, [{}, cell, {}, cell]) == [plain, changed, plain, changed]


@pytest.mark.parametrize("key", ["no_such.key", "model.no_such"])
def test_a_cell_with_an_unknown_key_is_one_line(key: str) -> None:
    with pytest.raises(ConfigError, match=key.rpartition(".")[2]):
        run.compose_cells(["experiment=vit_proxy"], [{}, {key: 1}])


@pytest.mark.slow
def test_a_sweep_from_the_command_line_to_its_end(call: Call, tmp_path: Path) -> None:
    """With real, spawned workers."""
    arguments = ["optimizer=lion,adamw", *SHORT, "launcher=local", "launcher.num_workers=1"]
    code, said = call(*arguments)
    assert code == 0 and "2 of 2 cells done (2 finished)" in said, said
    (path,) = (tmp_path / "sweeps").iterdir()
    sweep = Sweep(path)
    pids = {read_json(sweep.folder(cell).status)["pid"] for cell in sweep.cells}
    assert len(pids) == 1
    assert local.launch(path) == 0


def test_a_machine_without_gpus_does_not_choose_the_precision_of_workers_with_them(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "uses_gpu", lambda device: False)
    monkeypatch.setenv("PATH", str(tmp_path))  # on a cluster this would send a job
    asked = ["optimizer=lion", "seed=0,1", "launcher=slurm", "launch.device=auto"]
    for gpus in ("launcher.gpus_per_task=1", "launcher.extra={gres: 'gpu:1'}"):
        code, said = call(*asked, gpus)
        assert code == 2 and "say train.precision=bf16 or train.precision=fp32" in said
    assert not (tmp_path / "sweeps").exists()
    code, said = call(*asked, "launcher.gpus_per_task=1", "train.precision=fp32")
    assert code == 2 and "there is no SLURM here" in said


def test_a_sweep_is_started_once(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of two ranks would take two cells, and average their gradients."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    code, said = call("optimizer=lion", "seed=0,1")
    assert code == 2 and "a sweep is started once, not in each of 2 processes" in said
