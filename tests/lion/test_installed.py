"""Wheel and sdist carry all that is needed: unpacked in an empty folder, they step and compose."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import experiments
from experiments.pages import script

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("lion", "experiments", "conf", "run.py", "setup.py", "pyproject.toml", "MANIFEST.in")
NAMED = ("results/extractors", "results/studies/program_search/programs")

CODE = [*(ROOT / "experiments").rglob("*.py"), *(ROOT / "lion").rglob("*.py"), ROOT / "run.py"]
TYPED = r"scripts/\w|python run\.py"
SOURCES = ("Our measurement, scripts/", "Cost: scripts/")
"""How captions begin that say with what their numbers were measured."""

STEP_ALL = """
import torch, lion, warnings
warnings.simplefilter("error")
for name in ("Lion", "HeroLion", "PowerSign", "AddSign"):
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = getattr(lion, name)([weight], lr=0.5)
    for _ in range(2):
        weight.grad = torch.ones(3)
        optimizer.step()
    assert weight.lt(0).all(), name
from lion import native
print(lion.__file__, native.is_loaded(), sep="\\n")
"""


def build(folder: Path, kind: str, name: str = "lion-experiments") -> Path:
    """What `pip wheel` and `python -m build` make of a source tree."""
    out = folder / f"out-{kind}"
    out.mkdir()
    program = f"from setuptools import build_meta as b; print(b.build_{kind}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-1000:]
    return out / done.stdout.split()[-1]


def copy_sources(folder: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__")
    for part in (*PARTS, *NAMED, "README.md", "LICENSE"):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=ignore)
        else:
            shutil.copy(source, folder / part)
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel that is built from the sdist, unpacked where nothing else of ours is."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("package")
    (folder / "source").mkdir()
    sdist = build(copy_sources(folder / "source"), "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (tree,) = (folder / "sdist").iterdir()
    site = folder / "site"
    with zipfile.ZipFile(build(tree, "wheel")) as archive:
        archive.extractall(site)
    return site


def run_there(site: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *command], cwd=site.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def messages(path: Path) -> list[str]:
    """Every text of a file but its doc strings."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    values = [n.value for n in nodes if isinstance(n, ast.Constant) and id(n) not in alone]
    return [value for value in values if isinstance(value, str)]


def test_every_optimizer_steps_from_the_package(installed):
    file, loaded = run_there(installed, "-c", STEP_ALL).split()
    assert Path(file).is_relative_to(installed)
    has_compiler = any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))
    assert loaded == str(has_compiler and sys.platform == "linux")


def test_the_pages_compose_from_the_package(installed):
    printed = run_there(installed, "-m", "run", "optimizer=adamw", "--cfg", "job")
    assert "_target_: torch.optim.AdamW" in printed
    there = {path.name for path in (installed / "experiments" / "conf").iterdir()}
    assert there == {path.name for path in (ROOT / "conf").iterdir()}


@pytest.mark.parametrize("name", ["compare", "sweep", "search", "doctor"])
def test_commands_come_with_the_package(name, installed):
    """They name themselves as they are called there, and as scripts in a checkout."""
    helped = run_there(installed, "-m", f"experiments.{name}", "--help")
    assert helped.startswith(f"usage: python -m experiments.{name} ")
    assert "python scripts/" not in helped
    assert script(name) == f"python scripts/{name}.py" and (ROOT / f"scripts/{name}.py").is_file()


def test_help_tells_what_can_be_typed_where_the_package_is_installed(installed):
    helped = run_there(installed, "-m", "run", "--help")
    assert "run.py" not in helped and "scripts/" not in helped
    assert "\n  lion-experiments experiment=vit_proxy" in helped
    assert "torchrun --nproc_per_node=8 -m run ..." in helped


@pytest.mark.parametrize("module", ["run", "experiments.compare", "experiments.sweep"])
def test_what_the_lone_optimizer_came_without_is_one_line(module, installed):
    """`pip install --no-deps` was told to call a run.sh of site-packages, or got a traceback."""
    environment = {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-S", "-m", module],
        cwd=installed.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    [line] = done.stderr.splitlines()
    assert re.match(r"error: \S+ has no \w+: pip install lion-experiments from ", line), line
    assert line.endswith("without --no-deps") and done.returncode == 1


def test_the_command_of_the_package_says_so_too(installed, tmp_path):
    command = tmp_path / "lion-experiments"  # as pip writes it
    command.write_text("import sys\nfrom run import main\nsys.exit(main())\n")
    environment = {"PYTHONPATH": str(installed)}
    arguments = [sys.executable, "-S", str(command)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.stderr.endswith("without --no-deps\n") and done.stderr.count("\n") == 1


def test_what_only_a_checkout_has_is_named_as_of_a_checkout(installed):
    program = "from experiments.pages import script; print(script('claims'), script('sweep'))"
    said = run_there(installed, "-c", program).strip()
    assert said == "python CHECKOUT/scripts/claims.py python -m experiments.sweep"


def test_no_message_names_a_script_by_itself():
    """`pages.script` says how it is called; a doc string may, and so may where a figure is from."""
    named = [(path, text) for path in CODE for text in messages(path) if re.search(TYPED, text)]
    left = {str(path.relative_to(ROOT)) for path, text in named if not text.startswith(SOURCES)}
    assert left <= {"run.py", "experiments/pages.py"}


def test_every_file_of_the_packages_is_in_the_wheel(installed):
    for package in ("lion", "experiments"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (installed / path.relative_to(ROOT)).exists(), path


def test_files_that_pages_name_are_in_the_wheel(installed):
    program = (
        "import sys; from experiments.pages import shipped; print(*map(shipped, sys.argv[1:]))"
    )
    names = [str(f.relative_to(ROOT)) for folder in NAMED for f in (ROOT / folder).iterdir()]
    for name, found in zip(names, run_there(installed, "-c", program, *names).split(), strict=True):
        assert Path(found).is_relative_to(installed)
        assert Path(found).read_bytes() == (ROOT / name).read_bytes()


def test_a_distribution_called_lion_is_refused(tmp_path):
    folder = copy_sources(tmp_path)
    page = folder / "pyproject.toml"
    page.write_text(page.read_text().replace('name = "lion-experiments"', 'name = "lion"'))
    command = [sys.executable, "setup.py", "-q", "build_py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode != 0 and "must not be called 'lion'" in done.stderr


@pytest.mark.parametrize("files", [["__init__.py"], ["__init__.py", "rule.py"], []])
def test_a_foreign_lion_is_named_in_one_line(files, tmp_path, monkeypatch):
    """PyPI's `lion` alone, and over the files of ours; and none at all."""
    (tmp_path / "lion").mkdir()
    for name in files:
        (tmp_path / "lion" / name).write_text("from lion.mapper import Mapper\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "lion", raising=False)
    assert experiments._foreign_lion() == (
        str(tmp_path / "lion" / "__init__.py") if files else "nothing"
    )
    monkeypatch.setattr(sys, "path", [str(ROOT)])
    assert experiments._foreign_lion() == ""
