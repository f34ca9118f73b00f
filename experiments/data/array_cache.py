"""Arrays that take a while to make, kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np


def cached(key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `make` gives, or gave before under the same key.

    A cache that cannot be read or written costs time only.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "lion-experiments" / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        arrays = make()
    draft = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(draft, allow_pickle=False, **arrays)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # the folder may be a file
            draft.unlink()
    return arrays
