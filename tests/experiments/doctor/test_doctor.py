"""Each rule finds the fault that a run was made to have, and none speaks of a healthy one."""

from __future__ import annotations

import csv
import inspect
import json
import math
import random
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import faulty
import pandas as pd
import pytest
import tiny
import torch
import yaml

import run
from experiments import checkpoint
from experiments.config import UserError, to_dict
from experiments.doctor import __main__ as doctor_command
from experiments.doctor import given, readers, rules, sweep_rules
from experiments.doctor.evidence import Evidence
from experiments.headline import Headline
from experiments.identity import run_id
from experiments.runner import run as train
from experiments.store import Ledger, read_rows

ROOT = Path(run.__file__).parent
FOUND = {
    "twice": "a step applied twice",
    "bf16": "16-bit weights no longer move",
    "clipped": "clipping always on",
    "reset": "momentum reset at resume",
    "drift": "scalars drift",
    "nan": "not finite without a warning",
    "spikes then nan": "loss spikes before it diverged",
    "no warm-up": "warm-up too short",
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return doctor_command


def rules_of(findings: list[Any]) -> list[str]:
    return [finding.rule for finding in findings]


@pytest.mark.parametrize("fault", faulty.FAULTS)
def test_a_made_fault_is_found_and_nothing_else(
    fault: str, tmp_path: Path, script: ModuleType
) -> None:
    log = faulty.log_of(tmp_path / "log.jsonl", fault)
    found = script.findings(log, faulty.settings(fault), {})
    assert rules_of(found) == ([FOUND[fault]] if fault else [])
    assert all(f.evidence and f.remedy and f.source for f in found)


SWITCH = {"optimizer": "lion", "lr": 1e-4, "batch_size": 256}
BASELINE = {"lr": 1e-3, "weight_decay": 0.1}


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"weight_decay": 0.1}, "lr x weight decay not kept"),
        ({"weight_decay": 1.0}, None),
        ({"weight_decay": 10.0}, "lr x weight decay not kept"),
        ({"weight_decay": 0.1, "optimizer": "adamw"}, None),
        ({"weight_decay": 1.0, "final_lr": 1e-5}, None),
        ({"weight_decay": 1.0, "final_lr": 5e-5}, "final lr not scaled"),
        ({"weight_decay": 1.0, "final_lr": 1e-9, "base": 0.0}, None),
        ({"weight_decay": 1.0, "final_lr": 1e-5, "base": 0.0}, "final lr not scaled"),
        ({"weight_decay": 1.0, "batch_size": 32}, "small batch"),
        ({"weight_decay": 1.0, "batch_size": 64}, None),
    ],
)
def test_settings_alone(given: dict[str, Any], rule: str | None) -> None:
    end = {"final_lr": given.get("base", 1e-4)}
    evidence = Evidence("", settings=SWITCH | given, baseline=BASELINE | end)
    assert rules_of(rules.examine(evidence)) == ([rule] if rule else [])


def test_the_paper_keeps_lr_times_weight_decay(script: ModuleType) -> None:
    """No recipe of ours is taken for a mistake, but those that the paper has so."""
    accused = set()
    for page in sorted((run.CONF / "recipe").glob("*/lion.yaml")):
        settings = yaml.safe_load(page.read_text())["optimizer"] | {"optimizer": "lion"}
        baseline = script.recipe_of_baseline(page.parent.name)
        if rules_of(rules.examine(Evidence("", settings=settings, baseline=baseline))):
            accused.add(page.parent.name)
    assert accused == ACCUSED


ACCUSED = {"lm_proxy"}
"""Its pilot of one seed has picked a decay that is 6 times as strong."""


def sweep(**by_optimizer: list[float]) -> pd.DataFrame:
    """Accuracy over learning rates 1, 2, 3, ..., two seeds."""
    rows = [
        {"optimizer": name, "lr": lr, "seed": seed, "state": "finished", "val": value + seed}
        for name, values in by_optimizer.items()
        for lr, value in enumerate(values, 1)
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (sweep(adamw=[1, 3, 2], lion=[2, 4, 3]), []),
        (sweep(adamw=[1, 3, 2], lion=[2, 3, 4]), ["best cell on an edge"]),
        (sweep(adamw=[1, 3, 2], lion=[2, 3, 4]).assign(sweep="a-fresh"), []),  # no grid
        (sweep(adamw=[1, 3, 2], lion=[2, 3, 4]).assign(sweep="fresh"), ["best cell on an edge"]),
        (sweep(adamw=[1, 3, 2], lion=[2, 4, 3, 1]), ["unequal budgets"]),
    ],
)
def test_sweeps(table: pd.DataFrame, found: list[str]) -> None:
    assert rules_of(sweep_rules.examine(table, Headline("val", "higher", "%"))) == found


def test_an_edge_is_one_of_the_same_data() -> None:
    """Runs of other data stood for the same setting and seed, and nothing was said."""
    both = pd.concat(
        [sweep(lion=[2, 3, 4]).assign(data="a"), sweep(lion=[1, 3, 2]).assign(data="b")]
    )
    (found,) = sweep_rules.examine(both, Headline("val", "higher", "%"))
    assert found.rule == "best cell on an edge" and found.evidence.startswith("lion (data=a)")


def test_no_false_alarm_over_the_committed_studies(script: ModuleType) -> None:
    """Sweeps, and every curve in them: what is found is counted, and is right."""
    counted: dict[str, int] = {}
    for study in sorted((ROOT / "results/studies").glob("*/*/runs.csv")):
        for finding in script.findings(study, {}, {}):
            counted[finding.rule] = counted.get(finding.rule, 0) + 1
        table = pd.read_csv(study).set_index("run_id")
        if not (study.parent / "curves.csv").exists():
            continue
        for name, curve in pd.read_csv(study.parent / "curves.csv").groupby("run_id"):
            if name not in table.index:
                continue
            facts = table.loc[name]
            evidence = Evidence(
                str(name),
                settings={
                    key: facts[key] for key in ("optimizer", "lr", "weight_decay", "batch_size")
                },
            )
            losses = curve[(curve.split == "train") & (curve.metric == "loss")]
            evidence.series["loss"] = list(zip(losses.step, losses.value, strict=True))
            for finding in rules.examine(evidence):
                counted[finding.rule] = counted.get(finding.rule, 0) + 1
    assert counted == COUNTED


COUNTED = {
    "small batch": 100,
    "warm-up too short": 39,
    "best cell on an edge": 36,
    "unequal budgets": 7,
}
"""Of 2,700 curves. Of the 39, one run ended within 3 points of its optimizer's best; the edges are
those of PowerSign and sign momentum 0.9 in the study of the optimizers, one of Lion's with 200
examples, LAMB's on the signals, fourteen of `batch_and_steps`, three of `steps`, seven of
`betas_and_steps` and three of `long_runs`, whose weight decays hardly matter (no pick is reported,
but for the smooth tops, which know an edge), and five of the seven studies `carried_over`, which
tune nothing and give AdamW one setting and Lion four."""


@pytest.mark.parametrize("noise", [0.02, 0.15, 0.3])
def test_losses_of_single_batches_are_no_rise(noise: float) -> None:
    """Half of such healthy logs were told to warm up longer: the largest of ten is large."""
    chance = random.Random(0)
    for _ in range(100):
        falling = [(float(step), 2.0 - step / 1000) for step in range(0, 1000, 10)]
        seen = [(step, value * math.exp(chance.gauss(0, noise))) for step, value in falling]
        assert not rules.examine(Evidence("", series={"loss": seen}))
        climbing = [(step, (1 + 29 * (20 < step < 90)) * value) for step, value in seen]
        found = rules_of(rules.examine(Evidence("", series={"loss": climbing})))
        assert found == ["warm-up too short"]


def test_a_warm_up_that_is_a_share_of_epochs_is_known(tmp_path: Path, script: ModuleType) -> None:
    """A run with a warm-up of 20 % was told to take one of 10 %."""
    config = tiny.config(tmp_path, schedule__warmup_fraction=0.2)
    folder = tmp_path / run_id(config)
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(config)))
    (folder / "status.json").write_text('{"state": "finished", "total_steps": 1000}')
    row = {"epoch": 1.0, "split": "train", "metric": "loss", "unit": "nats", "weights": "raw"}
    rises = [(10, 2.0), (30, 2.8), (60, 2.6), (100, 2.2), (1000, 1.0)]
    Ledger(folder / "metrics.jsonl").append(
        [{**row, "step": s, "value": v, "n": 1, "seconds": 1.0, "session": 0} for s, v in rises]
    )
    sessions = [{"start_step": step} for step in (0, 80, 40, 80)]
    (folder / "run.json").write_text(json.dumps({"sessions": sessions}))
    run = readers.read(folder)
    assert run.resumed_at == [40.0, 80.0]
    assert run.settings["warmup_steps"] == 200 and not list(rules.warmup_too_short(run))
    run.settings["warmup_steps"] = 20
    assert list(rules.warmup_too_short(run))


def test_the_loss_is_known_by_the_name_that_examples_give_it(
    tmp_path: Path, script: ModuleType
) -> None:
    """A NaN in `Loss/train` was not seen: nothing found."""
    from torch.utils.tensorboard import SummaryWriter

    for name, found in (("Loss/train", True), ("Loss", True), ("eval/accuracy", False)):
        board = SummaryWriter(str(tmp_path / name))
        for step in range(20):
            board.add_scalar(name, 1.0 if step < 10 else math.nan, step)
        board.close()
        if found:
            log = tmp_path / f"{name.replace('/', '_')}.csv"
            log.write_text(f"step,{name}\n0,1.0\n1,nan\n")
            for path in (tmp_path / name, log):
                assert rules_of(script.findings(path, {}, {})) == ["not finite without a warning"]
        else:
            with pytest.raises(UserError, match="no column for the loss"):
                script.findings(tmp_path / name, {}, {})


def test_telemetry_changes_neither_the_run_nor_its_name(tmp_path: Path, script: ModuleType) -> None:
    on = {"tracking__telemetry_every_steps": 4}
    plain, watched = (tiny.config(tmp_path / n, **c) for n, c in (("a", {}), ("b", on)))
    assert run_id(plain) == run_id(watched)
    ends = [train(one) for one in (plain, watched)]
    weights = [
        checkpoint.load(checkpoint.list_newest_first(end.folder / "checkpoints")[0])["model"]
        for end in ends
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    rows = [
        row for row in read_rows(ends[1].folder / "metrics.jsonl") if row["split"] == "telemetry"
    ]
    names = {row["metric"] for row in rows}
    wanted = {"grad_norm", "clip_share", "lr_times_weight_decay/decay"}
    wanted |= {f"{name}/no_decay" for name in ("update_rms", "weight_rms", "update_ratio")}
    wanted |= {f"{name}/decay" for name in ("sign_flips", "zero_updates", "momentum_rms")}
    assert wanted <= names
    assert {row["step"] for row in rows} == {4, 8, 12, 16, 20, 24}
    assert not any(r["split"] == "telemetry" for r in read_rows(ends[0].folder / "metrics.jsonl"))
    assert set(rules_of(script.findings(ends[1].folder, {}, {}))) <= {
        "small batch", "clipping always on",
    }  # fmt: skip


def test_csv_tensorboard_and_offline_wandb_tell_the_same(
    tmp_path: Path, script: ModuleType
) -> None:
    log = faulty.log_of(tmp_path / "log.jsonl", "twice")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    table = tmp_path / "log.csv"
    columns = list(dict.fromkeys(key for line in lines for key in line))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(str(tmp_path / "board"))
    for line in lines:
        for name, value in line.items():
            if name != "step":
                board.add_scalar(name, value, line["step"])
    board.close()
    settings = faulty.settings("twice")
    for path in (table, tmp_path / "board"):
        assert rules_of(script.findings(path, settings, {})) == ["a step applied twice"], path


def test_an_offline_wandb_run_brings_its_settings(tmp_path: Path, script: ModuleType) -> None:
    wandb = pytest.importorskip("wandb")
    settings = wandb.Settings(x_disable_stats=True, console="off", silent=True)
    config = {"optimizer": "lion", "learning_rate": 1e-4, "wd": 0.1, "batch_size": 16}
    with wandb.init(mode="offline", dir=str(tmp_path), config=config, settings=settings) as one:
        for step in range(3):
            one.log({"loss": 1.0}, step=step)
    wandb.teardown()  # its service has then written all
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    found = script.findings(folder, {}, {"lr": 1e-3, "weight_decay": 0.1})
    assert rules_of(found) == ["lr x weight decay not kept", "small batch"]


def test_command_line(
    tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    log = faulty.log_of(tmp_path / "log.jsonl", "nan")
    assert script.main([str(log), "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding["rule"] == "not finite without a warning"
    assert script.main([str(log), "--set", "optimizer=lion", "batch_size=8"]) == 0
    assert "small batch" in capsys.readouterr().out
    for wrong, said in (
        (["nowhere"], "neither a file or folder nor a run"),
        ([str(log), "--set", "lr"], "KEY=VALUE"),
        ([str(tmp_path)], "neither a run's folder nor"),
    ):
        assert script.main(wrong) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "typed, said",
    [
        (["--set", "batchsize=8"], "no such setting of a run; did you mean batch_size? there are"),
        (["--set", "better=lower"], "no such setting of a run; there are: optimizer"),
        (["--set", "lr=1e-4,weight_decay=0.1"], "must be a number of at least 0 (and a space"),
        (["--set", "lr=small"], "--set lr=small: must be a number"),
        (["--set", "warmup_steps=-1"], "must be a number of at least 0"),
        (["--set", "total_steps=nan"], "must be a number"),
        (["--set", "param_dtype=bf61"], "must be one of float32, float64, bfloat16, float16"),
        (["--baseline", "lr=1e-3", "wieght_decay=1"], "a baseline; did you mean weight_decay?"),
        (["--baseline", "lr"], "--baseline lr: say KEY=VALUE"),
    ],
)
def test_what_is_told_of_a_run_is_never_ignored(
    typed: list[str], said: str, tmp_path: Path, script: ModuleType,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert script.main([str(faulty.log_of(tmp_path / "log.jsonl", "nan")), *typed]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1


def test_of_a_sweep_only_its_direction_can_be_told(
    tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "runs.csv"
    sweep(adamw=[1, 3, 2], lion=[2, 4, 3]).to_csv(table, index=False)
    assert script.main([str(table), "--set", "better=higher"]) == 0
    for typed, said in (
        (["--set", "better=up"], "must be one of higher, lower"),
        (["--set", "lr=1"], "no such setting of a sweep, whose table holds all others"),
        (["--baseline", "lr=1"], "says nothing of a sweep's table"),
    ):
        assert script.main([str(table), *typed]) == 2
        assert said in capsys.readouterr().err


def test_settings_add_up_and_have_the_names_of_others_too(
    tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    log = str(faulty.log_of(tmp_path / "log.jsonl", ""))
    of_run = ["--set", "optimizer=lion", "--set", "learning_rate=1e-4", "wd=0.1"]
    assert script.main([log, *of_run, "--baseline", "lr=1e-3", "--baseline", "wd=0.1"]) == 0
    assert "lr x weight decay not kept" in capsys.readouterr().out


def test_every_setting_that_a_rule_asks_for_can_be_told() -> None:
    asked = set(re.findall(r'(?:number|settings\.get)\("(\w+)"', inspect.getsource(rules)))
    assert len(asked) > 5 and asked <= set(given.OF_RUN)


SWEEP = "optimizer,lr,seed,state,val\n"
NO_NUMBER, NO_LOSS, NO_RUN = "no number could be read", "no column for the loss", "a row per run"


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("no_loss.csv", b"a,b\n1,2\n", NO_LOSS),
        ("empty.csv", b"", NO_NUMBER),
        ("header.csv", b"step,loss\n", NO_NUMBER),
        ("words.csv", b"step,loss\n1,high\n", NO_NUMBER),
        ("bytes.csv", bytes(range(1, 256)) * 4, NO_NUMBER),
        ("endless.csv", b"step,loss\n" + b"1" * 200_000, "field larger than"),
        ("nan_steps.csv", b"step,loss\nnan,1\ninf,2\n", NO_NUMBER),
        ("empty.jsonl", b"", NO_NUMBER),
        ("list.jsonl", b"[1, 2]\n", NO_NUMBER),
        ("events.out.tfevents.1", b"garbage" * 50, NO_NUMBER),
        ("run.wandb", b"garbage", NO_NUMBER),
        ("sweep.csv", SWEEP.encode(), NO_RUN),
        ("sweep_of_words.csv", f"{SWEEP}lion,low,0,finished,1\n".encode(), NO_RUN),
        ("sweep_cut.csv", f'{SWEEP}"lion,0.1\n'.encode(), "EOF inside string"),
    ],
)
def test_a_log_that_tells_nothing_is_an_error_of_one_line(
    name: str, content: bytes, said: str, tmp_path: Path, script: ModuleType,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    log = tmp_path / name
    log.write_bytes(content)
    assert script.main([str(tmp_path if "tfevents" in name else log)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    "name, content",
    [
        ("log.csv", b"\xef\xbb\xbfStep, Train_Loss\n7,2\n99999999999999999999,nan\n"),
        ("log.csv", b"step,loss,more\n7,2\n99999999999999999999,nan,1,2,3\n"),
        ("log.jsonl", b'{"step": 7, "loss": 2}\n{"step": 99999999999999999999, "loss": NaN}\n{"s'),
        ("metrics.jsonl", b'{"step": 7, "loss": "2"}\n{"step": 1e20, "loss": "nan"}\n'),
    ],
)
def test_steps_of_any_size_and_odd_rows_are_read(
    name: str, content: bytes, tmp_path: Path, script: ModuleType
) -> None:
    log = tmp_path / name
    log.write_bytes(content)
    (finding,) = script.findings(tmp_path if name == "metrics.jsonl" else log, {}, {})
    assert "not finite at step 100000000000000000000," in finding.evidence


def test_lines_that_are_no_json_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('epoch 1 done\n{"step": 1, "loss": 2}\n[1]\n{"step": 2, "loss": 1}\n{"cut')
    assert readers.read(log).series["loss"] == [(1.0, 2.0), (2.0, 1.0)]
    assert "3 of 5 lines are no JSON objects" in capsys.readouterr().err
