"""What of `start_from` makes another run: content and names of files, ids of runs, never a path."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments import start_from
from experiments.config import ConfigError, RunConfig, UserError
from experiments.identity import run_id
from experiments.pages import CONF


def config(section: Any, results_dir: Path | str = "runs") -> RunConfig:
    return replace(RunConfig(experiment="x"), start_from=section, results_dir=str(results_dir))


def known(section: Any) -> list[dict[str, Any]]:
    return start_from.identity(config(section))


def a_run(folder: Path, text: str | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(f'{{"run_id": "{folder.name}"}}' if text is None else text)
    return folder


def test_each_key_makes_another_run_and_its_default_none() -> None:
    keys = [{}, {"weights": "ema"}, {"leave_out": ["x"]}, {"into": "x."}, {"take": "x."}]
    assert len({run_id(config({"source": "a", **more})) for more in keys}) == 5
    plain = {"source": "a", "weights": "raw", "leave_out": [], "into": "", "take": "", "sha256": ""}
    assert known(plain) == known("a") == [{"run": "a"}]
    assert known({**plain, "weights": "ema", "into": "x."}) == [
        {"run": "a", "weights": "ema", "into": "x."}
    ]


def test_a_file_is_known_by_all_of_its_content_wherever_it_lies(tmp_path: Path) -> None:
    content = bytes(5_000_000) + b"end"
    for place in (tmp_path / "a.pt", tmp_path / "b" / "c.pt"):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
        assert known(str(place)) == [{"sha256": hashlib.sha256(content).hexdigest()}]
    place.write_bytes(content[:-1] + b"!")
    assert known(str(place)) == [{"sha256": hashlib.sha256(content[:-1] + b"!").hexdigest()}]


def test_a_folder_is_known_by_its_files_and_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.bin").write_bytes(b"one")
    (folder / "deep" / "a.bin").write_bytes(b"two")
    expected = hashlib.sha256(b"b.bin\0one" + b"deep/a.bin\0two").hexdigest()
    assert known(str(folder)) == [{"sha256": expected}]
    folder.rename(tmp_path / "moved")
    assert known(str(tmp_path / "moved")) == [{"sha256": expected}]


def test_no_order_of_a_file_system_makes_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "bca":
        (tmp_path / name).write_text(name)
    found = set()
    for turn in (1, -1):
        files = sorted(tmp_path.iterdir())[::turn]
        monkeypatch.setattr(Path, "rglob", lambda *_, files=files: files)
        found.add(start_from.checksum(tmp_path))
    assert len(found) == 1


@pytest.mark.parametrize(("text", "seconds"), [("123456", 0), ("54321", 5)], ids=["size", "time"])
def test_a_file_that_is_replaced_is_looked_at_again(
    tmp_path: Path, text: str, seconds: int
) -> None:
    path = tmp_path / "a.pt"
    path.write_text("12345")
    before = path.stat().st_mtime_ns
    assert start_from.checksum(path) == hashlib.sha256(b"12345").hexdigest()
    path.write_text(text)
    os.utime(path, ns=(before, before + seconds * 10**9))
    assert start_from.checksum(path) == hashlib.sha256(text.encode()).hexdigest()


def test_a_content_that_was_promised_is_part_of_the_run(tmp_path: Path) -> None:
    """Where the file has another one by now, loading it is refused: this is no other run."""
    path = tmp_path / "a.pt"
    path.write_text("12345")
    assert known({"source": str(path), "sha256": "0" * 64}) == [{"sha256": "0" * 64}]


def test_a_run_is_known_by_its_id_by_path_by_link_and_when_it_is_gone(tmp_path: Path) -> None:
    run = a_run(tmp_path / "runs" / "vit-lion-s0-abc")
    link = tmp_path / "link"
    link.symlink_to(run)
    wanted = [{"run": "vit-lion-s0-abc"}]
    for source in (str(run), str(link), run.name):
        assert known(source) == wanted
        start_from.check(config(source, run.parent))
    (run / "run.json").unlink()
    run.rmdir()
    assert known(str(run)) == wanted


def test_home_is_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = a_run(tmp_path / "vit-lion-s0-abc")
    (tmp_path / "a.pt").write_text("12345")
    (tmp_path / "folder").mkdir()
    found = [start_from.sources(config(f"~/{n}"))[0] for n in (run.name, "a.pt", "folder")]
    assert [start_from.folder_of_run(one, "runs") for one in found] == [run, None, None]
    assert known("~/a.pt") == [{"sha256": hashlib.sha256(b"12345").hexdigest()}]


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors.index.json"])
def test_a_run_with_weights_of_others_in_its_folder_is_refused(tmp_path: Path, file: str) -> None:
    run = a_run(tmp_path / "run")
    (run / file).touch()
    with pytest.raises(UserError, match=f"holds a run and {file}: name the file"):
        start_from.check(config(str(run)))


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", '{"run_id": ""}'])
def test_a_run_whose_header_does_not_say_its_id_is_taken_by_its_folder(
    tmp_path: Path, text: str
) -> None:
    run = a_run(tmp_path / "run", text)
    start_from.check(config(str(run)))
    assert known(str(run)) == [{"run": "run"}]


@pytest.mark.parametrize(
    "nothing", [None, "", {}, [], [None, ""], {"weights": "ema"}, {"into": ""}]
)
def test_what_names_no_source_is_fresh_weights(nothing: Any) -> None:
    assert start_from.sources(config(nothing)) == []


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (True, "give the id of a run, or the path"),
        ({"into": "x"}, "start_from.into is set, but not start_from.source"),
        ({"source": "a", "leave_out": "x"}, "leave_out=x: give a list"),
        ({"source": "a", "leave_out": [1]}, "give a list of name patterns"),
        ({"source": "a", "weights": "best"}, "weights=best: choose one of raw, ema"),
        ({"source": ["a"], "weights": "ema"}, "start_from.weights stands beside a list"),
        ({"source": ("a",), "take": "x."}, "start_from.take stands beside a list"),
    ],
)
def test_a_wrong_section_names_its_key(section: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        start_from.sources(config(section))


def test_each_source_of_a_list_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "a.pt").touch()
    here = {"source": str(tmp_path / "a.pt"), "into": "image."}
    with pytest.raises(UserError, match="start_from: gone is no file, and no run"):
        start_from.check(config([here, {"source": "gone", "into": "text."}], tmp_path))


def test_a_list_of_sources_may_stand_beside_what_changes_nothing() -> None:
    section = {"source": ("a", {"source": "b"}), "weights": "raw", "leave_out": [], "into": ""}
    assert known(section) == [{"run": "a"}, {"run": "b"}] == known(["a", "b"])


def test_a_file_of_the_suite_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "results/paper/README.md"
    for section in (name, {"source": name}):
        (found,) = start_from.sources(config(section))
        assert found.source == str(CONF.parent / name)
    Path(name).parent.mkdir(parents=True)
    Path(name).write_text("mine")
    assert start_from.sources(config(name))[0].source == name
