"""However the folder of another library is damaged: one line with a remedy."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from data_trees import REMEDY, STILL, cut, folders, hugging_face, whole_or_one_line, written

from experiments.config import UserError
from experiments.data.hugging_face import HuggingFaceImages
from experiments.data.image_files import ImageFiles
from experiments.data.order import BatchPlan

HUGGING_FACE = {
    "no folder": (written("", None), "does not exist"),
    "a split is gone": (written("validation", None), "validation"),
    "the list is gone": (written("dataset_dict.json", None), ""),
    "a list of other splits": (written("dataset_dict.json", '{"splits": ["train"]}'), "no split"),
    "a damaged list": (written("dataset_dict.json", "{"), "cannot read"),
    "no state": (written("train/state.json", None), "cannot read"),
    "a damaged state": (written("train/state.json", "[]"), "cannot read"),
    "no description": (written("train/dataset_info.json", None), "cannot read"),
    "a damaged description": (written("train/dataset_info.json", '{"features": 3}'), ""),
    "no arrow file": (written("validation/data-00000-of-00001.arrow", None), "cannot read"),
    "a cut arrow file": (cut("validation/*.arrow", 0.5), "cannot read"),
    "an empty arrow file": (cut("validation/*.arrow", 0), "cannot read"),
    "a file": (lambda root: (shutil.rmtree(root), root.write_text("x")), "cannot read"),
}  # fmt: skip


@pytest.mark.parametrize("damage", HUGGING_FACE)
def test_damaged_hugging_face_folders(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = hugging_face(tmp_path / "data")
    do, expected = HUGGING_FACE[damage]
    do(tmp_path / "data")
    line = whole_or_one_line(tmp_path / "data", settings)
    assert expected in line


@pytest.mark.parametrize(
    "columns, expected",
    [
        ({"image": [b""], "label": ["cat"]}, "one class number per image"),
        ({"image": [b""], "label": [[0, 1]]}, "one class number per image"),
        ({"image": [b""], "label": [None]}, "one class number per image"),
        ({"image": [b""], "label": [0.5]}, "one class number per image"),
        ({"image": [b""], "label": [-1]}, "has the label -1"),
        ({"picture": [b""], "label": [0]}, "no image column"),
        ({"image": [b""], "answer": [0]}, "no label column"),
        ({"image": [], "label": []}, "cannot read the split"),
        ({"image": [None], "label": [1]}, "cannot read the image"),
        ({"image": [b"text"], "label": [1]}, "cannot read the image"),
    ],
)
def test_hugging_face_columns_that_cannot_be_used(tmp_path, columns, expected):
    datasets = pytest.importorskip("datasets")
    if not columns.get("image", True) and datasets.__version__.startswith("3."):
        pytest.skip("it cannot save a split of no images")
    datasets.disable_progress_bars()
    split = datasets.Dataset.from_dict(columns)
    if "image" in columns:
        split = split.cast_column("image", datasets.Image())
    datasets.DatasetDict(train=split, validation=split).save_to_disk(str(tmp_path / "data"))
    settings = {"reader": "hfds", "num_train": max(1, len(split))}
    arguments = {"name": "toy", "num_classes": 2, "root": str(tmp_path / "data"), "num_workers": 0}
    with pytest.raises(UserError, match=expected) as error:
        data = ImageFiles(**arguments, **settings)
        list(data.train_batches(BatchPlan(0, 1, 1, 1), 0, 1, STILL))
    assert "\n" not in str(error.value) and REMEDY.search(str(error.value))


def test_offsets_that_lead_out_of_the_file_are_noticed_before_anything_is_read(monkeypatch):
    datasets = pytest.importorskip("datasets")
    import pyarrow

    offsets = np.array([0, 2, 4], dtype=np.int32)
    buffers = [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(b"a.jp")]
    paths = pyarrow.Array.from_buffers(pyarrow.utf8(), 2, buffers)
    data = datasets.Dataset(datasets.table.InMemoryTable.from_arrays([paths], names=["image"]))
    offsets[2] = 2**30  # arrow refuses to build it so
    monkeypatch.setattr("experiments.data.hugging_face._load", lambda *_: data)
    with pytest.raises(UserError, match="offset.*: get it again"):
        HuggingFaceImages("/data", "train", None)


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04."])
def test_a_damaged_torchvision_copy_is_one_line(tmp_path, content):
    folders(tmp_path / "data")
    (tmp_path / "data" / "meta.bin").write_bytes(content)
    line = whole_or_one_line(tmp_path / "data", {"reader": "torch/imagenet"})
    assert "data.reader=torch/imagenet" in line
    line = whole_or_one_line(tmp_path / "data", {"reader": "torch/no_such_data"})
    assert "no_such_data" in line
    line = whole_or_one_line(tmp_path / "data", {"reader": "torch/cifar10", "train_split": "all"})
    assert "choose one of train, training" in line
