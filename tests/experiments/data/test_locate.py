"""A missing path is one line that says what to do, before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from experiments.config import ConfigError, UserError
from experiments.data.locate import (
    DataMissing,
    check_section,
    expand_range,
    find_shards,
    find_split,
    reader_kind,
)


def imagenet(**changes):
    return {"name": "imagenet", "root": None, "reader": "", **changes}


@pytest.mark.parametrize("reader", ["", "wds", "hfds", "torch/imagenet"])
def test_missing_root_says_where_to_get_the_data_and_what_runs_without(tmp_path, reader):
    for root in (None, str(tmp_path / "nowhere")):
        with pytest.raises(DataMissing) as error:
            check_section(imagenet(root=root, reader=reader), proxy="resnet_proxy")
        for part in (
            "data.root", "image-net.org", "timm/imagenet-1k-wds", "ILSVRC/imagenet-1k",
            "data.root=/path/to/imagenet", "experiment=resnet_proxy",
        ):  # fmt: skip
            assert part in str(error.value)
        assert "\n" not in str(error.value) and isinstance(error.value, UserError)


def test_root_without_a_split_is_noticed(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DataMissing, match="split 'validation' .tried validation, val, valid"):
        check_section(imagenet(root=str(tmp_path)))
    (tmp_path / "val").mkdir()
    check_section(imagenet(root=str(tmp_path)))
    with pytest.raises(DataMissing, match="no WebDataset shards"):
        check_section(imagenet(root=str(tmp_path), reader="wds"))


def test_missing_test_set_names_its_override(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "val.tar").touch()
    section = imagenet(root=str(tmp_path), eval_roots={"a": None, "v2": "/nowhere"})
    with pytest.raises(DataMissing, match=r"data\.eval_roots\.v2=/nowhere .*vaishaal/ImageNetV2"):
        check_section(section)


def test_data_without_files_needs_no_check():
    check_section({"name": "mnist1d"})
    check_section(imagenet(reader="hfds/ILSVRC/imagenet-1k"))


def test_readers():
    kinds = [
        reader_kind(reader) for reader in ("", "tar", "wds", "wds/", "hfds//a", "torch/cifar10")
    ]
    assert kinds == ["folder", "folder", "wds", "wds", "hfds", "torch"]
    for reader in ("tfds/imagenet", "hfids/x", "wsd"):
        with pytest.raises(ConfigError, match="choose"):
            reader_kind(reader)


def test_split_prefers_its_own_name(tmp_path):
    for name in ("val", "validation"):
        (tmp_path / name).mkdir()
    assert find_split(str(tmp_path), "validation").name == "validation"
    assert find_split(str(tmp_path), "val").name == "val"


def test_expand_range():
    assert expand_range("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand_range("{0..1}{2..3}") == ["02", "03", "12", "13"]
    assert expand_range("plain.tar") == ["plain.tar"]


def test_shards_without_description_are_found_by_name(tmp_path):
    for name in ("x-train-1.tar", "x-train-0.tar", "x-val-0.tar"):
        (tmp_path / name).touch()
    assert [path.name for path in find_shards(str(tmp_path), "train")] == [
        "x-train-0.tar",
        "x-train-1.tar",
    ]
    assert [path.name for path in find_shards(str(tmp_path), "validation")] == ["x-val-0.tar"]


def test_imports_the_standard_library_only():
    code = (
        "import sys, experiments.data.locate; print({'torch', 'numpy', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
