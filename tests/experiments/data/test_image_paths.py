"""A missing path is one line that says what to do, before anything heavy is imported."""

from __future__ import annotations

import pytest

from experiments.config import ConfigError, UserError
from experiments.data.image_paths import find_split, reader_kind
from experiments.data.locate import DataMissing, check_section
from experiments.data.shard_paths import expand_range, find_shards

TARGET = "experiments.data.image_files.ImageFiles"


def imagenet(**changes):
    return {"_target_": TARGET, "name": "imagenet", "root": None, "reader": "", **changes}


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


@pytest.mark.parametrize("name", ["train-0000.tar", "imagenet1k-train-0017.tar", "training_3.tar"])
def test_shards_without_their_reader_are_told_how_to_be_read(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(DataMissing, match=rf"; shards like {name} are read by data\.reader=wds$"):
        find_split(str(tmp_path), "train")
    with pytest.raises(DataMissing) as missing:
        find_split(str(tmp_path), "val")
    assert "wds" not in str(missing.value)


def test_class_folders_without_splits_are_told_how_to_be_read(tmp_path):
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir()
    remedy = (
        r"if a, b, \.\.\. are its classes, data.train_split=\. takes them, and data.num_holdout"
    )
    with pytest.raises(DataMissing, match=remedy):
        check_section(imagenet(root=str(tmp_path), name="mine"))
    (tmp_path / "val").mkdir()  # a split is there: another is missing
    with pytest.raises(DataMissing, match=r"\(tried train, training\); set data.root"):
        check_section(imagenet(root=str(tmp_path), name="mine"))


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


def test_a_split_is_a_word_of_the_file_names(tmp_path):
    for name in ("retrieval-train-0.tar", "trainval-0.tar", "x_Val01.tar"):
        (tmp_path / name).touch()
    assert [path.name for path in find_shards(str(tmp_path), "validation")] == ["x_Val01.tar"]
    assert [path.name for path in find_shards(str(tmp_path), "train")] == ["retrieval-train-0.tar"]


def test_more_shards_than_there_can_be_are_not_listed():
    with pytest.raises(ConfigError, match="names 10000000000 shards"):
        expand_range("x-{00000..99999}{00000..99999}.tar")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"splits": 3}', '{"splits": {"train": {"filenames": ["a.tar"]}}}',
     '{"splits": {"train": {"filenames": ["a.tar"], "shard_lengths": [1, 2]}}}',
     '{"splits": {"train": {"filenames": ["a.tar"], "shard_lengths": ["many"]}}}'],
)  # fmt: skip
def test_a_damaged_description_of_shards_is_one_line(tmp_path, content):
    (tmp_path / "_info.json").write_text(content)
    (tmp_path / "a-train.tar").touch()
    with pytest.raises(UserError, match="get it again") as error:
        check_section(imagenet(root=str(tmp_path), reader="wds"))
    assert "\n" not in str(error.value)


def test_a_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for split in ("train", "val"):
        (tmp_path / "größe" / split).mkdir(parents=True)
    check_section(imagenet(root="~/größe"))


@pytest.mark.parametrize(
    "key, value",
    [("num_classes", 1), ("num_classes", "ten"), ("num_classes", True), ("num_train", 0),
     ("num_train", 1e6), ("num_train", None), ("root", 5), ("root", ""), ("reader", None),
     ("train_split", ""), ("val_split", 3), ("input_size", 0), ("num_workers", -3),
     ("num_holdout", -1), ("real_labels", "no"), ("eval_roots", "/v2"), ("cache_dir", 7),
     ("name", "")],
)  # fmt: skip
def test_a_value_that_cannot_be_is_one_line_that_names_its_key(tmp_path, key, value):
    with pytest.raises(ConfigError, match=rf"data\.{key}=.*: must be ") as error:
        check_section(imagenet(root=str(tmp_path)) | {key: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("root", ["/dev/null", "x" * 300, "a\0b", "/proc/self/mem/x"])
def test_what_is_no_folder_is_missing_data(root):
    with pytest.raises(DataMissing, match=r"data\.root"):
        check_section(imagenet(root=root))
