"""Further test sets for ImageNet classifiers: ReaL, V2, A, R, Sketch and ObjectNet.

Each lies on disk in the layout of its authors' archive. Class numbers are those of ImageNet:
positions in the sorted list of its 1000 WordNet ids.
"""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.config import ConfigError
from experiments.data.image_folders import FolderImages
from experiments.data.image_paths import check_variant
from experiments.data.image_readers import LabelledImages
from experiments.data.locate import DataMissing

NUM_CLASSES = 1000
# Source: github.com/abarbu/objectnet-template-pytorch, objectnet_pytorch_dataloader.py cuts off
# 2 pixels; the licence speaks of a border of 1 pixel.
OBJECTNET_BORDER = 2


@dataclass(frozen=True)
class EvalImages:
    """What is evaluated as one split."""

    images: LabelledImages
    rows: np.ndarray  # (N,) rows of the reader
    targets: np.ndarray  # (N,) int64 class, or (N, num_classes) bool: any true class is right
    visible: np.ndarray | None = None  # classes that may be predicted, int64; None: all
    border: int = 0  # pixels to cut off each side


def synsets() -> list[str]:
    """The WordNet ids of the 1000 classes, in order."""
    return info("imagenet_synsets.txt").split()


def lemmas() -> dict[str, str]:
    """WordNet id to the words that it stands for, with commas between."""
    lines = info("imagenet_synset_to_lemma.txt").splitlines()
    return dict(line.split("\t", 1) for line in lines)


def info(name: str) -> str:
    """A list that timm ships."""
    content = pkgutil.get_data("timm.data", f"_info/{name}")
    assert content is not None
    return content.decode()


def open_variant(key: str, path: str) -> EvalImages:
    """Opens one of the test sets that have their own images.

    Args:
        key: v2, a, r, sketch or objectnet.
        path: Folder of the unpacked archive.

    Raises:
        DataMissing: no such folder.
        ConfigError: its class folders are not those of the test set.
    """
    check_variant(key, path)
    if key == "objectnet":
        return _open_objectnet(Path(path))
    if key == "v2":  # folders 0..999, which do not sort like numbers
        classes = {str(number): [number] for number in range(NUM_CLASSES)}
    else:
        classes = {name: [synsets().index(name)] for name in _variant_synsets(key)}
    return _labelled(key, FolderImages(path), classes, visible=key in ("a", "r"))


def _variant_synsets(key: str) -> list[str]:
    return synsets() if key == "sketch" else info(f"imagenet_{key}_synsets.txt").split()


def known_classes(key: str) -> np.ndarray | None:
    """Classes that may be predicted on a test set, as far as known without its files."""
    if key not in ("a", "r"):
        return None
    return np.array(sorted(synsets().index(name) for name in _variant_synsets(key)))


def _labelled(
    key: str, images: FolderImages, classes: Mapping[str, list[int]], visible: bool
) -> EvalImages:
    """Turns folder names into ImageNet classes; every folder must be known, and there."""
    names = images.class_names or []
    wrong = sorted(set(names) ^ set(classes))
    if wrong:
        raise ConfigError(
            f"data.eval_roots.{key}: expected {len(classes)} class folders and found {len(names)}; "
            f"the first that differs is '{wrong[0]}': is this the unpacked archive, complete?"
        )
    chosen = np.array([classes[name][0] for name in names])
    known = np.unique(chosen) if visible else None
    return EvalImages(images, np.arange(len(images.labels)), chosen[images.labels], known)


def _open_objectnet(root: Path) -> EvalImages:
    """Images of the classes that ObjectNet shares with ImageNet.

    An ObjectNet class may stand for several ImageNet classes; each of them is right. Only classes
    that stand for some ObjectNet class may be predicted (as in mlfoundations/model-soups).
    """
    images = FolderImages(_existing(root / "images"))
    try:
        classes = objectnet_classes(_existing(root / "mappings"))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"data.eval_roots.objectnet: {root}/mappings is damaged ({type(error).__name__}: "
            f"{' '.join(str(error).split())}): unpack the archive again"
        ) from error
    names = images.class_names or []
    wrong = sorted(set(classes) - set(names))
    if wrong:
        raise ConfigError(f"data.eval_roots.objectnet: {root}/images has no folder '{wrong[0]}'")
    table = np.zeros((len(names), NUM_CLASSES), dtype=bool)
    for row, name in enumerate(names):
        table[row, classes.get(name, [])] = True
    rows = np.flatnonzero(np.any(table, axis=1)[images.labels])
    return EvalImages(
        images,
        rows,
        targets=table[images.labels[rows]],
        visible=np.flatnonzero(np.any(table, axis=0)),
        border=OBJECTNET_BORDER,
    )


def _existing(path: Path) -> Path:
    if not path.is_dir():
        raise DataMissing(
            f"data.eval_roots.objectnet: {path} is not a folder; name the folder objectnet-1.0 of "
            "the unpacked archive, with images/ and mappings/"
        )
    return path


def objectnet_classes(mappings: Path) -> dict[str, list[int]]:
    """ImageNet classes of each ObjectNet folder that has any, from the archive's own files.

    Labels stand in the order of the ILSVRC2012 ids in `imagenet_to_label_2012_v2`, and
    `pytorch_to_imagenet_2012_id.json` gives the 0-based line of each class of sorted WordNet ids.
    """
    label_of = json.loads((mappings / "folder_to_objectnet_label.json").read_text())
    imagenet_labels = json.loads((mappings / "objectnet_to_imagenet_1k.json").read_text())
    line_of = json.loads((mappings / "pytorch_to_imagenet_2012_id.json").read_text())
    lines = (mappings / "imagenet_to_label_2012_v2").read_text().splitlines()
    class_of = {lines[int(line)].strip(): int(number) for number, line in line_of.items()}
    return {
        folder: [class_of[name] for name in imagenet_labels[label].split("; ")]
        for folder, label in label_of.items()
        if label in imagenet_labels
    }


_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")


def real_labels(images: LabelledImages, num_classes: int) -> EvalImages | None:
    """ImageNet ReaL: the reassessed labels of the validation images; any of them is right.

    Labels are found by the images' original file names (or keys in WebDataset shards), never by
    their order. Images without a label are kept, with an empty row: they are not counted.

    Returns:
        None where the names are lost, as in some converted copies.

    Source: arXiv:2006.07159; the labels are packaged in timm.
    """
    labels: list[list[int]] = json.loads(info("imagenet_real_labels.json"))
    targets = np.zeros((len(images.labels), num_classes), dtype=bool)
    for row in range(len(targets)):
        match = _VALIDATION_NAME.search(images.file_name(row))
        if match is None or not 1 <= int(match[1]) <= len(labels):
            return None
        targets[row, labels[int(match[1]) - 1]] = True
    return EvalImages(images, np.arange(len(targets)), targets)
