"""Test images of one's own: reported, never tuned on, and measured at the end alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
from data_trees import image as encoded
from data_trees import tar

from experiments import runner
from experiments.config import ConfigError, RunConfig
from experiments.data.honours import refuse_last_groups
from experiments.data.image_files import ImageFiles
from experiments.data.image_paths import places_of
from experiments.data.locate import DataMissing, check_section
from experiments.identity import run_id
from experiments.outcomes import outcomes
from experiments.settings.image import ImageTaskConfig
from experiments.table import read_runs

STILL = ImageTaskConfig(crop_scale_min=1.0, horizontal_flip=0.0, eval_crop_fraction=1.0)
TARGET = "experiments.data.image_files.ImageFiles"


@pytest.fixture
def tree(tmp_path: Path, class_folders) -> Path:
    """Brightness tells the class; the test split lacks the first one."""
    root = tmp_path / "images"
    class_folders(root / "train", {"ant": [20, 22, 24, 26], "bee": [120, 122], "cat": [220, 222]})
    class_folders(root / "val", {"ant": [30], "bee": [130], "cat": [230]})
    class_folders(root / "test", {"bee": [110, 112], "cat": [210]})
    return root


def source(root: Path, **changes) -> ImageFiles:
    settings = {"num_workers": 0, "input_size": 16, "test_split": "test", **changes}
    return ImageFiles("toy", 3, 8, str(root), **settings)


@pytest.mark.parametrize("num_holdout, tuned", [(0, "toy_val"), (3, "minival")])
def test_it_is_measured_beside_what_is_tuned_on(tree, num_holdout, tuned):
    data = source(tree, num_holdout=num_holdout)
    assert (data.eval_groups, data.last_groups) == ([[tuned]], [["test"]])
    assert source(tree, test_split=None).last_groups == []
    with pytest.warns(UserWarning, match=r"\(test\) has no image of 1 of 3 .* first is 'ant'"):
        ((images, labels),) = data.eval_batches(["test"], 4, 0, 1, STILL)
    assert labels["test"].tolist() == [1, 1, 2]  # as in training
    assert [round(float(one.float().mean()), -1) for one in images] == [110, 110, 210]


@pytest.mark.filterwarnings("ignore:.*has no image of")
def test_its_images_are_part_of_the_fingerprint(tree, class_folders):
    alone, before = source(tree, test_split=None).fingerprint, source(tree).fingerprint
    class_folders(tree / "test", {"bee": [114]})
    assert len({alone, before, source(tree).fingerprint}) == 3
    assert source(tree, test_split=None).fingerprint == alone


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"test_split": "train"},
            r"data.test_split=train: .*/train is trained on, too: name anoth",
        ),
        ({"test_split": "train", "num_holdout": 2}, "test_split=train: .* is trained on, too"),
        ({"test_split": "val"}, "data.test_split=val: .*/val is validated on, too: name another"),
        ({"test_split": "train/bee"}, "/train/bee is trained on, too"),
        (
            {"test_split": "strange"},
            r"\(strange\) has 1 of 1 classes that the training split lacks",
        ),
        ({"test_split": "flat"}, "flat should hold one folder of images per class"),
    ],
)
def test_what_cannot_be_reported_is_refused_before_training(tree, class_folders, changes, said):
    class_folders(tree / "strange", {"dog": [90]})
    (tree / "flat").mkdir()
    (tree / "flat" / "x.png").write_bytes(encoded(90))
    with pytest.raises(ConfigError, match=said) as error:
        assert source(tree, **changes).fingerprint
    assert "\n" not in str(error.value)


def test_a_copy_of_validation_is_said(tree, class_folders):
    class_folders(tree / "copy", {"ant": [30, 32], "bee": [130], "cat": [234]})
    data = source(tree, test_split="copy")
    assert data.fingerprint
    said = r"\(copy\): 2 of 4 images are in validation, too, the first is "
    with pytest.warns(UserWarning, match=said):
        assert list(data.eval_batches(["test"], 4, 0, 1, STILL))


def test_validation_may_be_reported_where_training_images_are_tuned_on(tree):
    data = source(tree, test_split="val", num_holdout=2)
    assert data.fingerprint
    ((_, labels),) = data.eval_batches(["test"], 4, 0, 1, STILL)
    assert labels["test"].tolist() == [0, 1, 2]


def test_shards_are_held_apart_too(tmp_path):
    for number in range(3):
        tar(tmp_path / f"{number}.tar", [("a.png", encoded(20)), ("a.cls", b"1")])
    names: dict[str, Any] = {"reader": "wds", "train_split": "0.tar", "val_split": "1.tar"}
    data = ImageFiles("toy", 2, 1, str(tmp_path), **names, test_split="{1..2}.tar", num_workers=0)
    with pytest.raises(ConfigError, match="1.tar is validated on, too"):
        assert data.fingerprint


def test_torchvisions_sets_have_no_third_split():
    both = [places_of("torch/cifar10", None, split) for split in ("validation", "test")]
    assert both[0] == both[1] != places_of("torch/cifar10", None, "train")


def test_a_test_split_that_is_not_there_is_said_before_anything_is_built(tree):
    section = {"_target_": TARGET, "name": "toy", "num_classes": 3, "num_train": 8}
    section |= {"root": str(tree), "test_split": "later"}
    with pytest.raises(DataMissing, match="no folder or tar file for the split 'later'"):
        check_section(section)
    check_section({**section, "test_split": "test"})
    with pytest.raises(ConfigError, match="data.test_split=3: must be text, or null"):
        check_section({**section, "test_split": 3})


def test_tasks_without_it_refuse_it(tree):
    refuse_last_groups(source(tree, test_split=None))
    with pytest.raises(ConfigError, match="set data.test_split=null"):
        refuse_last_groups(source(tree))


def configured(tree: Path, results: Path, **data: Any) -> RunConfig:
    section = {"_target_": TARGET, "name": "toy", "num_classes": 3, "num_train": 8}
    section |= {"root": str(tree), "input_size": 16, "num_workers": 0, **data}
    return tiny.config(
        results,
        data=section,
        task={"_target_": "tiny.Task"},
        model={"_target_": "tiny.ColourNet", "num_classes": 3},
        train__batch_size=4,
        train__epochs=3.0,
        eval__every_epochs=1.0,
    )


def test_null_is_no_part_of_the_run_id(tree, tmp_path):
    before, null, given = (
        run_id(configured(tree, tmp_path, **data))
        for data in ({}, {"test_split": None}, {"test_split": "test"})
    )
    assert before == null != given


@pytest.mark.filterwarnings("ignore:.*has no image of")
def test_a_run_measures_it_once_and_its_table_reports_it(tree, tmp_path):
    config = configured(tree, tmp_path / "runs", test_split="test")
    assert runner.run(config).state == "finished"
    rows = [r for r in forked.rows(config) if (r["metric"], r["weights"]) == ("top1", "raw")]
    assert [row["step"] for row in rows if row["split"] == "test"] == [6]
    assert [row["step"] for row in rows if row["split"] == "toy_val"] == [2, 4, 6]
    assert [row["n"] for row in rows if row["split"] == "test"] == [3]
    found = outcomes(read_runs(tmp_path / "runs")).iloc[0]
    ends = {row["split"]: row["value"] for row in rows if row["step"] == 6}
    assert (found.tune_split, found.report_split) == ("toy_val", "test")
    assert (found.val, found.test) == (ends["toy_val"], ends["test"])
