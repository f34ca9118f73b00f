"""However WebDataset shards are damaged: every image with its label, or one line with a remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_trees import (
    EMPTY_TAR,
    Damage,
    at_a_member,
    check_damage,
    compressed,
    cut,
    damaged_header,
    described,
    image,
    samples,
    shards,
    tar,
    written,
)


def shard(change: Callable[[dict[str, bytes]], Any]) -> Damage:
    def do(root: Path) -> None:
        content = dict(samples())
        change(content)
        tar(root / "toy-val-0.tar", list(content.items()))

    return do


def label(content: bytes) -> Damage:
    return more("kant20.cls", content)


def fact(content: bytes) -> Damage:
    """The label of an image in its json, without a .cls."""
    return shard(lambda c: (c.pop("kant20.cls"), c.update({"kant20.json": content})))


def more(name: str, content: bytes) -> Damage:
    return shard(lambda c: c.update({name: content}))


def renamed(name: str, to: str) -> Damage:
    return shard(lambda c: c.update({to: c.pop(name)}))


def keys_with_dots(root: Path) -> None:
    tar(root / "toy-val-0.tar", [*samples(), *samples("a.")])


def folder_as_shard(root: Path) -> None:
    written("toy-val-0.tar", None)(root)
    (root / "val.tar").mkdir()


SHARDS = {
    "cut": (cut("toy-val-0.tar", 0.5), "tar"),
    "cut at a member": (at_a_member("toy-val-0.tar", 3), "no end mark"),
    "a damaged header": (damaged_header("toy-val-0.tar", 4), "is damaged"),
    "compressed": (compressed("toy-val-0.tar"), "uncompressed"),
    "empty": (written("toy-val-0.tar", b""), "tar file"),
    "none": (written("toy-val-0.tar", None), "no WebDataset shards"),
    "a folder": (folder_as_shard, "no shard"),
    "another compressed": (written("toy-val-1.tar.gz", b"x"), "toy-val-1.tar.gz is compressed"),
    "all compressed": (
        lambda root: (root / "toy-val-0.tar").rename(root / "toy-val-0.tgz") and None,
        "toy-val-0.tgz is compressed",
    ),
    "something else compressed": (written("toy-val-boxes.tar.gz", b"x"), ""),
    "no member": (lambda root: tar(root / "toy-val-0.tar", []), EMPTY_TAR),
    "no label": (shard(lambda c: c.pop("kant20.cls")), "1 images and no label"),
    "no image": (shard(lambda c: c.pop("kant20.png")), "0 images and a label"),
    "another image": (renamed("kant20.png", "kant20.heic"), ".heic is not"),
    "two images": (more("kant20.jpg", image(1)), "2 images"),
    "a word": (label(b"cat"), "'cat', which is no class number"),
    "an empty label": (label(b""), "''"),
    "a float": (label(b"0.0"), "'0.0'"),
    "a negative label": (label(b"-1"), "'-1'"),
    "underscores": (label(b"0_0"), "'0_0'"),
    "bytes": (label(b"\xff\xfe"), "no class number"),
    "a huge label": (label(b"9" * 30), "no class number"),
    "a label out of range": (label(b"2"), "has the label 2"),
    "a newline": (label(b"0\n"), ""),
    "json": (fact(b'{"label": 0}'), ""),
    "capitals": (renamed("kant20.cls", "kant20.CLS"), ""),
    "json that is cut": (fact(b'{"label": '), "not JSON"),
    "json of bytes": (fact(b"\xff\xfe\x00"), "not JSON"),
    "json that is deep": (fact(b"[" * 100_000), "not JSON"),
    "json that is a list": (fact(b"[0]"), "no table"),
    "json without label": (fact(b"{}"), "no label"),
    "json with null": (fact(b'{"label": null}'), "'None'"),
    "json with true": (fact(b'{"label": true}'), "'True'"),
    "json with a float": (fact(b'{"label": 0.0}'), "'0.0'"),
    "json with a list": (fact(b'{"label": [0]}'), "'[0]'"),
    "two labels": (more("kant20.json", b'{"label": 1}'), "another in .json"),
    "the same label twice": (more("kant20.json", b'{"label": 0}'), ""),
    "a name that is no text": (more("kant20.json", b'{"filename": 7}'), ""),
    "keys with dots": (keys_with_dots, "first dot"),
    "a mask beside the image": (more("kant20.seg.png", image(1)), ""),
    "files of macOS": (shard(lambda c: c.update({"._kant20.png": b"x", "._kant20.cls": b"x"})), ""),
    "a readme": (shard(lambda c: c.update({"README": b"x", "about.json": b"[", "x.txt": b""})), ""),
    "an empty image": (more("kant20.png", b""), "empty files"),
    "a cut image": (more("kant20.png", image(1)[:50]), "cannot read"),
}  # fmt: skip


@pytest.mark.parametrize("damage", SHARDS)
def test_damaged_shards(tmp_path, damage):
    check_damage(shards, SHARDS[damage], tmp_path / "data")


FIVE = {"filenames": ["toy-val-0.tar"], "shard_lengths": [5]}
DESCRIBED = {
    "no description": (written("_info.json", None), ""),
    "a wrong count": (written("_info.json", json.dumps({"splits": {"val": FIVE}})), "promises 5"),
    "a shard that is not there": (written("toy-train-0.tar", None), "no shard"),
    "no splits": (written("_info.json", "{}"), ""),
    "no JSON": (written("_info.json", "{"), "does not list"),
    "a list": (written("_info.json", "[]"), "does not list"),
    "bytes": (written("_info.json", b"\xff\xfe"), "does not list"),
    "no lengths": (written("_info.json", '{"splits": {"val": {"filenames": []}}}'), "does not"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DESCRIBED)
def test_damaged_descriptions_of_shards(tmp_path, damage):
    check_damage(described, DESCRIBED[damage], tmp_path / "data")
