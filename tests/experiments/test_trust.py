"""A configuration that somebody else has recorded runs no code that its reader has not chosen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tiny

import run
from experiments import runner, trust
from experiments.config import ConfigError, RunConfig, to_dict
from experiments.identity import run_id
from experiments.sweep import writing
from experiments.sweep.manifest import Cell, Sweep


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who trusts nobody yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(trust.VARIABLE, "")
    return tmp_path / "home" / "lion-experiments" / "trusted"


def with_model(**model: Any) -> RunConfig:
    """A recorded configuration with any model."""
    config = run.compose([])
    config.model = model
    return config


STRANGE: dict[str, tuple[dict[str, Any], str]] = {
    "shell": ({"_target_": "os.system", "command": "x"}, "lies outside of experiments"),
    "builtin": ({"_target_": "builtins.eval"}, "lies outside"),
    "their own package": ({"_target_": "evil.Net"}, "lies outside"),
    "a relative of ours": ({"_target_": "lionheart.Net"}, "lies outside"),
    "through torch": ({"_target_": "torch.os.system"}, "is defined in posix"),
    "through timm": ({"_target_": "timm.models.vision_transformer.os.system"}, "posix|no os"),
    "processes": ({"_target_": "torch.utils.cpp_extension.subprocess.run"}, "is defined in subpr"),
    "pickles": (
        {"_target_": "torch.load", "f": "x.pt"},
        "defined in torch.serialization and is no",
    ),
    "the hub": ({"_target_": "torch.hub.load", "repo_or_dir": "x/y"}, "defined in torch.hub"),
    "a compiler": (
        {"_target_": "torch.utils.cpp_extension.load_inline"},
        "cpp_extension and is no",
    ),
    "a script": ({"_target_": "torch.jit.load"}, "is no model"),
    "timm's pickles": ({"_target_": "timm.models.load_state_dict"}, "is no model"),
    "a method": ({"_target_": "torch.nn.Linear.load_state_dict"}, "is no model"),
    "something private": ({"_target_": "torch.optim.adam._multi_tensor_adam"}, "is no"),
    "our files": ({"_target_": "experiments.store.write_text", "path": "x"}, "is no model"),
    "our builder": (
        {"_target_": "experiments.build.build", "section": {"_target_": "os.system"}},
        "is no model|lies outside",
    ),
    "our compiler": ({"_target_": "lion.native.build", "source": "x"}, "is no model"),
    "our caches": ({"_target_": "experiments.data.archive_index.write_cached"}, "is no model"),
    "our search": ({"_target_": "experiments.search.export.run"}, "is no model"),
    "somebody's folder, through timm": (
        {"_target_": "timm.create_model", "model_name": "local-dir:x", "pretrained": True},
        "sets model.model_name, which can run code of others",
    ),
    "somebody's account, through timm": (
        {"_target_": "timm.create_model", "model_name": "hf-hub:x/y"},
        "sets model.model_name, which can run code of others",
    ),
    "deeper": (
        {"_target_": "torch.nn.Sequential", "parts": [{"image": {"_target_": "os.remove"}}]},
        r"model.parts.0.image._target_=os.remove",
    ),
    "not text": ({"_target_": ["os", "system"]}, "lies outside|must be a dotted path"),
}


@pytest.mark.parametrize(("model", "message"), STRANGE.values(), ids=list(STRANGE))
def test_foreign_code_is_refused_in_one_line(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        trust.check(with_model(**model), "the recorded run x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["checkpoint_path", "pretrained_cfg", "trust_remote_code"])
def test_arguments_that_run_code_are_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_model(_target_="timm.create_model", model_name="resnet18", **{key: "x"})
    with pytest.raises(ConfigError, match=f"x sets model.{key}, .* --trust model.{key}"):
        trust.check(config, "x")
    monkeypatch.setenv(trust.VARIABLE, f"model.{key}")
    trust.check(config, "x")
    trust.check(with_model(_target_="timm.create_model", **{key: None}), "x")


GOOD = (
    *("timm.models.vit_tiny_patch16_224", "timm.models.VisionTransformer", "timm.create_model"),
    *("torchvision.models.resnet18", "torchvision.models.get_model", "torch.nn.Linear"),
    *("experiments.models.small_resnet.small_resnet", "lion.Lion", "timm.optim.Adan"),
    "torch.optim.Adagrad",
)


@pytest.mark.parametrize("path", GOOD)
def test_what_models_and_optimizers_are_made_of_is_called(path: str) -> None:
    trust.check(with_model(_target_=path), "x")


def test_pages_are_read_in_any_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    """One holds Cyrillic letters, which no locale for Japanese of old, say, can read."""
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, encoding="ascii", errors=None: read(path, encoding, errors)
    )
    trust.on_our_pages.cache_clear()
    assert "experiments.data.bundled_glyphs.glyphs" in trust.on_our_pages()


def test_what_our_pages_name_would_be_called_anyway() -> None:
    """They are taken as good without a look, so that starting workers imports nothing heavy."""
    assert {"lion.Lion", "timm.create_model"} < trust.on_our_pages()
    for path in trust.on_our_pages():
        assert not trust._problem(path, frozenset()), path


def test_a_foreign_run_is_not_measured_until_it_is_trusted(tmp_path: Path) -> None:
    """The hole as it was found: `job=landscape run=ID` on somebody else's results."""
    config = tiny.config(tmp_path, train__steps=1, train__epochs=None)
    assert runner.run(config).state == "finished"
    asked = ["job=evaluate", f"run={run_id(config)}", f"results_dir={tmp_path}"]
    with pytest.raises(ConfigError, match="would call task._target_=tiny.Task.*--trust tiny.Task"):
        run.compose(asked)
    trust.add("tiny")
    assert run.compose(asked).task["_target_"] == "tiny.Task"


def test_a_package_that_is_trusted_gives_no_way_into_others() -> None:
    trust.add("tiny")
    trust.check(with_model(_target_="tiny.Net"), "x")
    with pytest.raises(ConfigError, match="is defined in posix"):
        trust.check(with_model(_target_="tiny.os.kill"), "x")


def test_what_a_command_of_yours_used_is_remembered_and_nothing_else(own_home: Path) -> None:
    mine = {**vars(run.compose([])), "model": {"_target_": "tiny.Net", "width": 2}}
    trust.note([mine])
    trust.note([mine])
    assert own_home.read_text() == "tiny.Net\n"
    del os.environ[trust.VARIABLE]
    trust.check(with_model(_target_="tiny.Net", width=9), "x")
    with pytest.raises(ConfigError, match="lies outside"):
        trust.check(with_model(_target_="tiny.ColourNet"), "x")
    trust.note([{"model": {"_target_": "os.system"}, "data": {"_target_": "torch.hub.load"}}])
    assert own_home.read_text() == "tiny.Net\n"


def test_a_home_that_cannot_be_written_trusts_for_this_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    trust.note([{"model": {"_target_": "tiny.Net"}}])
    assert os.environ[trust.VARIABLE] == "tiny.Net"
    trust.check(with_model(_target_="tiny.Net"), "x")


def test_the_manifest_of_a_stranger_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = writing.write(tmp_path / "sweeps/mine", [Cell.of(tiny.config(tmp_path / "runs"), {})])
    assert mine.config(mine.cells[0]).task["_target_"] == "tiny.Task"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    monkeypatch.delenv(trust.VARIABLE)
    theirs = Sweep(mine.path)
    with pytest.raises(ConfigError, match=r"the sweep .*/mine would call task._target_=tiny.Task"):
        theirs.config(theirs.cells[0])
    assert theirs.states() and to_dict(tiny.config(tmp_path))  # looking is free


def test_the_flag_is_taken_off_the_command_line() -> None:
    assert run._without_trust(["--trust", "a.b,c", "x=1", "--trust=d"]) == ["x=1"]
    assert os.environ[trust.VARIABLE] == "a.b,c,d"
