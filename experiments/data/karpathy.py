"""COCO and Flickr30k with Karpathy's splits: `dataset_coco.json`, `dataset_flickr30k.json`.

Each image has five captions or a few more; the first five count, as everywhere. Empty ones do not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from experiments.config import UserError
from experiments.data.caption_tokens import whole_characters
from experiments.data.image_loading import ImageBatches, load
from experiments.data.image_transforms import eval_transform
from experiments.data.loading_processes import num_loading
from experiments.data.locate import expanded
from experiments.data.pair_paths import KARPATHY, find_annotations
from experiments.ranges import check_all

NUM_CAPTIONS = 5
"""Of an image that count."""


class FileImages:
    """Images by their paths; see `image_readers.LabelledImages`."""

    left_out: Counter[str] = Counter()

    def __init__(
        self, root: Path, paths: Sequence[str], class_names: list[str] | None = None
    ) -> None:
        self.class_names = class_names
        self._root, self._paths = root, np.array(paths)
        self.labels = np.zeros(len(paths), np.int64)

    def open(self, index: int) -> Image.Image:
        return Image.open(self.name(index))

    def name(self, index: int) -> str:
        return str(self._root / str(self._paths[index]))

    def file_name(self, index: int) -> str:
        return str(self._paths[index])

    def num_bytes(self, index: int) -> int:
        path = self._root / str(self._paths[index])
        return path.stat().st_size if path.is_file() else -1

    def check_there(self, what: str) -> None:
        """That every image is there.

        Raises:
            UserError: names the first that is not.
        """
        lacking = [n for n in range(len(self._paths)) if self.num_bytes(n) < 0]
        if lacking:
            raise UserError(
                f"{what}: {len(lacking)} of {len(self._paths)} images are not there, the first is "
                f"{self.name(lacking[0])}: complete the copy, or set the root to the folder that "
                "the file names begin in"
            )


def read_split(
    root: str, annotations: str | None, split: str
) -> tuple[FileImages, list[list[str]]]:
    """Images of a split and the captions of each.

    Args:
        root: Folder that the images lie in, below `filepath` where the file says one.
        annotations: The json file; None: the one in the root.
        split: train (with restval), val or test.

    Raises:
        UserError: where the file is missing, damaged, or has no image of the split.
    """
    path = find_annotations(root, annotations)
    wanted = ("train", "restval") if split == "train" else (split,)
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["images"]
        rows = [image for image in listed if image["split"] in wanted]
        paths = [str(Path(row.get("filepath") or "", row["filename"])) for row in rows]
        said = [[_caption(one["raw"]) for one in row["sentences"]] for row in rows]
        captions = [[text for text in texts if text][:NUM_CAPTIONS] for texts in said]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is not in Karpathy's form ({type(error).__name__}: {error}): get it again"
        ) from error
    if not rows:
        raise UserError(f"{path} has no image of the split {split}: choose train, val or test")
    if bare := [name for name, said in zip(paths, captions, strict=True) if not said]:
        raise UserError(f"{path}: {bare[0]} has no caption: get it again")
    return FileImages(Path(root).expanduser(), paths), captions


def _caption(raw: Any) -> str:
    return whole_characters(str(raw or "")).strip()


class KarpathyCaptions:
    """A set to search in; see `captioned_sets.CaptionedSet`.

    Args:
        name: Of the set.
        root: Folder of the images; null: the set is left out.
        annotations: Karpathy's json; null: `dataset_*.json` in the root.
        split: test (5,000 images of COCO, 1,000 of Flickr30k), val or train.
        input_size: Side of the images that the model sees, in pixels.
        num_workers: Loading processes; None: by the cores, see `num_loading`.
    """

    def __init__(
        self,
        name: str,
        root: str | None = None,
        annotations: str | None = None,
        split: str = "test",
        *,
        input_size: int = 224,
        num_workers: int | None = None,
    ) -> None:
        check_all({k: v for k, v in locals().items() if k in KARPATHY}, KARPATHY, "data")
        self.name, self.input_size, self._num_workers = name, input_size, num_workers
        self._root, self._annotations, self._split = expanded(root), annotations, split

    @cached_property
    def _read(self) -> tuple[FileImages, list[list[str]]]:
        return read_split(str(self._root), expanded(self._annotations), self._split)

    def check_files(self) -> None:
        """That every image is there, before anything is trained.

        Raises:
            UserError: names the first that is not.
        """
        self._read[0].check_there(f"{self.name} ({self._split})")

    @property
    def num_images(self) -> int:
        return len(self._read[1])

    @cached_property
    def _flat(self) -> tuple[list[str], np.ndarray]:
        said = self._read[1]
        of = np.repeat(np.arange(len(said)), [len(captions) for captions in said])
        return [caption for captions in said for caption in captions], of

    @property
    def captions(self) -> list[str]:
        return self._flat[0]

    @property
    def image_of(self) -> np.ndarray:
        return self._flat[1]

    def images(self, batches: Sequence[np.ndarray], settings: Any) -> Iterator[Tensor]:
        files = self._read[0]
        transform = eval_transform(self.input_size, settings)
        wanted = ImageBatches(files, np.arange(len(files.labels)), files.labels, transform)
        requests = [(0, numbers) for numbers in batches]
        for pixels, _ in load(wanted, requests, num_loading(self._num_workers, len(requests))):
            yield pixels
