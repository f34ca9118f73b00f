"""A program of ours that runs in a Python without its packages says so in a line."""

import ast
import errno
import os
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


def imported_first(path: Path) -> str:
    """The first module outside of the standard library that a script imports as it begins."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            name = getattr(node, "module", None) or node.names[0].name
            if name.partition(".")[0] not in sys.stdlib_module_names:
                return name
    return ""


def test_every_script_imports_ours_first_which_says_what_is_missing() -> None:
    scripts = [p for p in (ROOT / "scripts").glob("*.py") if "__main__" in p.read_text()]
    assert len(scripts) > 30
    for path in scripts:
        first = imported_first(path)
        if (path.parent / f"{first}.py").exists():  # a part of it
            assert not imported_first(path.parent / f"{first}.py"), path
        else:
            assert first.partition(".")[0] in ("experiments", ""), path


@pytest.mark.parametrize("name", ["bench_optimizers", "bench_runner", "bench_telemetry"])
def test_nor_do_scripts_import_others_before_ours_later(name: str) -> None:
    done = bare(f"scripts/{name}.py")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


def test_what_only_some_commands_need_is_named_with_its_version(
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs._explained(ModuleNotFoundError, ModuleNotFoundError(name="tokenizers.models"), None)
    assert capsys.readouterr().err.endswith("no tokenizers: pip install 'tokenizers>=0.23.1'\n")


def test_a_process_that_has_said_why_it_failed_is_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = subprocess.CalledProcessError(1, [sys.executable, "part.py"])
    programs._explained(type(error), error, None)
    assert capsys.readouterr().err.startswith("error: a process that this one started failed")
    programs._explained(type(error), subprocess.CalledProcessError(1, ["git"]), None)
    assert "CalledProcessError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.EACCES, "choose another place"), (errno.EROFS, "choose"), (errno.ENOSPC, "make room")],
)
def test_a_place_that_cannot_be_written_is_no_traceback(
    number: int, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(number, "unused", "results/plan.csv.5550-2a6e990e.tmp")
    programs._explained(type(error), error, None)
    said = capsys.readouterr().err
    assert said.startswith(f"error: results/plan.csv: {os.strerror(number)}: {remedy}")
    lost = FileNotFoundError(errno.ENOENT, "no such file", "plan.csv")  # our own fault
    programs._explained(type(lost), lost, None)
    assert "FileNotFoundError" in capsys.readouterr().err


def test_ctrl_c_while_packages_are_imported_is_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrapped = RuntimeError("Error calling __set_name__")  # Python 3.11, within a dataclass
    wrapped.__cause__ = KeyboardInterrupt()
    for error in (KeyboardInterrupt(), wrapped):
        programs._explained(type(error), error, None)
        assert capsys.readouterr().err == "stopped\n"


def test_the_check_of_a_card_says_that_torch_is_not_there() -> None:
    done = bare("scripts/gpu_check.py")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "has no torch: call this with the Python that has it" in done.stderr


def test_on_windows_one_line_says_where_it_runs() -> None:
    """There Python has no fcntl; None in place of a module stands for that."""
    as_there = (
        "import runpy, sys; sys.modules['fcntl'] = None; sys.argv[:] = sys.argv[1:];"
        "sys.path.insert(0, 'scripts'); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", as_there, "run.py", "--help"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert "has no" not in done.stderr
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(
        "error: this suite needs"
    )


def test_another_module_that_is_missing_keeps_its_traceback() -> None:
    assert programs._line(ModuleNotFoundError(name="somebodys.own")) == ""


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


@pytest.mark.parametrize("encoding", ["ascii:strict", "ascii:surrogateescape", "latin-1:strict"])
def test_letters_that_a_terminal_lacks_are_no_error(encoding: str, tmp_path: Path) -> None:
    """A table of 40 columns with LC_ALL=C ended a sweep by a traceback: its cut has three dots."""
    script = ROOT / "scripts" / "claims.py"  # what is ours is known by where it lies
    code = f"import sys; sys.modules['__main__'].__file__ = {str(script)!r}; import experiments; "
    code += r"print('a\u2026b \udcc3\udca9')"
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, env=environment, capture_output=True
    )
    assert done.stdout == b"a?b \xc3\xa9\n", done.stderr
