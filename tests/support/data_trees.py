"""Small trees of data in every format, ways of damaging them, and how a run would read them."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import sys
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.config import UserError
from experiments.data.image_files import ImageFiles
from experiments.data.locate import check_section
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

STILL = ImageTaskConfig(crop_scale_min=1.0, horizontal_flip=0.0, eval_crop_fraction=1.0)
EMPTY_TAR = "no images" if sys.version_info >= (3, 11) else "tar file"
"""What is said of a tar file without a member, which Python 3.10 takes for none."""
VALUES = {"ant": (20, 40), "bee": (120, 140)}
REMEDY = re.compile(
    r"get it again|restore|mend|complete the copy|set data\.|write |name |take it away|cast it|"
    r"call it|should hold|get toy|leave it out|give (each|both)|choose|save a|use class folders|"
    r"decompress it"
)


def image(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as file:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def samples(start: str = "k") -> list[tuple[str, bytes]]:
    """Members of a whole shard."""
    found = []
    for label, (name, values) in enumerate(VALUES.items()):
        for value in values:
            key = f"{start}{name}{value}"
            found += [(f"{key}.png", image(value)), (f"{key}.cls", str(label).encode())]
    return found


def folders(root: Path) -> dict[str, Any]:
    for split in ("train", "val"):
        for name, values in VALUES.items():
            for value in values:
                path = root / split / name / f"{value}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(image(value))
    return {}


def class_tars(root: Path) -> dict[str, Any]:
    for split in ("train", "val"):
        members = [(f"{n}/{v}.png", image(v)) for n, values in VALUES.items() for v in values]
        tar(root / f"{split}.tar", members)
    return {}


def shards(root: Path) -> dict[str, Any]:
    for split in ("train", "val"):
        tar(root / f"toy-{split}-0.tar", samples())
    return {"reader": "wds"}


def described(root: Path) -> dict[str, Any]:
    settings = shards(root)
    splits = {
        split: {"filenames": [f"toy-{split}-0.tar"], "shard_lengths": [4]}
        for split in ("train", "val")
    }
    (root / "_info.json").write_text(json.dumps({"splits": splits}))
    return settings


def hugging_face(root: Path) -> dict[str, Any]:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(VALUES))}
    )
    pairs = [(v, label) for label, values in enumerate(VALUES.values()) for v in values]
    images = [{"bytes": image(value), "path": None} for value, _ in pairs]
    content = {"image": images, "label": [label for _, label in pairs]}
    split = datasets.Dataset.from_dict(content, features=features)
    datasets.DatasetDict(train=split, validation=split).save_to_disk(str(root))
    return {"reader": "hfds"}


def parquet(root: Path) -> dict[str, Any]:
    datasets = pytest.importorskip("datasets")
    hugging_face(root / "saved")
    for split, data in datasets.load_from_disk(str(root / "saved")).items():
        data.to_parquet(str(root / "data" / f"{split}-00000-of-00001.parquet"))
    shutil.rmtree(root / "saved")
    return {"reader": f"hfds/{root}", "cache_dir": str(root / "cache")}


def used(root: Path, settings: dict[str, Any]) -> dict[str, list[tuple[int, int]]]:
    """(brightness, label) of all images of both splits, as a run would read them."""
    arguments = {
        "name": "toy", "num_classes": 2, "num_train": 4, "root": str(root), "num_workers": 0,
        "input_size": 16, "cache_dir": str(root.parent / "cache"), **settings,
    }  # fmt: skip
    check_section({"_target_": "experiments.data.image_files.ImageFiles", **arguments})
    data = ImageFiles(**arguments)
    (step,) = data.train_batches(BatchPlan(0, 4, 4, 4), 0, 1, STILL)
    batches = {"train": step, "val": []}
    for images, labels in data.eval_batches(["toy_val"], 3, 0, 1, STILL):
        batches["val"].append((images, labels["toy_val"]))
    return {
        split: sorted(
            (int(one[0, 8, 8]), int(label))
            for images, labels in found
            for one, label in zip(images, labels, strict=True)
        )
        for split, found in batches.items()
    }


WHOLE = [(v, label) for label, values in enumerate(VALUES.values()) for v in values]


def whole_or_one_line(root: Path, settings: dict[str, Any]) -> str:
    """The line, or nothing where all of it was read right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = used(root, settings)
        except UserError as error:
            line = str(error)
            assert "\n" not in line and len(line) < 600, line
            assert REMEDY.search(line), line
            return line
    assert found == {"train": WHOLE, "val": WHOLE}
    return ""


Damage = Callable[[Path], Any]


def written(path: str, content: bytes | str | None) -> Damage:
    """Puts a file; None: takes one, or a folder, away."""

    def do(root: Path) -> None:
        target = root / path
        if target.is_dir():
            shutil.rmtree(target)
        elif target.exists():
            target.unlink()
        if content is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)

    return do


def emptied(path: str) -> Damage:
    def do(root: Path) -> None:
        shutil.rmtree(root / path)
        (root / path).mkdir()

    return do


def cut(path: str, fraction: float) -> Damage:
    def do(root: Path) -> None:
        (target,) = sorted(root.glob(path))[:1]
        content = target.read_bytes()
        target.write_bytes(content[: int(len(content) * fraction)])

    return do


def linked(path: str, to: str) -> Damage:
    def do(root: Path) -> None:
        os.symlink(to, root / path)

    return do


def damaged_header(path: str, of: int) -> Damage:
    """Overwrites bytes in the header of a member; Python's tarfile ends there without a word."""

    def do(root: Path) -> None:
        with tarfile.open(root / path) as file:
            offset = file.getmembers()[of].offset
        content = bytearray((root / path).read_bytes())
        content[offset + 100 : offset + 108] = b"\xff" * 8
        (root / path).write_bytes(content)

    return do


def at_a_member(path: str, of: int) -> Damage:
    """Cuts just where a member begins, so that nothing of it is there."""

    def do(root: Path) -> None:
        with tarfile.open(root / path) as file:
            offset = file.getmembers()[of].offset
        (root / path).write_bytes((root / path).read_bytes()[:offset])

    return do


def compressed(path: str) -> Damage:
    return lambda root: (
        (root / path).write_bytes(gzip.compress((root / path).read_bytes())) and None
    )


def check_damage(
    make: Callable[[Path], dict[str, Any]], case: tuple[Damage, str], at: Path
) -> None:
    """Damages a tree and expects a part of the line; where that is empty, all of its images."""
    settings = make(at)
    damage, expected = case
    damage(at)
    line = whole_or_one_line(at, settings)
    assert expected in line and bool(expected) == bool(line), line
