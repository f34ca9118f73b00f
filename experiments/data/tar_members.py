"""Walks through the files of a tar, and notices what Python's tarfile passes over in silence.

A damaged header in the middle, a file that was cut between two members, and a second archive behind
the first all look to tarfile like a good end: the images behind are lost without a word.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator

from experiments.config import ConfigError
from experiments.data.image_names import is_hidden, is_image

_BLOCK = 512  # bytes
_CHUNK = 1 << 20  # bytes


def members(tar: tarfile.TarFile, where: str) -> Iterator[tarfile.TarInfo]:
    """Regular files of a tar but hidden ones, without keeping all members in memory.

    Args:
        tar: Opened for reading, uncompressed.
        where: Names the tar in messages.

    Raises:
        ConfigError: a name that is there twice, an image that is a link or has holes, or a tar
            that does not end as it should.
    """
    seen = set()
    while (member := tar.next()) is not None:
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        if member.isdir() or is_hidden(member.name):
            continue
        path = os.path.normpath(member.name).lstrip("/")  # ./x.jpg and x.jpg are one file
        if path in seen:
            raise ConfigError(f"{where} holds {path} twice: write that tar anew")
        seen.add(path)
        is_plain = member.isreg() and not member.issparse()
        if is_image(member.name) and not is_plain:
            raise ConfigError(
                f"{where}: {member.name} is a link or has holes: write that tar anew with "
                "tar --dereference --hard-dereference"
            )
        if is_plain:
            yield member
    _check_end(tar, where)


def _check_end(tar: tarfile.TarFile, where: str) -> None:
    file = tar.fileobj
    assert file is not None
    file.seek(tar.offset)
    end = file.read(_BLOCK)
    if not end:
        raise ConfigError(f"{where} has no end mark, so it was cut off: get it again")
    rest = end
    while rest:
        if rest.count(0) != len(rest):
            what = "is damaged" if rest is end else "goes on behind its end"
            raise ConfigError(f"{where} {what} at byte {tar.offset} or later: get it again")
        rest = file.read(_CHUNK)
