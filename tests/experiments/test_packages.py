"""What to install is said alike everywhere, and as pyproject.toml has it."""

import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import run
from experiments import packages
from experiments.build import build, locate
from experiments.compose import compose
from experiments.config import ConfigError, UserError
from experiments.data import bundled_paths
from experiments.data.tokenizer_training import train_bpe, train_sentencepiece
from experiments.packages import OPTIONAL, get, need, remedy

if sys.version_info >= (3, 11):
    import tomllib
else:  # what pytest brings there
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(TEXT)["project"]
EXTRAS = PROJECT["optional-dependencies"]
ROOMS = ("lion", "experiments")
DISTRIBUTIONS = {"hydra": "hydra-core", "yaml": "pyyaml", "PIL": "pillow", "IPython": "ipython"}
"""What is imported -> what is installed, where the names differ by more than punctuation."""
IMPORT = re.compile(
    r"^ *(?:import (?=[\w.]+(?: as \w+| *#.*)?$)|from (?=[\w.]+ import ))(\w+)", re.M
)
WITH_OTHERS = {"triton", "ipython"}
"""Of torch's own version; only within a notebook, which it shows."""
PINS = ("requirements.txt", "requirements-dev.txt")


def bounds() -> dict[str, list[Requirement]]:
    """Name of a package -> its bounds, of the core and of every extra that asks for it."""
    found: dict[str, list[Requirement]] = {}
    for asked in (PROJECT["dependencies"], *EXTRAS.values()):
        for requirement in map(Requirement, asked):
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    del found[PROJECT["name"]]  # extras that take in others
    return found


def pins() -> list[Requirement]:
    lines = [line for file in PINS for line in (ROOT / file).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def imported() -> set[str]:
    """Whose modules the packages import, wherever in a file."""
    files = [ROOT / "run.py", *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))]
    named = {top[1] for file in files for top in IMPORT.finditer(file.read_text())}
    return {DISTRIBUTIONS.get(str(top), str(top)) for top in named - sys.stdlib_module_names}


def test_what_is_imported_has_a_bound_of_its_own():
    """Other packages bring it, of versions that suit them."""
    found = {canonicalize_name(name) for name in imported()} - {"run", *ROOMS}
    assert found - set(bounds()) == WITH_OTHERS


def test_the_core_and_every_extra_ask_for_the_same_versions_of_a_package():
    asked = {name: {str(each.specifier) for each in all_} for name, all_ in bounds().items()}
    assert {name: texts for name, texts in asked.items() if len(texts) > 1} == {}


@pytest.mark.parametrize("pin", pins(), ids=str)
def test_what_is_pinned_is_within_the_bounds(pin: Requirement):
    """Of every Python and machine: a fresh environment is one that pyproject.toml takes."""
    [version] = [each.version for each in pin.specifier if each.operator == "=="]
    for bound in bounds().get(canonicalize_name(pin.name), []):
        assert bound.specifier.contains(version, prereleases=True)


def test_packages_that_an_extra_takes_are_tried():
    """All but those that make test leaves out: other optimizers to compare with, and Ray."""
    untried = {Requirement(each).name for extra in ("peers", "ray") for each in EXTRAS[extra]}
    pinned = {canonicalize_name(pin.name) for pin in pins()}
    assert set(bounds()) - pinned == {canonicalize_name(name) for name in untried}


def test_remedies_are_requirements_of_the_package():
    for requirement in OPTIONAL.values():
        assert f'"{requirement}"' in TEXT


def test_messages_ask_for_versions_that_the_package_takes():
    for path in (ROOT / "experiments").rglob("*.py"):
        for asked in re.findall(r"pip install ((?:'[\w<>=.,-]+' ?)+)", path.read_text()):
            for requirement in re.findall("'([^']+)'", asked):
                assert f'"{requirement}"' in TEXT, path


def test_no_message_asks_for_a_package_of_any_version():
    """An older one may be there already, brought by another package: pip would leave it."""
    for path in (ROOT / "experiments").rglob("*.py"):
        for asked in re.findall(r"pip install ([\w-]+(?:==)?)", path.read_text()):
            assert asked.endswith("==") or asked == "--force-reinstall", (path, asked)


def test_a_package_that_is_missing_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "needs.py").write_text(
        "def unet():\n    import diffusers.models\n\n\ndef other():\n    import nosuchpackage\n"
    )
    (tmp_path / "begins.py").write_text("import diffusers\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "diffusers"]:
        monkeypatch.delitem(sys.modules, name)
    wanted = "No module named 'diffusers'[:;] pip install 'diffusers>=0.33'$"
    with pytest.raises(ConfigError, match=f"model: cannot build needs.unet: {wanted}"):
        build({"_target_": "needs.unet"}, "model")
    with pytest.raises(ConfigError, match=wanted):
        locate("begins.unet", "model")
    with pytest.raises(ConfigError, match="ModuleNotFoundError: No module named 'nosuchpackage'"):
        build({"_target_": "needs.other"}, "model")


def test_errors_of_other_kinds_have_no_remedy():
    assert remedy(None) == remedy(ValueError("x")) == remedy(ModuleNotFoundError("x")) == ""
    cause = ModuleNotFoundError("No module named 'ray'", name="ray.util")
    error = RuntimeError("x")
    error.__cause__ = cause
    assert remedy(error) == remedy(cause) == "pip install 'ray>=2.40'"


def test_what_is_needed_hours_later_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch):
    need("torchmetrics", "distances")
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="^distances: pip install 'torchmetrics>=1.8'$"):
        need("torchmetrics", "distances")


@pytest.mark.parametrize("train", [train_sentencepiece, train_bpe])
def test_a_tokenizer_that_cannot_be_trained_says_what_to_install(train, monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install '(tokenizers|sentencepiece)>="):
        train(["a text"], 300)


def test_notebooks_say_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["notebooks.py", "--check"])
    assert importlib.import_module("notebooks").main() == 1
    said = capsys.readouterr().err
    assert said == "error: running notebooks: pip install 'nbformat>=5.10'\n"


def test_several_packages_are_asked_for_at_once():
    assert get("ray", "plotly") == "pip install 'ray>=2.40' 'plotly>=6'"


def test_versions_that_pip_is_told_stand_in_one_place():
    for path in (ROOT / "experiments").rglob("*.py"):
        if path != Path(packages.__file__):
            assert not re.search(r"pip install '[\w-]+[<>=]", path.read_text()), path


def test_a_search_does_not_need_what_the_page_of_a_run_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bundled_paths, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="scikit-learn"):
        run.run_job(compose([]))
    begun = SimpleNamespace(main=lambda config: 0)
    monkeypatch.setattr(run, "importlib", SimpleNamespace(import_module=lambda name: begun))
    assert run.run_job(compose(["job=search", "search=smoke"])) == 0


def test_the_tests_are_those_of_this_repository():
    """torch-fidelity installs a package `tests`, which stood in their place under pytest 8.0."""
    import tests

    assert Path(str(tests.__file__)).parent == ROOT / "tests"
