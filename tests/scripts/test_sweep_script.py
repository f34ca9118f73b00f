"""scripts/sweep.py: a slip on its command line costs one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import swept

from experiments.sweep import __main__ as script


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["confirm", "x", "--seeds", "0-1000000000000"], "more than 100,000 seeds"),
        (["confirm", "x", "--seeds", "5-3"], "no seed"),
    ],
)
def test_odd_seeds_are_one_line(arguments: list[str], said: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        script.main(arguments)
    assert said in capsys.readouterr().err


def test_settings_of_the_launcher_may_stand_anywhere(capsys: Any) -> None:
    parse = script.parse
    for action in ("confirm", "resume", "then"):
        args = parse([action, "x", "num_workers=4", "--launcher", "vectorised", "max_group=8"])
        assert args.changes == ["num_workers=4", "max_group=8"]
        assert args.launcher == "vectorised" and args.name == "x"
    args = parse(["confirm", "x", "launcher=slurm", "launcher.num_workers=4"])  # as for run.py
    assert args.launcher == "slurm" and args.changes == ["num_workers=4"]
    for odd in (["status", "x", "num_workers=4"], ["resume", "x", "--launcher", "local", "-q=1"]):
        with pytest.raises(SystemExit):
            parse(odd)
        assert f"unrecognized arguments: {odd[-1]}" in capsys.readouterr().err


def test_a_damaged_sweep_does_not_hide_the_others(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept.sweep(tmp_path, swept.cells(tmp_path, 1))
    (tmp_path / "sweeps/damaged").mkdir()
    (tmp_path / "sweeps/damaged/manifest.json").write_text("{")
    monkeypatch.setattr(script, "SWEEPS", tmp_path / "sweeps")
    assert script.main(["status"]) == 1
    damaged, trial = capsys.readouterr().out.splitlines()
    assert "manifest.json is damaged" in damaged and trial == "trial: 1 waiting"


def test_a_study_stays_within_its_folder(tmp_path: Path, capsys: Any) -> None:
    sweep = swept.sweep(tmp_path, swept.cells(tmp_path, 1))
    assert script.main(["collect", str(sweep.path), "--study", "../../x"]) == 2
    assert "--study=../../x: must be a name" in capsys.readouterr().err
