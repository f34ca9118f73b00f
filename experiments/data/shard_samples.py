"""Samples of a WebDataset shard: the files that share a key, and the label that they tell.

A key ends at the first dot of a file's name, as everywhere in WebDataset.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter
from typing import Any, NamedTuple

from experiments.config import ConfigError
from experiments.data.archive_index import Entry, Scanned
from experiments.data.image_names import IMAGE_SUFFIXES, suffix_of
from experiments.data.tar_members import members

_MOST_CLASSES = 2**31


class _Sample(NamedTuple):
    images: list[tuple[int, int]]  # offset and size
    texts: dict[str, bytes]  # of cls and json
    others: list[str]  # suffixes of what is neither


def shard_entries(tar: tarfile.TarFile, where: str) -> Scanned:
    """The labelled images of a shard, in the order of their keys' first files.

    Args:
        tar: Opened for reading, uncompressed.
        where: Names the shard in messages.

    Raises:
        ConfigError: a sample without image or label, or with more than one.
    """
    samples: dict[str, _Sample] = {}
    for member in members(tar, where):
        key, suffix = key_and_suffix(member.name)
        sample = samples.setdefault(key, _Sample([], {}, []))
        if suffix in IMAGE_SUFFIXES:
            sample.images.append((member.offset_data, member.size))
        elif suffix in ("cls", "json"):
            sample.texts[suffix] = tar.extractfile(member).read()  # pyright: ignore[reportOptionalMemberAccess]
        else:
            sample.others.append(suffix)
    found = [_entry(f"{where}: {key}", key, sample) for key, sample in samples.items()]
    return [entry for entry in found if entry is not None], Counter()


def key_and_suffix(name: str) -> tuple[str, str]:
    """What a file's name says of its sample, and what kind of file it is, in small letters."""
    folder, _, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}/{stem}".lstrip("/"), suffix.lower()


def _entry(where: str, key: str, sample: _Sample) -> Entry | None:
    """None for what is no example: a readme, a description of the shard."""
    facts = _facts(where, sample)
    given = [sample.texts["cls"]] if "cls" in sample.texts else []
    given += [facts["label"]] if "label" in facts else []
    is_dotted = any(suffix_of(f"x.{other}") in IMAGE_SUFFIXES for other in sample.others)
    if not sample.images and not given and not is_dotted:
        return None
    if not given or len(sample.images) != 1:
        has = f"{len(sample.images)} images and {'a' if given else 'no'} label"
        unread = f" (.{', .'.join(sample.others[:3])} is not read)" if sample.others else ""
        raise ConfigError(
            f"{where} has {has}{unread}, but needs one image and a label: write the shard anew "
            "with KEY.jpg and KEY.cls, or 'label' in KEY.json (a key ends at its first dot)"
        )
    labels = {_class_number(where, label) for label in given}
    if len(labels) > 1:
        raise ConfigError(f"{where} has one label in .cls and another in .json: mend the shard")
    return Entry(str(facts.get("filename", key)), labels.pop(), *sample.images[0])


def _facts(where: str, sample: _Sample) -> dict[str, Any]:
    """What the json of a sample says; where there is no image it need not be an example's."""
    try:
        facts = json.loads(sample.texts.get("json", b"{}"))
    except (ValueError, RecursionError) as error:
        if not sample.images:
            return {}
        raise ConfigError(f"{where}.json is not JSON ({error}): write the shard anew") from error
    if isinstance(facts, dict):
        return facts
    if not sample.images:
        return {}
    raise ConfigError(
        f"{where}.json is no table of facts: write the shard anew with {{'label': 0}}"
    )


def _class_number(where: str, label: object) -> int:
    text = label.decode("ascii", "replace") if isinstance(label, bytes) else str(label)
    is_number = not isinstance(label, bool | float) and re.fullmatch(r"\s*[0-9]{1,10}\s*", text)
    if not is_number or int(text) >= _MOST_CLASSES:
        shown = " ".join(text.split())[:40]
        raise ConfigError(
            f"{where} has the label '{shown}', which is no class number: write 0, 1, 2, ..."
        )
    return int(text)
