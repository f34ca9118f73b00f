"""From an opened image file to 8-bit RGB pixels, or a refusal.

As in torchvision and timm, transparency is dropped, EXIF orientation is not applied, CMYK is
converted without a colour profile, and of several frames the first counts. Unlike there, grey
pixels of 16 bits are scaled to 8 (Pillow clips them: nearly every pixel becomes white), and pixels
whose range no one knows are refused.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_FORMATS_OF_16_BITS = ("PNG", "PPM")  # older versions of Pillow call their 16 bits I


def to_rgb(image: Image.Image) -> Image.Image:
    """Decodes an image.

    Raises:
        ValueError: pixels of an unknown range, or of a kind that has no colours.
    """
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format in _FORMATS_OF_16_BITS):
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range: save it with 8 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours, and no warning of Pillow's
    return image.convert("RGB")
