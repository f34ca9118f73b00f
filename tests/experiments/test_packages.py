"""What to install is said alike everywhere, and as pyproject.toml has it."""

import re
import sys
from pathlib import Path

import pytest

from experiments import packages
from experiments.build import build, locate
from experiments.config import ConfigError, UserError
from experiments.packages import OPTIONAL, need, remedy

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "pyproject.toml").read_text()


def test_remedies_are_requirements_of_the_package():
    for requirement in OPTIONAL.values():
        assert f'"{requirement}"' in TEXT


def test_messages_ask_for_versions_that_the_package_takes():
    for path in (ROOT / "experiments").rglob("*.py"):
        for asked in re.findall(r"pip install ((?:'[\w<>=.,-]+' ?)+)", path.read_text()):
            for requirement in re.findall("'([^']+)'", asked):
                assert f'"{requirement}"' in TEXT, path


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
    with pytest.raises(UserError, match="^distances: pip install 'torchmetrics>=1.6'$"):
        need("torchmetrics", "distances")
