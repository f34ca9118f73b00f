"""A section becomes an object, or one line that says which key is wrong and what was meant."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.build import (
    TRACEBACK_VARIABLE,
    build,
    explained,
    first_explained,
    locate,
    where_they_meet,
)
from experiments.config import ConfigError, RunConfig, UserError


def refuse(number: int) -> None:
    """A target that refuses values in the ways libraries do."""
    if number == 1:
        raise ValueError("number must not be 1")
    if number == 2:
        raise UserError("file x is missing: fetch it")
    if number == 3:
        raise KeyError("a bug of ours")


HERE = f"{__name__}.refuse"


def test_a_section_is_built_with_its_keys() -> None:
    layer = build(
        {"_target_": "torch.nn.Linear", "in_features": 3, "bias": False}, "model", out_features=2
    )
    assert isinstance(layer, nn.Linear)
    assert layer.weight.shape == (2, 3) and layer.bias is None


def test_positional_arguments_come_first_and_partial_is_no_argument() -> None:
    weights = [nn.Parameter(torch.zeros(2))]
    section = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5}
    optimizer = build(section, "optimizer", weights)
    assert optimizer.param_groups[0]["params"] == weights
    assert optimizer.param_groups[0]["lr"] == 0.5


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "class": (
        {"_target_": "torch.nn.Liner"},
        r"^model._target_=torch.nn.Liner: there is no .*; did you mean torch.nn.Linear\?$",
    ),
    "package": (
        {"_target_": "nosuchpackage.Net"},
        r"^model._target_=nosuchpackage.Net: No module named 'nosuchpackage'; is its package ins",
    ),
    "argument": (
        {"_target_": "torch.nn.Linear", "in_features": 1, "out_featurs": 2},
        r"^model.out_featurs: no such argument; did you mean model.out_features\?$",
    ),
    "arguments of another": (
        {"_target_": "torch.nn.Flatten", "img_size": 8, "depth": 2},
        r"^model.img_size: no such argument: Flatten takes start_dim, end_dim; leave out what "
        r"is another's: ~model.img_size ~model.depth$",
    ),
    "hidden argument": (
        {"_target_": "timm.create_model", "model_name": "resnet18", "widht": 2},
        r"^model.widht: timm.create_model has no such argument$",
    ),
    "value": (
        {"_target_": "timm.create_model", "model_name": "no_such_net"},
        r"^model: cannot build timm.create_model: Unknown model \(no_such_net\)$",
    ),
    "refused": ({"_target_": HERE, "number": 1}, r"model: cannot build .*: number must not be 1$"),
}


@pytest.mark.parametrize(("section", "message"), WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_is_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(section, "model")


def test_where_model_and_data_meet_the_size_of_the_images_is_named() -> None:
    config = RunConfig(experiment="x")
    config.model, config.data = {"_target_": "a.Model"}, {"_target_": "b.Data", "name": "mine"}
    config.optimizer = {"_target_": "a.Optimizer"}
    assert where_they_meet(config) == "model a.Model on data mine, optimizer a.Optimizer"
    config.data["input_size"] = 224
    assert "mine, images of 3 x 224 x 224 (data.input_size), " in where_they_meet(config)


def test_an_error_for_the_user_passes_as_it_is() -> None:
    with pytest.raises(UserError, match="^file x is missing: fetch it$"):
        build({"_target_": HERE, "number": 2}, "data")


def test_what_may_be_a_fault_in_code_names_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=rf"^data: cannot build {HERE}: KeyError: .* of ours"
    ) as e:
        build({"_target_": HERE, "number": 3}, "data")
    assert re.search(r"\(test_build.py, line \d+; LION_TRACEBACK=1 shows", str(e.value))
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    with pytest.raises(KeyError, match="a bug of ours"):
        build({"_target_": HERE, "number": 3}, "data")


SAID: dict[str, tuple[Exception, str]] = {
    "as it is": (RuntimeError("sizes differ\n  here"), "model: sizes differ here"),
    "without a word": (AssertionError(), "model: AssertionError: .*line"),
    "memory": (RuntimeError("CUDA out of memory"), "model: out of memory .*train.micro_batch_size"),
    "numpy": (MemoryError("no 8 GB"), "model: out of memory"),
    "of a loading process": (
        ValueError("Caught\nTraceback (most recent call last):\n  x\nKeyError: 'jpg'"),
        "model: KeyError: 'jpg'$",
    ),
    "long": (ValueError("x" * 5000), r"^.{200,400}\.\.\.$"),
}


@pytest.mark.parametrize(("error", "message"), SAID.values(), ids=list(SAID))
def test_any_error_is_one_line_and_keeps_its_cause(error: Exception, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught, explained("model"):
        raise error
    assert "\n" not in str(caught.value) and caught.value.__cause__ is error


def test_nothing_is_explained_later_nor_what_ends_the_process() -> None:
    with pytest.raises(RuntimeError), explained("step", active=False):
        raise RuntimeError("a kernel failed")
    with pytest.raises(KeyboardInterrupt), explained("step"):
        raise KeyboardInterrupt


def test_only_the_first_item_is_explained() -> None:
    def items(good: int) -> Iterator[int]:
        yield from range(good)
        raise OSError("a file is gone")

    with pytest.raises(ConfigError, match="^data: OSError: a file is gone"):
        list(first_explained(items(0), "data"))
    with pytest.raises(OSError, match="a file is gone"):
        list(first_explained(items(2), "data"))
    assert list(first_explained([], "data")) == []


ODD: dict[str, dict[str, Any]] = {
    "a module": {"_target_": "torch.nn"},
    "a number": {"_target_": "math.pi"},
    "no path": {"_target_": "not a path"},
    "not text": {"_target_": 5},
    "missing argument": {"_target_": "torch.nn.Linear", "in_features": 3},
    "module misspelt": {"_target_": "timm.modelz.VisionTransformer"},
}


@pytest.mark.parametrize("section", ODD.values(), ids=list(ODD))
def test_odd_targets_are_refused_in_one_line(section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="model"):
        build(section, "model")


def test_a_package_that_a_target_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E.g. a model in our own package that imports diffusers where there is none."""
    package = tmp_path / "our_models"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "unet.py").write_text("import nosuchpackage\n\nclass Net:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="No module named 'nosuchpackage'"):
        locate("our_models.unet.Net", "model")
    assert "our_models" in sys.modules


def test_timm_is_imported_without_wandb_and_wandb_can_be_imported_after() -> None:
    """In another process: here they may be imported already."""
    program = (
        "import sys\n"
        "from experiments.build import locate\n"
        "locate('timm.create_model', 'model')\n"
        "assert 'wandb' not in sys.modules and 'timm.utils.summary' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True)
