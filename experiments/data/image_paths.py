"""Finds image files on disk, and says in one line what to do where they are missing.

Standard library only, and nothing here reads more than folder listings and a small description
file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config import ConfigError
from experiments.data.image_names import (
    SYNONYMS,
    compressed,
    compressed_tars,
    is_hidden,
    suffix_of,
    synonyms,
)
from experiments.data.locate import DataMissing, Rule, check_values, exists, expanded
from experiments.data.shard_paths import find_shards

RULES = {
    "name": Rule(str),
    "num_classes": Rule(int, 2),
    "num_train": Rule(int, 1),
    "root": Rule(str, optional=True),
    "reader": Rule(str, may_be_empty=True),
    "train_split": Rule(str),
    "val_split": Rule(str),
    "test_split": Rule(str, optional=True),
    "input_size": Rule(int, 1),
    "num_workers": Rule(int, 0, optional=True),
    "num_holdout": Rule(int, 0),
    "real_labels": Rule(bool),
    "eval_roots": Rule(Mapping, optional=True),
    "cache_dir": Rule(str, optional=True),
    "decoder": Rule(str, choices=("pil", "tensor")),
    "more_labels": Rule(str, optional=True),
    "more_labels_sha256": Rule(str, optional=True),
}
"""Settings of `ImageFiles`."""

_SOURCES = {
    "imagenet": "https://image-net.org (after registering), or huggingface.co/datasets/"
    "timm/imagenet-1k-wds or ILSVRC/imagenet-1k",
    "imagenet21k": "https://image-net.org (after registering), or huggingface.co/datasets/"
    "timm/imagenet-w21-wds",
    "imagenet21k_for_jft300m": "ImageNet-21k, or any big labelled set of your own",
    "imagenet21k_for_jft3b": "ImageNet-21k, or any big labelled set of your own",
}
VARIANTS = {
    "v2": "https://huggingface.co/datasets/vaishaal/ImageNetV2",
    "a": "https://github.com/hendrycks/natural-adv-examples",
    "r": "https://github.com/hendrycks/imagenet-r",
    "sketch": "https://github.com/HaohanWang/ImageNet-Sketch",
    "objectnet": "https://objectnet.dev",
}
"""Further ImageNet test sets, and where their authors offer them."""


def reader_kind(reader: str) -> str:
    """Which reader a `reader` setting means: folder, wds, hfds or torch.

    Raises:
        ConfigError: for readers that cannot give an example by its number.
    """
    if reader in ("", "folder", "tar", "torch/image_folder", "torch/folder"):
        return "folder"
    kind = reader.partition("/")[0]
    if kind in ("wds", "hfds", "torch"):
        return kind
    raise ConfigError(
        f"data.reader={reader}: choose '' (class folders or tars), wds (WebDataset shards), hfds "
        "(a Hugging Face data set on disk) or torch/NAME; streaming readers (tfds, hfids) cannot "
        "resume exactly"
    )


def check(section: Mapping[str, Any], proxy: str) -> None:
    """Checks the values and the paths of a `data` section for `ImageFiles`.

    Args:
        section: Keyword arguments of `ImageFiles`.
        proxy: Experiment page that runs without this data.

    Raises:
        DataMissing: the first path that does not hold what it should.
        ConfigError: a value that cannot be.
    """
    check_values(section, RULES)
    name = section.get("name", "the data")
    splits = [section.get("train_split", "train")]
    if not section.get("num_holdout"):  # else training images are validated on
        splits.append(section.get("val_split", "validation"))
    if (test_split := section.get("test_split")) is not None:
        splits.append(test_split)
    check_root(section.get("root"), section.get("reader", ""), splits, name, proxy)
    for key, path in (section.get("eval_roots") or {}).items():
        check_variant(key, path)


def check_root(
    root: str | None, reader: str, splits: list[str], name: str, proxy: str = "vit_proxy"
) -> None:
    """Checks that `root` exists and has the splits, as far as a reader can tell by looking.

    Raises:
        DataMissing: says where to get the data, which override names it, what runs without.
    """
    kind = reader_kind(reader)
    if kind == "hfds" and hub_name(reader):
        return
    where = hfds_path(reader, root) if kind == "hfds" else expanded(root)
    if not where:
        raise _missing("data.root is not set", name, proxy)
    if not exists(where):
        raise _missing(f"data.root={where} does not exist", name, proxy)
    try:
        for split in splits:
            if kind == "folder":
                find_split(where, split)
            elif kind == "wds":
                find_shards(where, split)
    except DataMissing as error:
        raise _missing(str(error), name, proxy) from None
    except OSError as error:
        problem = f"data.root={where}: cannot list {error.filename} ({error.strerror})"
        raise _missing(problem, name, proxy) from None


def _missing(problem: str, name: str, proxy: str) -> DataMissing:
    source = _SOURCES.get(name)
    fetch = f"get {name} from {source}, then set" if source else "set"
    return DataMissing(
        f"{problem}; {fetch} data.root=/path/to/{name}; "
        f"or try experiment={proxy}, which needs no download"
    )


def check_variant(key: str, path: str | None) -> None:
    """Checks the path of a further test set; None leaves it out.

    Raises:
        DataMissing: says where to get it and which override names it.
    """
    if path is None:
        return
    if not isinstance(path, str) or not exists(path) or not Path(str(expanded(path))).is_dir():
        raise DataMissing(
            f"data.eval_roots.{key}={path} is not a folder; get it from "
            f"{VARIANTS.get(key, 'its authors')} and set data.eval_roots.{key}=/path, or "
            f"data.eval_roots.{key}=null to leave it out"
        )


def hub_name(reader: str) -> str | None:
    """`org/name` of hfds/org/name; None where the data lies at a path."""
    name = reader.partition("/")[2]
    return name if name and not name.startswith("/") else None


def hfds_path(reader: str, root: str | None) -> str | None:
    """Path of a Hugging Face data set: hfds//abs/path, or the root with hfds alone."""
    return expanded(reader.partition("/")[2] or root)


def find_split(root: str, split: str) -> Path:
    """Folder of class folders, or tar file, that holds a split.

    Raises:
        DataMissing: names what was looked for.
    """
    names = synonyms(split)
    for name in names:
        for path in (Path(root, name), Path(root, f"{name}.tar")):
            if path.is_dir() or path.suffix == ".tar" and path.is_file():
                return path
    listed = [path.name for path in Path(root).glob("*") if path.name.split(".")[0] in names]
    for name in compressed_tars(listed):
        raise DataMissing(compressed(Path(root, name)))
    tried = ", ".join(names)
    raise DataMissing(
        f"{root} has no folder or tar file for the split '{split}' (tried {tried})"
        f"{_sharded(root, names)}{_unsplit(root)}"
    )


def _sharded(root: str, names: list[str]) -> str:
    """What to do with numbered tars: shards, whose split is no folder and no single tar."""
    numbered = re.compile(rf"(.*[-_.])?({'|'.join(map(re.escape, names))})[-_.]?\d+\.tar")
    shards = sorted(p.name for p in Path(root).glob("*.tar") if numbered.fullmatch(p.name))
    return f"; shards like {shards[0]} are read by data.reader=wds" if shards else ""


def _unsplit(root: str) -> str:
    """What to do with class folders that lie in the root itself."""
    folders = sorted(p.name for p in Path(root).iterdir() if p.is_dir() and not is_hidden(p.name))
    if len(folders) < 2 or any(name in folders for group in SYNONYMS for name in group):
        return ""
    return (
        f"; if {folders[0]}, {folders[1]}, ... are its classes, data.train_split=. takes them, and "
        "data.num_holdout=N sets N images aside to validate on"
    )


def places_of(reader: str, root: str | None, split: str) -> set[str]:
    """What a split is read from: paths of its folder, tars or shards; else its usual name.

    Raises:
        DataMissing: nothing there for this split.
    """
    kind = reader_kind(reader)
    if kind == "folder":
        place = find_split(str(root), split)
        return {str(path.resolve()) for path in (class_tars_in(place) or [place])}
    if kind == "wds":
        return {str(path.resolve()) for path in find_shards(str(root), split)}
    if kind == "torch":  # has two: what is not trained on goes by several names
        return {"train" if split in synonyms("train") else "validation"}
    return {min(synonyms(split))}


def class_tars_in(place: Path) -> list[Path]:
    """The tars that a split's place is, or holds; none where it is read as class folders."""
    if place.is_file():
        return [place]
    entries = (path for path in place.glob("*") if not is_hidden(path.name))
    return sorted(path for path in entries if suffix_of(path.name) == "tar")


def place_in_both(one: set[str], other: set[str]) -> str:
    """The first place of `places_of` that two splits share, or that lies inside one of the other.

    Returns:
        Empty where there is none.
    """
    for places, others in ((one, other), (other, one)):
        for place in sorted(places):
            path = Path(place)
            above = [parent for parent in path.parents if str(parent) in others]
            shown = any(not is_hidden(str(path.relative_to(parent))) for parent in above)
            if place in others or shown and path.is_dir():  # in a folder of images no tar is read
                return place
    return ""
