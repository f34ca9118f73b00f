"""Decodes a region of a JPEG alone, by NVIDIA's nvImageCodec on the CPU, where it is installed.

The pixels are those of a whole decode (libjpeg-turbo skips rows and blocks outside of the region),
so whether it is there changes the speed and nothing else; the first region that a process decodes
is compared with the whole image all the same.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""

_END_OF_IMAGE = b"\xff\xd9"
_EXTENSIONS = "NVIMGCODEC_EXTENSIONS_PATH"


def decode_region(content: bytes, box: Box, truth: Callable[[], Tensor]) -> Tensor | None:
    """Pixels of a box of a colour JPEG, (3, height, width) uint8.

    Args:
        content: The file. One that does not end as a JPEG should may be cut off below the box, so
            it is not looked at. Other damage below the box is not noticed.
        box: Lies inside the image.
        truth: Gives the box from the whole image, decoded by another library; asked once in a
            process.

    Returns:
        None where the package is missing or cannot; the caller decodes the whole image then.
    """
    if not content.endswith(_END_OF_IMAGE):
        return None
    regions = _regions(os.getpid())  # threads of a decoder do not survive a fork
    return None if regions is None else regions.decode(content, box, truth)


def is_available() -> bool:
    """Whether regions can be decoded alone here."""
    return _regions(os.getpid()) is not None


class _Regions:
    """One process's decoder."""

    def __init__(self, codec: Any) -> None:
        self._codec = codec
        backend = codec.Backend(codec.CPU_ONLY)
        self._decoder = codec.Decoder(
            device_id=codec.NVIMGCODEC_DEVICE_CPU_ONLY, max_num_cpu_threads=1, backends=[backend]
        )
        self._params = codec.DecodeParams(apply_exif_orientation=False)
        self._is_trusted: bool | None = None

    def decode(self, content: bytes, box: Box, truth: Callable[[], Tensor]) -> Tensor | None:
        if self._is_trusted is False:
            return None
        found = self._decode(content, box)
        if found is not None and self._is_trusted is None:
            self._is_trusted = torch.equal(found, truth())
            if not self._is_trusted:
                warnings.warn(
                    "nvImageCodec decodes a region of a JPEG to other pixels than Pillow does: "
                    "it is not used, and loading is slower; install another version",
                    stacklevel=2,
                )
                return None
        return found

    def _decode(self, content: bytes, box: Box) -> Tensor | None:
        top, left, height, width = box
        region = self._codec.Region(top, left, top + height, left + width)
        try:
            stream = self._codec.CodeStream(content).get_sub_code_stream(region=region)
            image = self._decoder.decode(stream, params=self._params)
        except RuntimeError:
            return None
        if image is None or tuple(image.shape) != (height, width, 3):
            return None
        return torch.from_numpy(np.asarray(image)).permute(2, 0, 1)


@lru_cache(maxsize=1)
def _regions(_: int) -> _Regions | None:
    """None where the package is not there, or is too old or too new."""
    try:
        spec = importlib.util.find_spec("nvidia.nvimgcodec")
    except ImportError:
        return None
    if spec is None or spec.origin is None:
        return None
    try:
        with _libjpeg_only(Path(spec.origin).parent / "extensions"):
            return _Regions(importlib.import_module("nvidia.nvimgcodec"))
    except (ImportError, AttributeError, TypeError, RuntimeError, OSError):
        return None


@contextmanager
def _libjpeg_only(folder: Path) -> Iterator[None]:
    """Keeps the codecs for GPUs out of loading processes: they would look for CUDA's libraries.

    The package reads the folder when it is imported.
    """
    before = os.environ.get(_EXTENSIONS)
    with tempfile.TemporaryDirectory(prefix="lion-codec-") as name:
        for library in folder.glob("*jpeg_turbo_ext*"):
            (Path(name) / library.name).symlink_to(library)
        os.environ[_EXTENSIONS] = name
        try:
            yield
        finally:
            if before is None:
                del os.environ[_EXTENSIONS]
            else:
                os.environ[_EXTENSIONS] = before
