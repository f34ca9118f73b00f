"""CIFAR-100 and Oxford-IIIT Pet in their own formats, without running what a pickle names."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.config import UserError
from experiments.data.locate import DataMissing, check_section
from experiments.data.zero_shot_sets import ZeroShotImages
from experiments.settings.contrastive import ContrastiveTaskConfig

TARGET = "experiments.data.zero_shot_sets.ZeroShotImages"
BREEDS = [f"Breed_{k:02d}" for k in range(37)]


def cifar(root: Path) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    data = np.repeat(np.arange(0, 250, 50, dtype=np.uint8)[:, None], 3072, 1)
    data[:, :1024] = 7  # red
    test: dict[bytes, Any] = {b"data": data, b"fine_labels": [3, 99, 0, 1, 2]}
    names = {b"fine_label_names": [f"thing_{k}".encode() for k in range(100)]}
    (folder / "test").write_bytes(pickle.dumps(test, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=2))
    return root


def pets(root: Path) -> Path:
    for folder in ("images", "annotations"):
        (root / folder).mkdir(parents=True)
    lines = ["# a comment"]
    for k, breed in enumerate(BREEDS):
        Image.new("RGB", (20, 10), (5 * k,) * 3).save(file := io.BytesIO(), "PNG")
        (root / f"images/{breed}_{k}.jpg").write_bytes(file.getvalue())
        lines.append(f"{breed}_{k} {k + 1} 1 1")
    (root / "annotations/test.txt").write_text("\n".join(lines))
    return root


def read(data: ZeroShotImages, ranks: int = 1) -> list[tuple[int, int]]:
    found = []
    for rank in range(ranks):
        batches = data.eval_batches([data.name], 2, rank, ranks, ContrastiveTaskConfig())
        for images, labels in batches:
            assert images.shape[1:] == (3, 32, 32)
            found += zip(images[:, 2, 9, 9].tolist(), labels[data.name].tolist(), strict=True)
    return sorted(found)


def test_cifar100(tmp_path: Path) -> None:
    data = ZeroShotImages(
        "cifar100", "cifar100", str(cifar(tmp_path)), input_size=32, num_workers=0
    )
    assert read(data) == read(data, 2) == [(0, 3), (50, 99), (100, 0), (150, 1), (200, 2)]
    assert data.class_names[99] == "thing_99" and data.num_classes == 100
    inside = ZeroShotImages("x", "cifar100", str(tmp_path / "cifar-100-python"))
    assert inside.class_names == data.class_names


def test_oxford_pet(tmp_path: Path) -> None:
    data = ZeroShotImages("pet", "oxford_pet", str(pets(tmp_path)), input_size=32, num_workers=0)
    assert read(data) == [(5 * k, k) for k in range(37)]
    assert data.class_names[3] == "breed 03" and data.num_classes == 37


def test_a_pet_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    data = ZeroShotImages("pet", "oxford_pet", str(pets(tmp_path)), input_size=32, num_workers=0)
    data.check_files()
    (tmp_path / "images/Breed_07_7.jpg").unlink()
    with pytest.raises(UserError, match=r"pet: 1 of 37 images .*Breed_07_7.jpg: complete"):
        data.check_files()


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps(Evil()), r"it would call (builtins|__builtin__).print"),
        (b"", "get it again"),
        (pickle.dumps({b"data": np.zeros(5, np.uint8), b"fine_labels": []}, 2), "not CIFAR-100"),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": []}, 2), "complete"),
    ],
)
def test_a_foreign_pickle_is_not_run(
    tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (cifar(tmp_path) / "cifar-100-python/test").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read(ZeroShotImages("cifar100", "cifar100", str(tmp_path), num_workers=0))
    assert "run" not in capsys.readouterr().out


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    for kind, said in (("cifar100", "cs.toronto.edu"), ("oxford_pet", "robots.ox.ac.uk")):
        with pytest.raises(DataMissing, match=said):
            check_section({"_target_": TARGET, "name": "x", "kind": kind, "root": str(tmp_path)})
    listing = pets(tmp_path) / "annotations/test.txt"
    listing.write_text("Cat_1 1 1 1\n")
    with pytest.raises(UserError, match="names 1 of 37 breeds"):
        read(ZeroShotImages("pet", "oxford_pet", str(tmp_path)))
    listing.write_text("Cat_1 x\n")
    with pytest.raises(UserError, match="line 1: must be a name and three numbers"):
        read(ZeroShotImages("pet", "oxford_pet", str(tmp_path)))
