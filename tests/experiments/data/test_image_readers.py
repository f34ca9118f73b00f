"""Every reader finds the same images and labels in its own format."""

from __future__ import annotations

import gc
import io
import json
import os
import re
import tarfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from experiments.config import ConfigError
from experiments.data import image_archives
from experiments.data.image_archives import open_class_tars
from experiments.data.image_files import ImageFiles
from experiments.data.image_folders import FolderImages
from experiments.data.image_readers import LabelledImages, open_split
from experiments.data.image_splits import ImageSplits
from experiments.data.locate import DataMissing
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

CLASSES = {"n01440764": [10, 20, 30], "n01443537": [90, 100], "n01484850": [170, 180, 190]}
EXPECTED = sorted((v, label) for label, values in enumerate(CLASSES.values()) for v in values)


def found(images: LabelledImages) -> list[tuple[int, int]]:
    """(brightness, label) of every image."""
    pairs = []
    for row, label in enumerate(images.labels):
        with images.open(row) as image:
            value = np.asarray(image.convert("RGB"))[12:, 12:].mean()
        pairs.append((round(value / 10) * 10, int(label)))
    return sorted(pairs)


def test_class_folders(tmp_path, class_folders):
    class_folders(tmp_path / "val", CLASSES)
    images = open_split("", str(tmp_path), "validation")
    assert found(images) == EXPECTED
    assert images.class_names == list(CLASSES)
    assert images.name(0) == str(tmp_path / "val" / "n01440764" / "n01440764_10.JPEG")


def test_images_and_classes_lie_in_timms_order(tmp_path, image_bytes):
    """Example numbers decide what a run sees, so they must not move."""
    from timm.data.readers.reader_image_folder import find_images_and_targets

    numbers = np.random.RandomState(0)
    for name in ("n02", "n10", "n1", "Zebra", "apple_2", "apple_10", "deep/n3", "a.b", "é1"):
        for number in numbers.randint(0, 2000, 12):
            path = tmp_path / name / f"{'ILSVRC_' * (number % 2)}{number}_{number % 7}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    found, classes = find_images_and_targets(str(tmp_path), types=[".jpeg"])
    images = FolderImages(tmp_path)
    assert images.class_names == list(classes)
    assert [images.name(row) for row in range(len(images.labels))] == [path for path, _ in found]
    assert images.labels.tolist() == [number for _, number in found]


def test_images_without_class_folders_and_double_copies_are_refused(tmp_path, class_folders):
    class_folders(tmp_path / "val", {".": [1, 2]})
    with pytest.raises(ConfigError, match="one folder of images per class"):
        open_split("", str(tmp_path), "val")
    class_folders(tmp_path / "train" / "one", CLASSES)
    class_folders(tmp_path / "train" / "two", CLASSES)
    with pytest.raises(ConfigError, match="several copies"):
        open_split("", str(tmp_path), "train")


def test_tar_of_class_folders(tmp_path, tar_file, image_bytes):
    members = {f"val/{c}/{c}_{v}.JPEG": image_bytes(v) for c in CLASSES for v in CLASSES[c]}
    tar_file(tmp_path / "val.tar", members)
    images = open_split("", str(tmp_path), "validation", str(tmp_path / "cache"))
    assert found(images) == EXPECTED and images.class_names == list(CLASSES)


def test_tar_of_one_tar_per_class_as_ilsvrc_ships_it(tmp_path, tar_file, image_bytes):
    inner = {}
    for name, values in CLASSES.items():
        members = {f"{name}_{v}.JPEG": image_bytes(v) for v in values}
        inner[f"{name}.tar"] = tar_file(tmp_path / "parts" / f"{name}.tar", members).read_bytes()
    tar_file(tmp_path / "train.tar", inner)
    images = open_split("", str(tmp_path), "train", str(tmp_path / "cache"))
    assert found(images) == EXPECTED and images.class_names == list(CLASSES)
    folder_of_tars = open_class_tars(
        sorted((tmp_path / "parts").iterdir()), str(tmp_path / "cache")
    )
    assert found(folder_of_tars) == EXPECTED


def shard_samples() -> list[list[tuple[str, int, int]]]:
    """Two shards of (key, label, value), the classes mixed."""
    everything = [(f"{c}_{v}", n, v) for n, c in enumerate(CLASSES) for v in CLASSES[c]]
    return [everything[::2], everything[1::2]]


@pytest.mark.parametrize(
    "split", ["train", "imagenet1k-train-{00..01}.tar", "imagenet1k-train-{00..01}.tar|8"]
)
def test_webdataset_shards(tmp_path, shards, split):
    shards(tmp_path, {"train": shard_samples()})
    images = open_split("wds", str(tmp_path), split, str(tmp_path / "cache"))
    assert found(images) == EXPECTED and images.class_names is None
    assert images.file_name(0) == "n01440764_10"
    assert images.name(0).endswith("imagenet1k-train-00.tar: n01440764_10")


def test_webdataset_without_description_and_with_other_members(tmp_path, tar_file, image_bytes):
    facts = json.dumps({"label": 2, "filename": "ILSVRC2012_val_00000009.JPEG"}).encode()
    tar_file(
        tmp_path / "x-val-0.tar",
        {
            "a/k1.png": image_bytes(50, form="PNG"),
            "a/k1.cls": b"1\n",
            "b/k1.webp": image_bytes(80, form="WEBP"),
            "b/k1.json": facts,
            "readme.txt": b"",
        },
    )
    images = open_split("wds/", str(tmp_path), "validation", str(tmp_path / "cache"))
    assert found(images) == [(50, 1), (80, 2)]
    assert [images.file_name(row) for row in (0, 1)] == ["a/k1", "ILSVRC2012_val_00000009.JPEG"]


def test_shard_index_is_kept_and_follows_the_files(tmp_path, shards, monkeypatch):
    cache = tmp_path / "cache"
    shards(tmp_path, {"train": shard_samples()})
    open_split("wds", str(tmp_path), "train", str(cache))
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("experiments.data.image_archives._scan", None)  # must not be needed
        assert found(open_split("wds", str(tmp_path), "train", str(cache))) == EXPECTED
    kept.write_bytes(b"damaged")
    assert found(open_split("wds", str(tmp_path), "train", str(cache))) == EXPECTED
    os.utime(tmp_path / "imagenet1k-train-00.tar", ns=(0, 10**9))
    open_split("wds", str(tmp_path), "train", str(cache))
    assert len(list(cache.iterdir())) == 2


def test_tars_of_one_name_size_and_time_in_other_folders_have_their_own_index(
    tmp_path, tar_file, image_bytes
):
    """As after a copy that keeps whole seconds: offsets of one would be labels of the other."""
    for split, order in (("train", "ab"), ("val", "ba")):
        values = {"a": 20, "b": 200}
        members = {
            f"{c}/{k}.bmp": image_bytes(values[c], form="BMP") for c in order for k in (0, 1)
        }
        os.utime(tar_file(tmp_path / split / "0.tar", members), (10**9, 10**9))
    cache = str(tmp_path / "cache")
    for split in ("train", "val"):
        images = open_split("", str(tmp_path), split, cache)
        assert found(images) == [(20, 0), (20, 0), (200, 1), (200, 1)]


def test_the_folder_of_indexes_may_begin_with_the_home(tmp_path, shards, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shards(tmp_path, {"train": shard_samples()})
    open_split("wds", str(tmp_path), "train", "~/kept")
    assert len(list((tmp_path / "home" / "kept").iterdir())) == 1


def test_a_shard_that_is_replaced_while_it_is_read_is_read_again(tmp_path, shards, monkeypatch):
    def overtaken(tars, entries_of):
        index = whole(tars, entries_of)
        monkeypatch.undo()
        shards(tmp_path, {"train": [[("one", 3, 70)], [("two", 1, 90)]]})
        return index

    whole = image_archives._read_through
    shards(tmp_path, {"train": shard_samples()})
    arguments = ("wds", str(tmp_path), "train", str(tmp_path / "cache"))
    monkeypatch.setattr(image_archives, "_read_through", overtaken)
    open_split(*arguments)
    assert found(open_split(*arguments)) == [(70, 3), (90, 1)]


def test_processes_of_a_job_make_the_index_once(tmp_path, shards, monkeypatch):
    shards(tmp_path, {"train": shard_samples()})
    scanned = []

    def slow(entries_of, tar):
        scanned.append(tar)
        time.sleep(0.1)
        return entries_of(tar)

    monkeypatch.setattr("experiments.data.image_archives._scan", slow)
    arguments = ("wds", str(tmp_path), "train", str(tmp_path / "cache"))
    with ThreadPoolExecutor() as pool:
        opened = [pool.submit(open_split, *arguments) for _ in range(3)]
    assert all(found(future.result()) == EXPECTED for future in opened)
    assert len(scanned) == 2 and [p.suffix for p in (tmp_path / "cache").iterdir()] == [".npz"]


def test_cache_that_cannot_be_written_is_no_obstacle(tmp_path, shards):
    shards(tmp_path, {"train": shard_samples()})
    (tmp_path / "file").write_text("")
    images = open_split("wds", str(tmp_path), "train", str(tmp_path / "file" / "cache"))
    assert found(images) == EXPECTED


def test_damaged_shards_are_named(tmp_path, shards, tar_file, image_bytes):
    shards(tmp_path, {"train": shard_samples()})
    victim = tmp_path / "imagenet1k-train-01.tar"
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=r"train-01\.tar"):
        open_split("wds", str(tmp_path), "train", str(tmp_path / "cache"))
    tar_file(victim, {"k.jpg": image_bytes(1), "k.cls": b"0"})
    with pytest.raises(ConfigError, match="holds 1 images, but _info.json promises 4"):
        open_split("wds", str(tmp_path), "train", str(tmp_path / "cache"))
    tar_file(victim, {"k.jpg": image_bytes(1)})
    with pytest.raises(ConfigError, match="needs one image and a label"):
        open_split("wds", str(tmp_path), "train", str(tmp_path / "cache"))
    victim.unlink()
    with pytest.raises(DataMissing, match=r"no shard imagenet1k-train-01\.tar"):
        open_split("wds", str(tmp_path), "train", str(tmp_path / "cache"))


def test_shards_train_alike_with_any_number_of_workers(tmp_path, shards):
    shards(tmp_path, {"train": shard_samples()})
    plan = BatchPlan(seed=0, num_examples=8, batch_size=4, micro_batch_size=2)
    runs = []
    for num_workers in (0, 2):
        data = ImageFiles(
            "toy", 3, 8, str(tmp_path), reader="wds", input_size=16, num_workers=num_workers,
            cache_dir=str(tmp_path / "cache"),
        )  # fmt: skip
        runs.append(list(data.train_batches(plan, 0, 4, ImageTaskConfig())))
    for step, other in zip(*runs, strict=True):
        for (images, labels), (others, other_labels) in zip(step, other, strict=True):
            assert images.equal(others) and labels.equal(other_labels)


@pytest.fixture
def hugging_face(monkeypatch, tmp_path, image_bytes):
    """A DatasetDict of `train` and `validation` with original file names."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    images = [
        {"bytes": image_bytes(value), "path": f"ILSVRC2012_val_{value:08d}.JPEG"}
        for values in CLASSES.values()
        for value in values
    ]
    labels = [number for number, values in enumerate(CLASSES.values()) for _ in values]
    split = datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
    return datasets.DatasetDict(train=split, validation=split.select(range(4)))


def check_hugging_face(reader: str, root: str | None, cache: Path) -> None:
    images = open_split(reader, root, "train", str(cache))
    assert found(images) == EXPECTED and images.class_names == list(CLASSES)
    assert images.file_name(3) == "ILSVRC2012_val_00000090.JPEG"
    assert len(open_split(reader, root, "validation", str(cache)).labels) == 4


def test_hugging_face_saved_to_disk(tmp_path, hugging_face):
    hugging_face.save_to_disk(str(tmp_path / "saved"))
    check_hugging_face("hfds", str(tmp_path / "saved"), tmp_path / "cache")
    check_hugging_face(f"hfds/{tmp_path / 'saved'}", None, tmp_path / "cache")
    with pytest.raises(DataMissing, match="no split 'test', only train, validation"):
        open_split("hfds", str(tmp_path / "saved"), "test")


def test_hugging_face_parquet_folder(tmp_path, hugging_face):
    for split in hugging_face:
        target = tmp_path / "parquet" / "data" / f"{split}-00000-of-00001.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        hugging_face[split].to_parquet(str(target))
    reader, cache = f"hfds/{tmp_path / 'parquet'}", str(tmp_path / "cache")
    check_hugging_face(reader, None, tmp_path / "cache")

    def apart(train: str, held_out: str) -> None:
        ImageSplits("toy", 3, None, reader, train, held_out, cache).check_apart()

    number = len(EXPECTED)
    apart("train[:50%]", "train[50%:]")
    apart("train", "validation[:2]")
    for train, held_out, row in (
        ("train", "train[:2]", "train[0]"),
        ("train[:50%]+validation", "train[-1:]+validation[1:]", "validation[1]"),
        ("train[:50%]", f"train[{number // 2 - 1}:]", f"train[{number // 2 - 1}]"),
    ):
        with pytest.raises(ConfigError, match=re.escape(f": {row} is trained on, too")):
            apart(train, held_out)
    for wrong in ("train[:2", "nope[:2]", "train[:200%]"):
        with pytest.raises(ConfigError, match=re.escape(f"no split as train or {wrong}: ")):
            apart("train", wrong)


def test_torchvision(tmp_path):
    """CIFAR-10's python batches, as torchvision unpacks them; torchvision checks their md5."""
    with pytest.raises(DataMissing, match="data.reader=torch/cifar10"):
        open_split("torch/cifar10", str(tmp_path), "train")


def test_torchvision_imagenet(tmp_path, class_folders):
    torch = pytest.importorskip("torch")
    class_folders(tmp_path / "train", CLASSES)
    names = {name: (name,) for name in CLASSES}
    torch.save((names, []), tmp_path / "meta.bin")  # what torchvision keeps of the devkit
    images = open_split("torch/imagenet", str(tmp_path), "train")
    assert found(images) == EXPECTED and images.class_names == list(CLASSES)
    assert images.file_name(0) == "n01440764_10.JPEG"


def test_compressed_tar_is_refused(tmp_path, image_bytes):
    with tarfile.open(tmp_path / "val.tar", "w:gz") as tar:
        member = tarfile.TarInfo("n01440764/x.JPEG")
        member.size = len(image_bytes(1))
        tar.addfile(member, io.BytesIO(image_bytes(1)))
    with pytest.raises(ConfigError, match="uncompressed tar"):
        open_split("", str(tmp_path), "val", str(tmp_path / "cache"))


def test_open_tars_are_closed(tmp_path):
    """When a tar is forgotten, but not under a read; when Python ends `finalize` does the same."""
    path = tmp_path / "a.tar"
    path.write_bytes(b"12345")
    image_archives._open_tar.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        held = image_archives._open_tar(str(path))
        file = held.file
        image_archives._open_tar.cache_clear()
        gc.collect()
        assert os.pread(file.fileno(), 2, 3) == b"45"
        del held
        gc.collect()
        assert file.closed
    assert not [w for w in caught if str(path) in str(w.message)]
