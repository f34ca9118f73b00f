"""Image-text pairs in tar files, as img2dataset writes them: KEY.jpg with KEY.txt, and KEY.json.

Any pair is two reads at known offsets. The caption is KEY.txt, or else `caption` in KEY.json.
Samples that have only one of the two are left out, and counted; so are empty captions, which
img2dataset writes where its table has none.
"""

from __future__ import annotations

import json
import tarfile
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.config import ConfigError
from experiments.data.archive_index import Entry, Scanned
from experiments.data.caption_tokens import whole_characters
from experiments.data.image_archives import ArchiveImages, open_entries
from experiments.data.image_names import IMAGE_SUFFIXES, suffix_of
from experiments.data.shard_samples import key_and_suffix
from experiments.data.tar_members import members

_TEXT, _JSON = 0, 1
"""Labels of captions: the file itself, or a field of it."""
_START = 64
"""Bytes of a text that are looked at; where they are spaces, all of it."""


class ShardCaptions:
    """Texts by number; read as they are needed. `_found` has seen that each is one."""

    def __init__(self, files: ArchiveImages) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files.labels)

    def texts(self, numbers: Sequence[int] | np.ndarray) -> list[str]:
        """Captions without spaces around them."""
        return [self._text(int(number)) for number in numbers]

    def file_name(self, number: int) -> str:
        """Key of a sample."""
        return self.files.file_name(number)

    def num_bytes(self, number: int) -> int:
        return self.files.num_bytes(number)

    def _text(self, number: int) -> str:
        content = self.files.content(number)
        return _caption_of(content, is_json=bool(self.files.labels[number] == _JSON))


def _caption_of(content: bytes, is_json: bool) -> str:
    """Without spaces around it; empty where there is none."""
    text = content.decode("utf-8-sig", errors="replace")
    if not is_json:
        return text.strip()
    try:
        said = json.loads(text)["caption"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return whole_characters(said).strip() if isinstance(said, str) else ""


def open_pairs(
    shards: dict[Path, int | None], cache_dir: str | None, name: str
) -> tuple[ArchiveImages, ShardCaptions]:
    """Images and captions of a split, in the same order.

    Args:
        shards: Tar files, with the number of pairs that each should hold where that is known.
        cache_dir: Where the indexes are kept; None: the user's cache folder.
        name: Of the split, for the warning that samples are left out.

    Raises:
        ConfigError: a shard that is damaged or incomplete, or holds no pair.
    """
    tars = list(shards)
    images = open_entries(tars, cache_dir, _images_of_pairs)
    captions = open_entries(tars, cache_dir, _captions_of_pairs)
    for number, (tar, promised) in enumerate(shards.items()):
        held = int((images._index.tar_numbers == number).sum())
        if promised is not None and held != promised:
            raise ConfigError(
                f"{tar} holds {held} pairs, but _info.json promises {promised}: get it again"
            )
    if images.left_out:
        parts = ", ".join(f"{n} without {what}" for what, n in sorted(images.left_out.items()))
        warnings.warn(f"{name}: samples are left out: {parts}", stacklevel=3)
    return images, ShardCaptions(captions)


_DOTTED = "a name of one dot, as KEY.jpg and KEY.txt"


class _Sample(NamedTuple):
    images: list[tuple[int, int]]  # offset and size
    texts: dict[str, tuple[int, int]]  # of txt and json
    dotted: list[str]  # names of images and texts that have more dots, which are not read


def _images_of_pairs(path: Path) -> Scanned:
    return _found(path, images=True)


def _captions_of_pairs(path: Path) -> Scanned:
    return _found(path, images=False)


def _found(path: Path, images: bool) -> Scanned:
    samples: dict[str, _Sample] = {}
    entries: list[Entry] = []
    left_out: Counter[str] = Counter()
    with tarfile.open(path, "r:") as tar:
        for member in members(tar, str(path)):
            key, suffix = key_and_suffix(member.name)
            place = member.offset_data, member.size
            if suffix_of(member.name) not in (*IMAGE_SUFFIXES, "txt") and suffix != "json":
                continue
            sample = samples.setdefault(key, _Sample([], {}, []))
            if suffix in IMAGE_SUFFIXES:
                sample.images.append(place)
            elif suffix in ("txt", "json"):
                sample.texts[suffix] = place
            else:
                sample.dotted.append(member.name)
        for key, sample in samples.items():
            if len(sample.images) > 1:
                raise ConfigError(f"{path}: {key} has {len(sample.images)} images: write it anew")
            kind = next((k for k in ("txt", "json") if _says(tar, k, sample.texts.get(k))), None)
            if not sample.images or kind is None:
                left_out[_lacking(sample)] += 1
                continue
            place = sample.images[0] if images else sample.texts[kind]
            entries.append(Entry(key, _TEXT if kind == "txt" else _JSON, *place))
    return entries, left_out


def _lacking(sample: _Sample) -> str:
    if sample.dotted:
        return _DOTTED
    return "caption" if sample.images else "image"


def _says(tar: tarfile.TarFile, kind: str, place: tuple[int, int] | None) -> bool:
    """Whether a file is there and holds a caption; the start of a text tells it."""
    if place is None:
        return False
    offset, size = place
    assert tar.fileobj is not None
    tar.fileobj.seek(offset)
    content = tar.fileobj.read(size if kind == "json" else min(size, _START))
    if kind == "txt" and size > _START and not _caption_of(content, is_json=False):
        content += tar.fileobj.read(size - _START)
    return bool(_caption_of(content, kind == "json"))
