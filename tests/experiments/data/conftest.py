"""Small trees of images in the on-disk formats of the real data sets."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def encoded(value: int, size: tuple[int, int] = (24, 20), form: str = "JPEG") -> bytes:
    """An image with some structure, told apart by the brightness of its centre."""
    pixels = np.full((size[1], size[0], 3), value % 256, dtype=np.uint8)
    pixels[:3, :3] = (value * 7) % 256
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, quality=95)
    return file.getvalue()


@pytest.fixture
def image_bytes() -> Callable[..., bytes]:
    return encoded


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def class_folders() -> Callable[..., Path]:
    """Writes {class: [values]} as class folders of JPEG files."""

    def write(root: Path, classes: dict[str, list[int]], pattern: str = "{name}_{value}.JPEG"):
        for name, values in classes.items():
            for value in values:
                put(root / name / pattern.format(name=name, value=value), encoded(value))
        return root

    return write


def add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def tar_file() -> Callable[..., Path]:
    """Writes {member: content} as a tar file."""

    def write(path: Path, members: dict[str, bytes]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, content in members.items():
                add_file(tar, name, content)
        return path

    return write


@pytest.fixture
def shards(tar_file) -> Callable[..., Path]:
    """Writes WebDataset shards as timm/imagenet-1k-wds has them, with `_info.json`."""

    def write(root: Path, splits: dict[str, list[list[tuple[str, int, int]]]]) -> Path:
        described = {}
        for split, contents in splits.items():
            names = [f"imagenet1k-{split}-{number:02d}.tar" for number in range(len(contents))]
            for name, samples in zip(names, contents, strict=True):
                members = {}
                for key, label, value in samples:
                    members[f"{key}.cls"] = str(label).encode()
                    members[f"{key}.jpg"] = encoded(value)
                    members[f"{key}.json"] = json.dumps({"label": label, "width": 24}).encode()
                tar_file(root / name, members)
            lengths = [len(samples) for samples in contents]
            described[split] = {
                "name": split,
                "filenames": names,
                "shard_lengths": lengths,
                "num_samples": sum(lengths),
            }
        (root / "_info.json").write_text(json.dumps({"name": "imagenet1k", "splits": described}))
        return root

    return write
