"""A program of ours that runs in a Python without its packages says so in a line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from experiments import programs

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = {"hydra-core": "hydra", "pyyaml": "yaml", "pillow": "PIL"}
"""What is installed -> what is imported, where the names differ."""


def bare(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What this Python does where it sees nothing but its standard library."""
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("program", "package"),
    [
        *[("run.py", "hydra"), ("scripts/compare.py", "numpy"), ("scripts/claims.py", "pandas")],
        *[("scripts/figures.py", "matplotlib"), ("scripts/demo.py", "hydra")],
    ],
)
def test_a_missing_package_is_one_line_with_a_remedy(program: str, package: str) -> None:
    done = bare(program)
    assert done.returncode == 1 and not done.stdout
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {sys.executable} has no {package}: ")
    assert "run.sh setup" in line or "bin/activate, then call this again" in line


def test_the_check_of_a_card_says_that_torch_is_not_there() -> None:
    done = bare("scripts/gpu_check.py")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "has no torch: call this with the Python that has it" in done.stderr


def test_the_traceback_can_be_had() -> None:
    assert "Traceback" in bare("run.py", LION_TRACEBACK="1").stderr


def test_another_program_keeps_its_traceback() -> None:
    done = bare("-c", "import experiments, hydra")
    assert "Traceback" in done.stderr and "run.sh" not in done.stderr


def test_the_core_is_what_is_always_installed() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = text.partition("\ndependencies = [")[2].partition("]")[0]
    names = [Requirement(each).name for each in re.findall(r'"(.+?)"', listed)]
    assert {IMPORTED.get(name, name) for name in names} == programs.CORE


def test_the_remedy_is_for_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "ROOT", tmp_path)
    assert "without --no-deps" in programs._remedy()  # an installed package
    (tmp_path / "run.sh").touch()
    place = tmp_path / ".venv"
    assert f"pip install {tmp_path}" in programs._remedy()
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "activate").touch()
    assert programs._remedy() == f". {place}/bin/activate, then call this again"
    monkeypatch.setattr(sys, "prefix", str(place))
    assert programs._remedy() == f"{tmp_path}/run.sh setup installs what is lacking"
