"""Finds WebDataset shards on disk. Standard library only."""

from __future__ import annotations

import glob
import json
import re
from pathlib import Path

from experiments.config import ConfigError
from experiments.data.image_names import compressed, compressed_tars, synonyms
from experiments.data.locate import DataMissing

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_FOREIGN = re.compile(r"[*?{\[]|::")  # in patterns of other programs
_MOST_SHARDS = 10**6
_DESCRIPTIONS = ("_info.json", "info.json")


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
            how = ", whose ranges are written {000..012}" if _FOREIGN.search(name) else ""
            raise DataMissing(f"{root} has no shard {name} of the split '{split}'{how}")
    return {Path(root, name): counts.get(name) for name in names}


def expand_range(pattern: str) -> list[str]:
    """`x-{00..02}.tar` to its three names; more than one range multiplies.

    Raises:
        ConfigError: more names than any data set has shards.
    """
    count = 1
    for first, last in _RANGE.findall(pattern):
        count *= max(0, int(last) - int(first) + 1)
    if count > _MOST_SHARDS:
        raise ConfigError(f"{pattern} names {count} shards: check its numbers")
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    before, after = pattern[: match.start()], pattern[match.end() :]
    numbers = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return [before + number + rest for number in numbers for rest in expand_range(after)]


def _described_splits(root: str) -> dict[str, dict[str, int]]:
    """Shards and their lengths per split, from the description file that timm writes."""
    path = next((p for p in (Path(root, n) for n in _DESCRIPTIONS) if p.is_file()), None)
    if path is None:
        return {}
    try:
        splits = json.loads(path.read_bytes()).get("splits", {})
        return {
            key: {
                str(name): int(length)
                for name, length in zip(split["filenames"], split["shard_lengths"], strict=True)
            }
            for key, split in splits.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{path} does not list the shards of each split and their lengths "
            f"({type(error).__name__}: {error}): get it again, or take it away"
        ) from error


def _shards_named(root: str, split: str) -> list[str]:
    """Shards in a folder of the split's name, or with that name as a word in theirs."""
    for name in synonyms(split):
        inside = glob.glob(f"{glob.escape(name)}/*", root_dir=root)
        word = re.compile(rf"(?<![a-z]){re.escape(name)}(?![a-z])", re.IGNORECASE)
        beside = [path for path in glob.glob("*", root_dir=root) if word.search(path)]
        for listed in (inside, beside):
            found = sorted(path for path in listed if path.endswith(".tar"))
            like = {re.sub(r"\d+", "0", path) for path in found}
            for path, plain in compressed_tars(listed).items():
                if not found or re.sub(r"\d+", "0", plain) in like:
                    raise DataMissing(compressed(Path(root, path)))
            if found:
                return found
    return []
