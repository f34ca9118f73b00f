"""Finds image data on disk, and says in one line what to do where it is missing.

Standard library only, so that a wrong path is reported before anything heavy is imported, and
nothing here reads more than folder listings and a small description file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config import ConfigError, UserError


class DataMissing(UserError):
    """Data that is not where the configuration says; the message tells where to get it."""


_SOURCES = {
    "imagenet": "https://image-net.org (after registering), or huggingface.co/datasets/"
    "timm/imagenet-1k-wds or ILSVRC/imagenet-1k",
}
VARIANTS = {
    "v2": "https://huggingface.co/datasets/vaishaal/ImageNetV2",
    "a": "https://github.com/hendrycks/natural-adv-examples",
    "r": "https://github.com/hendrycks/imagenet-r",
    "sketch": "https://github.com/HaohanWang/ImageNet-Sketch",
    "objectnet": "https://objectnet.dev",
}
"""Further ImageNet test sets, and where their authors offer them."""

_SYNONYMS = (
    ("train", "training"),
    ("validation", "val", "valid", "eval", "evaluation"),
)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


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


def check_section(section: Mapping[str, Any], proxy: str = "vit_proxy") -> None:
    """Checks the paths of a `data` section of the configuration; nothing to do without a root.

    Args:
        section: The `data` section: keyword arguments of `ImageFiles`.
        proxy: Experiment page that runs without this data.

    Raises:
        DataMissing: the first path that does not hold what it should.
    """
    if "root" not in section:
        return
    name = section.get("name", "the data")
    splits = [section.get("train_split", "train"), section.get("val_split", "validation")]
    check_root(section["root"], section.get("reader", ""), splits, name, proxy)
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
    where = hfds_path(reader, root) if kind == "hfds" else root
    if not where:
        raise _missing("data.root is not set", name, proxy)
    if not Path(where).exists():
        raise _missing(f"data.root={where} does not exist", name, proxy)
    try:
        for split in splits:
            if kind == "folder":
                find_split(where, split)
            elif kind == "wds":
                find_shards(where, split)
    except DataMissing as error:
        raise _missing(str(error), name, proxy) from None


def _missing(problem: str, name: str, proxy: str) -> DataMissing:
    source = _SOURCES.get(name)
    fetch = f"get {name} from {source}" if source else f"get {name}"
    return DataMissing(
        f"{problem}; {fetch}, then set data.root=/path/to/{name}; "
        f"or try experiment={proxy}, which needs no download"
    )


def check_variant(key: str, path: str | None) -> None:
    """Checks the path of a further test set; None leaves it out.

    Raises:
        DataMissing: says where to get it and which override names it.
    """
    if path is not None and not Path(path).is_dir():
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
    return reader.partition("/")[2] or root


def synonyms(split: str) -> list[str]:
    """Names under which a split is looked for, the given one first."""
    group = next((names for names in _SYNONYMS if split in names), ())
    return [split, *(name for name in group if name != split)]


def find_split(root: str, split: str) -> Path:
    """Folder of class folders, or tar file, that holds a split.

    Raises:
        DataMissing: names what was looked for.
    """
    for name in synonyms(split):
        for path in (Path(root, name), Path(root, f"{name}.tar")):
            if path.is_dir() or path.suffix == ".tar" and path.is_file():
                return path
    names = ", ".join(synonyms(split))
    raise DataMissing(f"{root} has no folder or tar file for the split '{split}' (tried {names})")


def find_shards(root: str, split: str) -> dict[Path, int | None]:
    """WebDataset shards of a split, and the number of examples that `_info.json` promises.

    Args:
        root: Folder of the shards.
        split: A pattern such as `imagenet1k-train-{0000..1023}.tar`, or a name that
            `_info.json` lists, or that is part of the file names.

    Raises:
        DataMissing: names the first shard that is not there.
    """
    listed = _described_splits(root)
    counts = {name: number for shards in listed.values() for name, number in shards.items()}
    if ".tar" in split:
        names = expand_range(split.partition("|")[0])
    else:
        known = [s for s in synonyms(split) if s in listed]
        names = list(listed[known[0]]) if known else _shards_named(root, split)
    if not names:
        raise DataMissing(f"{root} has no WebDataset shards (*.tar) for the split '{split}'")
    for name in names:
        if not Path(root, name).is_file():
            raise DataMissing(f"{root} has no shard {name} of the split '{split}'")
    return {Path(root, name): counts.get(name) for name in names}


def expand_range(pattern: str) -> list[str]:
    """`x-{00..02}.tar` to its three names; more than one range multiplies."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    before, after = pattern[: match.start()], pattern[match.end() :]
    numbers = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return [before + number + rest for number in numbers for rest in expand_range(after)]


def _described_splits(root: str) -> dict[str, dict[str, int]]:
    """Shards and their lengths per split, from the description file that timm writes."""
    for name in ("_info.json", "info.json"):
        path = Path(root, name)
        if path.is_file():
            splits = json.loads(path.read_text()).get("splits", {})
            return {
                key: dict(zip(split["filenames"], split["shard_lengths"], strict=True))
                for key, split in splits.items()
            }
    return {}


def _shards_named(root: str, split: str) -> list[str]:
    """Shards in a folder of the split's name, or with that name in theirs."""
    for name in synonyms(split):
        for pattern in (f"{name}/*.tar", f"*{name}*.tar"):
            found = sorted(path.relative_to(root).as_posix() for path in Path(root).glob(pattern))
            if found:
                return found
    return []
