"""A finished run says so when its own code has changed, and nothing else makes it say so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from experiments import ended, runner, sources, surroundings
from experiments.config import RunConfig
from experiments.data.in_memory import InMemoryImages
from experiments.store import read_json
from experiments.tasks.image import ImageClassification

SHORT: dict[str, Any] = {"train__epochs": 1.0, "train__ema_decay": None}
LAB = {
    "__init__.py": "",
    "data.py": "import torch\nimport tiny\nfrom lab import noise\n\n\ndef images():\n"
    "    return tiny.images(name=noise.NAME)\n",
    "noise.py": "from .deeper import level\nNAME = 'noisy'\n",
    "deeper/__init__.py": "",
    "deeper/level.py": "LEVEL = 1.0\n",
    "other.py": "UNUSED = True\n",
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a user's own, in no repository."""
    folder = tmp_path / "code" / "lab"
    for name, text in LAB.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(folder.parent)
    sources._is_own.cache_clear()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "lab"]:
        del sys.modules[name]
    sources._is_own.cache_clear()


def configure(root: Path) -> RunConfig:
    return tiny.config(root / "runs", data={"_target_": "lab.data.images"}, **SHORT)


@pytest.mark.parametrize(
    ("file", "is_said"),
    [("data.py", True), ("noise.py", True), ("deeper/level.py", True), ("other.py", False)],
)
def test_a_finished_run_says_that_its_code_has_changed(
    tmp_path: Path, lab: Path, capsys: pytest.CaptureFixture[str], file: str, is_said: bool
) -> None:
    config = configure(tmp_path)
    first = runner.run(config)
    assert runner.run(config).results == first.results
    assert capsys.readouterr().err == ""
    with (lab / file).open("a") as text:
        text.write("# another\n")
    assert runner.run(config).results == first.results
    said = capsys.readouterr().err
    assert ("the code of its data has changed since" in said) == is_said
    assert (f"to train anew, move {first.folder} away or say results_dir=" in said) == is_said
    assert said.count("\n") == is_said
    (first.folder / "status.json").unlink()
    runner.run(config)
    log = (first.folder / "log.txt").read_text()
    assert ("going on, though the code of its data has changed" in log) == is_said
    assert runner.run(config).state == "finished"
    assert capsys.readouterr().err == ""  # the last session is of the present code


def test_another_commit_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny.config(tmp_path, **SHORT)
    monkeypatch.setattr(surroundings, "commit", lambda: "aaaa")
    runner.run(config)
    monkeypatch.setattr(ended, "commit", lambda: "bbbb+")
    runner.run(config)
    assert "it was trained at commit aaaa, and this is bbbb+; to tr" in capsys.readouterr().err
    monkeypatch.setattr(ended, "commit", lambda: "")  # no git here: nothing is known
    runner.run(config)
    assert capsys.readouterr().err == ""


def test_hashes_are_of_ones_own_files_and_import_none(lab: Path, tmp_path: Path) -> None:
    config = configure(tmp_path)
    config.model = {"_target_": "timm.create_model", "inner": [{"_target_": "lab.other.UNUSED"}]}
    config.optimizer = {"_target_": "torch.optim.AdamW"}
    config.task = {"_target_": "experiments.tasks.image.ImageClassification"}
    before = set(sys.modules)
    found = sources.hashes(config)
    assert set(found) == {"task", "data", "model"}
    assert {name for name in set(sys.modules) - before if name != "lab"} <= {"lab.deeper"}
    assert sources.hashes(config) == found
    config.model = {"_target_": "nowhere.at.all"}
    assert set(sources.hashes(config)) == {"task", "data"}
    (lab / "data.py").write_text("import torch\nthis is no Python\n")
    assert sources.hashes(config)["data"] != found["data"]


def test_the_header_has_the_fingerprint_of_the_data_and_a_resume_compares_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.config(tmp_path, **SHORT)
    build = ImageClassification.__init__

    def with_fingerprint(self: Any, *args: Any, **more: Any) -> None:
        build(self, *args, **more)
        self.source.fingerprint = fingerprint

    monkeypatch.setattr(ImageClassification, "__init__", with_fingerprint)
    for fingerprint in ("abc", "abc", "xyz"):
        folder = runner.run(config).folder
        (folder / "status.json").unlink()
        differs = "(fingerprint abc, now xyz)" in (folder / "log.txt").read_text()
        assert differs == (fingerprint == "xyz")
    assert read_json(folder / "run.json")["data_fingerprint"] == "abc"


def test_without_a_fingerprint_the_header_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(InMemoryImages, "fingerprint")
    folder = runner.run(tiny.config(tmp_path, **SHORT)).folder
    header = read_json(folder / "run.json")
    assert "data_fingerprint" not in header
    assert set(header["sessions"][0]["sources"]) == {"task", "data", "model", "optimizer"}


def test_the_commit_says_what_changes_a_run_and_no_more(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)

    for name in ("code.py", "room/README.md", "results/table.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    clean = surroundings.commit(tmp_path)
    assert len(clean) == 12
    (tmp_path / "results/table.csv").write_text("2")
    (tmp_path / "room/README.md").write_text("2")
    assert surroundings.commit(tmp_path) == clean
    (tmp_path / "code.py").write_text("2")
    (tmp_path / "room/README.md").touch()  # git would note in its index that it is the same file
    index = tmp_path / ".git/index"
    before = index.stat()
    assert surroundings.commit(tmp_path) == f"{clean}+"
    assert index.stat().st_ino == before.st_ino, "whoever commits meanwhile would find it locked"
    assert surroundings.commit(tmp_path / "nowhere") == ""


def test_code_that_is_not_found_is_not_called_changed() -> None:
    before = {"sources": {"data": "a", "model": "b"}}
    said = sources.difference(before, {"sources": {"model": "b"}, "commit": ""})
    assert said == "the code of its data is an installed one now, or not found (PYTHONPATH?)"


def test_a_process_keeps_the_commit_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["", "aaaa", "bbbb"])
    monkeypatch.setattr(surroundings, "_own", [])
    monkeypatch.setattr(surroundings, "_commit_of", lambda root: next(answers))
    monkeypatch.setattr(surroundings, "installed", lambda file: "")
    monkeypatch.setattr(surroundings, "_is_tracked", lambda file: True)
    assert [surroundings.commit() for _ in range(4)] == ["", "aaaa", "aaaa", "aaaa"]


def test_an_installed_package_has_a_hash_for_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the files that change a run, not of all that pip lists, nor of a repository around it."""
    subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)
    code = tmp_path / "experiments" / "surroundings.py"
    code.parent.mkdir()
    code.write_text("1")
    listed = tmp_path / "lion_experiments-0.1.0.dist-info" / "RECORD"
    listed.parent.mkdir()
    (listed.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: lion-experiments\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(surroundings, "__file__", str(code))

    def commit(*lines: str) -> str:
        listed.write_text("\n".join(lines))
        monkeypatch.setattr(surroundings, "_own", [])
        return surroundings.commit()

    ours, rule = "experiments/surroundings.py,sha256=abc,1", "lion/rule.py,sha256=abc,1"
    first = commit(ours, rule)
    assert re.fullmatch("installed-[0-9a-f]{12}", first)
    compiled = "experiments/__pycache__/surroundings.cpython-313.pyc,,"
    assert commit("../../bin/lion-experiments,sha256=a,1", rule, compiled, ours) == first
    assert commit(ours, rule, "lion/README.md,sha256=a,1") == first
    assert commit(ours, rule.replace("abc", "abd")) not in ("", first)
    assert commit(rule) == ""  # an editable installation: its files lie elsewhere


@pytest.mark.parametrize("key", ["root", "val_root", "annotations", "eval_roots"])
def test_a_finished_run_says_that_its_data_lie_elsewhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    key: str,
) -> None:
    """Where files lie is no part of a run's id: another folder's old number must not pass."""
    monkeypatch.setattr(tiny, "from_files", lambda **_: tiny.images(), raising=False)
    monkeypatch.chdir(tmp_path)

    def called(place: str) -> str:
        data = {"_target_": "tiny.from_files", key: {"v2": place} if key == "eval_roots" else place}
        runner.run(tiny.config(tmp_path / "runs", data=data, **SHORT))
        return capsys.readouterr().err

    assert called("here") == called(str(tmp_path / "here")) == ""
    said = called("there")
    name = "data.eval_roots.v2" if key == "eval_roots" else f"data.{key}"
    assert f"not trained again, though {name} was {tmp_path / 'here'} and is " in said
    assert said.count("\n") == 1 and called("here") == ""


def test_a_finished_run_says_that_it_has_no_telemetry(tmp_path: Path, capsys: Any) -> None:
    """Asking for it is no other run, so nothing is trained."""

    def called(every: int | None) -> str:
        runner.run(tiny.config(tmp_path, tracking__telemetry_every_steps=every, **SHORT))
        return capsys.readouterr().err

    called(None)
    said = called(1)
    assert "telemetry is asked for, of which it has none; to train anew, move" in said
    assert called(None) == ""
