"""Which files of a data set are images, by their names; what is left out is counted and said."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

IMAGE_SUFFIXES = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "gif", "tif", "tiff"),
    *("ppm", "pgm", "pbm"),
)
SYNONYMS = (
    ("train", "training"),
    ("validation", "val", "valid", "eval", "evaluation"),
)
"""Names that a split goes by."""
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")


def suffix_of(name: str) -> str:
    """What follows the last dot of a file's name, in lower case; empty where there is no dot."""
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return suffix.lower() if dot and stem else ""


def is_image(name: str) -> bool:
    """Whether a file is to be read as an image."""
    return suffix_of(name) in IMAGE_SUFFIXES


def is_hidden(path: str) -> bool:
    """Whether a path is what systems leave behind: `._x.jpg`, `.DS_Store`, `__MACOSX/x.jpg`."""
    parts = path.split("/")
    return any(p == "__MACOSX" or p.startswith(".") and p not in (".", "..") for p in parts)


def natural_key(path: str) -> tuple[list[int | str], str]:
    """Orders `x2` before `x10`; the path itself decides between `x02` and `x2`, `a` and `A`."""
    parts = re.split(r"(\d+)", path.lower())
    return [int(part) if odd % 2 else part for odd, part in enumerate(parts)], path


def left_out_in_words(
    counts: Mapping[str, int], one: str = "no image", many: str = "no images"
) -> str:
    """`3 files are left out: no images by suffix (2 txt, 1 without one)`."""
    total = sum(counts.values())
    listed = [f"{n} {suffix or 'without one'}" for suffix, n in sorted(counts.items())]
    verb = f"file is left out: it is {one}" if total == 1 else f"files are left out: {many}"
    return f"{total} {verb} by suffix ({', '.join(listed)})"


def compressed_tars(names: Collection[str]) -> dict[str, str]:
    """Compressed tars among file names that are not there as `.tar`, too: name to that name."""
    found = {}
    for name in sorted(names):
        suffix = next((s for s in _COMPRESSED if name.lower().endswith(s)), None)
        if suffix and (plain := f"{name[: -len(suffix)]}.tar") not in names:
            found[name] = plain
    return found


def compressed(path: object) -> str:
    """What is wrong with such a file."""
    return f"{path} is compressed, but images are read at their places: decompress it"


def synonyms(split: str) -> list[str]:
    """Names under which a split is looked for, the given one first."""
    group = next((names for names in SYNONYMS if split in names), ())
    return [split, *(name for name in group if name != split)]
