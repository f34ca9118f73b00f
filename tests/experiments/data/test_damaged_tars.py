"""However class tars are damaged: every image with its label, or one line with a remedy."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from data_trees import (
    EMPTY_TAR,
    VALUES,
    Damage,
    at_a_member,
    check_damage,
    class_tars,
    compressed,
    cut,
    damaged_header,
    image,
    tar,
    written,
)


def members_of(split: str, members: list[tuple[str, bytes]]) -> Damage:
    return lambda root: tar(root / f"{split}.tar", members)


CLASSES = [(f"{n}/{v}.png", image(v)) for n, values in VALUES.items() for v in values]


def with_a_link(kind: bytes, name: str = "ant/link.png") -> Damage:
    def do(root: Path) -> None:
        with tarfile.open(root / "val.tar", "a") as file:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "ant/20.png"
            file.addfile(member)

    return do


def with_holes(root: Path) -> None:
    """As GNU tar writes a sparse file: a map of what is no hole, then that."""
    content = image(20)
    stored = f"1\n0\n{len(content)}\n".encode().ljust(512, b"\0") + content
    with tarfile.open(root / "val.tar", "a", format=tarfile.PAX_FORMAT) as file:
        member = tarfile.TarInfo("ant/holes.png")
        member.size = len(stored)
        told = {"major": "1", "minor": "0", "name": member.name, "realsize": f"{len(content)}"}
        member.pax_headers = {f"GNU.sparse.{key}": value for key, value in told.items()}
        file.addfile(member, io.BytesIO(stored))


def behind_another(root: Path) -> None:
    whole = (root / "val.tar").read_bytes()
    (root / "val.tar").write_bytes(whole + whole)


def as_tar_makes_them(root: Path) -> None:
    """One tar per class, each made within its folder (`tar -C ant -cf ant.tar .`)."""
    written("val.tar", None)(root)
    for name, values in VALUES.items():
        tar(root / f"val/{name}.tar", [(f"./{value}.png", image(value)) for value in values])


def beside_folders(name: str, content: bytes = b"x") -> Damage:
    """Tars of classes in a folder, and something beside them."""

    def do(root: Path) -> None:
        as_tar_makes_them(root)
        written(f"val/{name}", content)(root)

    return do


COPY = [(f"copy/{name}", content) for name, content in CLASSES]
TARS = {
    "cut": (cut("val.tar", 0.1), "tar"),
    "cut at a member": (at_a_member("val.tar", 2), "no end mark"),
    "a damaged header": (damaged_header("val.tar", 2), "is damaged"),
    "a damaged first header": (damaged_header("train.tar", 0), "tar file"),
    "compressed": (compressed("val.tar"), "uncompressed"),
    "empty file": (written("val.tar", b""), "tar file"),
    "no member": (members_of("val", []), EMPTY_TAR),
    "no image": (members_of("val", [("ant/a.txt", b"x")]), "no images"),
    "compressed inside": (members_of("val", [("ant.tar.gz", gzip.compress(b"x"))]), "no images"),
    "a compressed tar inside": (members_of("val", [("ant.tar", gzip.compress(b"x"))]), "tar"),
    "text as tar inside": (members_of("val", [("ant.tar", b"text" * 999)]), "tar"),
    "a member twice": (members_of("val", [*CLASSES, CLASSES[0]]), "twice"),
    "a member twice, once with ./": (
        members_of("val", [*CLASSES, (f"./{CLASSES[0][0]}", image(20))]),
        "twice",
    ),
    "two tars in one file": (behind_another, "behind its end"),
    "a symbolic link": (with_a_link(tarfile.SYMTYPE), "--dereference"),
    "a link of a text": (with_a_link(tarfile.SYMTYPE, "ant/link.txt"), ""),
    "holes": (with_holes, "has holes"),
    "a hard link": (with_a_link(tarfile.LNKTYPE), "--dereference"),
    "an empty image": (members_of("val", [*CLASSES, ("ant/x.png", b"")]), "empty files"),
    "files of macOS": (members_of("val", [("ant/._20.png", b"x"), *CLASSES]), ""),
    "with ./": (members_of("val", [(f"./val/{name}", c) for name, c in CLASSES]), ""),
    "other files": (members_of("val", [*CLASSES, ("notes.txt", b"x")]), ""),
    "tars made within their folders": (as_tar_makes_them, ""),
    "beside the folder that it is of": (beside_folders("ant/20.png", image(20)), ""),
    "beside a folder of no tar": (beside_folders("cat/1.png"), "images in cat beside them"),
    "beside a compressed tar": (beside_folders("cat.tar.gz"), "cat.tar.gz is compressed"),
    "beside a tar and the same compressed": (beside_folders("ant.tar.gz"), ""),
    "two copies": (members_of("val", [*CLASSES, *COPY]), "'ant' in ant and in copy/ant"),
    "images beside classes": (members_of("val", [*CLASSES, ("x.png", image(1))]), "no folder"),
    "classes beside images": (members_of("val", [("x.png", image(1)), *CLASSES]), "no folder"),
    "compressed, by name": (
        lambda root: (root / "val.tar").rename(root / "val.tar.gz") and None,
        "val.tar.gz is compressed",
    ),
    "another class": (members_of("val", [*CLASSES, ("cat/1.png", image(1))]), "'cat'"),
}


@pytest.mark.parametrize("damage", TARS)
def test_damaged_class_tars(tmp_path, damage):
    check_damage(class_tars, TARS[damage], tmp_path / "data")
