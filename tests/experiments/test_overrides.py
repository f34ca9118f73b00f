"""Paths of any kind need no quotes on the command line, and what Hydra can read stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import run
from experiments.overrides import quoted, quoted_arguments

READ: dict[str, Any] = {
    "results_dir=/a/größe": "/a/größe",
    "data.root=~/x": "~/x",
    "r=/a=b": "/a=b",
    "r=/a(b)": "/a(b)",
    "r=/a b": "/a b",
    "r=~/a b/日本": "~/a b/日本",
    "r=it's": "it's",
    "r=ö's\\": "ö's\\",
    "k=[~/a,b]": ["~/a", "b"],
    "k={a: ~/x, b: /y:z}": {"a": "~/x", "b": "/y:z"},
    "k=[1,2.5,'~']": [1, 2.5, "~"],
    "a=#x": "#x",
    "a=[1,2": "[1,2",
    "a=": "",
    "a=1e-3": 1e-3,
    "a=null": None,
    "a=rnge(1,2)": "rnge(1,2)",
}


@pytest.mark.parametrize(("text", "value"), READ.items(), ids=list(READ))
def test_a_value_is_read_as_it_stands(text: str, value: Any) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (made,) = quoted([text])
    assert OverridesParser.create().parse_override(made).value() == value
    assert quoted([made]) == [made]


def test_several_values_stay_several() -> None:
    assert quoted(["r=~/a,~/b", "seed=0,1", "x=range(1,3)", "+a=ö", "~b"]) == [
        "r='~/a','~/b'",
        "seed=0,1",
        "x=range(1,3)",
        "+a='ö'",
        "~b",
    ]


def test_flags_keep_their_values_and_come_first() -> None:
    given = ["experiment=x", "--config-dir", "/a=ö", "-m", "r=~/x", "--cfg", "job"]
    made = ["--config-dir", "/a=ö", "-m", "--cfg", "job", "experiment=x", "r='~/x'"]
    assert quoted_arguments(given) == made


def test_a_tilde_in_a_path_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = ["results_dir=~/größe/runs", "experiment=fashion", "data.root=~/data"]
    config = run.compose([*asked, "train.steps=1", "train.epochs=null"])
    assert config.results_dir == f"{tmp_path}/größe/runs"
    assert config.data["root"] == f"{tmp_path}/data"
    files = run.compose(["experiment=vit_b16_imagenet", "data.eval_roots.v2=~/v2"])
    assert files.data["eval_roots"]["v2"] == f"{tmp_path}/v2"


@pytest.mark.parametrize("folder", ["a=b", "a,b", "a(b", "~t", "é", "it's", "a b", "a#b", "a}b"])
def test_pages_of_a_folder_with_any_name_are_found(folder: str, tmp_path: Path) -> None:
    pages = tmp_path / folder
    for name, text in {
        "experiment/lab/nested": (run.CONF / "experiment/vit_proxy.yaml").read_text(),
        "recipe/lab/nested/lion": "# @package _global_\noptimizer:\n  lr: 7e-3\n",
        "recipe/lab/nested/lion_early": "# @package _global_\noptimizer:\n  lr: 8e-3\n",
    }.items():
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        (pages / f"{name}.yaml").write_text(text)
    config = run.compose(["experiment=lab/nested"], str(pages))
    assert (config.experiment, config.optimizer["lr"]) == ("lab/nested", 7e-3)
    if folder == "é":
        other = run.compose(["experiment=lab/nested", "recipe=lab/nested/lion_early"], str(pages))
        assert other.optimizer["lr"] == 8e-3
