"""Pictures of characters and their names: image-text pairs that matplotlib and Python ship.

A character is drawn in fonts of the DejaVu family; its caption is its Unicode name, such as
`greek small letter alpha with tonos`. Names are those of Unicode 3.2, which every Python has. Held
out are whole characters, with all their drawings: 800 for validation, 800 for test.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from experiments.data.bundled import cached
from experiments.data.bundled_paths import package_folder
from experiments.data.captioned_sets import InMemoryPairs
from experiments.data.in_memory import InMemoryImages
from experiments.data.tokenizer import WordTokenizer

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono")
"""Draw what is trained on; the first one what is held out, too."""
OTHER_FONTS = {"val": "DejaVuSans-Oblique", "test": "DejaVuSerif-Bold"}
"""Draw characters of training for `glyph_identities`."""
SIDE, POINTS = 24, 18
"""Pixels of a picture, and size of the font."""
NUM_HELD_OUT = 800
NUM_TOKENS = 12
SCRIPTS = (
    *("latin", "greek", "cyrillic", "arabic", "armenian", "hebrew", "georgian", "canadian"),
    *("braille", "box"),
)
"""First words of names that are classes of `glyph_scripts`."""
MOST_OF_A_SCRIPT = 50
"""Held-out characters of a script in each split of `glyph_scripts`: no class decides alone."""
LEFT_OUT = ("Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me")
"""General categories that show nothing, or only on top of others."""


def glyphs(name: str) -> InMemoryPairs:
    """Pairs of a picture and a name: all fonts to train, the first font to validate and test.

    Args:
        name: For the ledger.
    """
    table = _table()
    splits = {}
    for split, rows in _rows(table).items():
        splits[split] = _pixels(table["images"][rows]), [str(table["names"][r]) for r in rows]
    return InMemoryPairs(name, splits, _tokenizer(), NUM_TOKENS)


def glyph_scripts(name: str) -> InMemoryImages:
    """Pictures of the same splits, with the script of each character as its class.

    Left out are characters of rarer scripts or none, and held-out ones beyond 50 of a script (in
    the order of their codes).

    Args:
        name: For the ledger.
    """
    table = _table()
    splits: dict[str, tuple[Tensor, Tensor]] = {}
    for split, rows in _rows(table).items():
        firsts = [str(table["names"][row]).split()[0] for row in rows]
        labels = np.array([SCRIPTS.index(f) if f in SCRIPTS else -1 for f in firsts])
        most = len(rows) if split == "train" else MOST_OF_A_SCRIPT
        chosen = [np.flatnonzero(labels == number)[:most] for number in range(len(SCRIPTS))]
        kept = np.sort(np.concatenate(chosen))
        splits[split] = _pixels(table["images"][rows[kept]]), torch.from_numpy(labels[kept])
    return InMemoryImages(name, splits, num_classes=len(SCRIPTS), background=-1.0)


def glyph_identities(name: str) -> InMemoryImages:
    """Which character is it? To train an image tower that then is locked.

    Classes are the characters that `glyphs` trains on; validation and test draw the same ones in
    fonts that are not trained on. Nothing of the held-out characters of `glyphs` is in here.

    Args:
        name: For the ledger.
    """
    table = _table()
    train = _rows(table)["train"]
    classes = np.unique(table["characters"][train])
    rows = {"train": train}
    for number, split in enumerate(OTHER_FONTS, len(FONTS)):
        is_known = np.isin(table["characters"], classes)
        rows[split] = np.flatnonzero(is_known & (table["fonts"] == number))
    splits: dict[str, tuple[Tensor, Tensor]] = {}
    for split, part in rows.items():
        labels = np.searchsorted(classes, table["characters"][part])
        splits[split] = _pixels(table["images"][part]), torch.from_numpy(labels)
    return InMemoryImages(name, splits, num_classes=len(classes), background=-1.0)


def _rows(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drawings of each split: rows of the table."""
    is_first, is_trained = table["fonts"] == 0, table["fonts"] < len(FONTS)
    order = np.random.RandomState(0).permutation(np.unique(table["characters"][is_first]))
    held = {"val": order[:NUM_HELD_OUT], "test": order[NUM_HELD_OUT : 2 * NUM_HELD_OUT]}
    rows = {
        split: np.flatnonzero(np.isin(table["characters"], part) & is_first)
        for split, part in held.items()
    }
    is_held = np.isin(table["characters"], order[: 2 * NUM_HELD_OUT])
    train = np.flatnonzero(~is_held & is_trained)
    return {"train": train, **rows}


@lru_cache(maxsize=1)
def _tokenizer() -> WordTokenizer:
    """The words of the training names, by how often they occur."""
    table = _table()
    names = {str(table["names"][row]) for row in _rows(table)["train"]}
    counts: dict[str, int] = {}
    for word in (word for name in names for word in name.split()):
        counts[word] = counts.get(word, 0) + 1
    return WordTokenizer(sorted(counts, key=lambda word: (-counts[word], word)))


def _pixels(images: np.ndarray) -> Tensor:
    """(N, 1, side, side) float32 in [-1, 1]."""
    return torch.from_numpy(images.astype(np.float32))[:, None] / 127.5 - 1


@lru_cache(maxsize=1)
def _table() -> dict[str, np.ndarray]:
    """A row for each drawing: images (uint8), names, numbers of characters and fonts."""
    key = f"glyphs-2-matplotlib-{version('matplotlib')}-pillow-{version('pillow')}"
    return cached(key, _drawn)


def _drawn() -> dict[str, np.ndarray]:
    from PIL import Image, ImageDraw, ImageFont

    folder = package_folder("matplotlib") / "mpl-data/fonts/ttf"
    names = _names()
    images, kept, fonts = [], [], []
    for number, font_name in enumerate((*FONTS, *OTHER_FONTS.values())):
        path = folder / f"{font_name}.ttf"
        font = ImageFont.truetype(
            str(path), POINTS, layout_engine=ImageFont.Layout.BASIC
        )  # the other engine depends on what else is installed
        known = _characters_of(str(path))
        for code in sorted(set(names) & known):
            image = Image.new("L", (SIDE, SIDE))
            place = (SIDE / 2, SIDE / 2)
            ImageDraw.Draw(image).text(place, chr(code), fill=255, font=font, anchor="mm")
            pixels = np.asarray(image)
            if pixels.any():
                images.append(pixels)
                kept.append(code)
                fonts.append(number)
    return {
        "images": np.stack(images),
        "names": np.array([names[code] for code in kept]),
        "characters": np.array(kept, dtype=np.int64),
        "fonts": np.array(fonts, dtype=np.int64),
    }


def _names() -> dict[int, str]:
    table = unicodedata.ucd_3_2_0
    found = {}
    for code in range(0x10000):
        name = table.name(chr(code), "")
        if name and table.category(chr(code)) not in LEFT_OUT:
            found[code] = name.lower()
    return found


def _characters_of(path: str) -> set[int]:
    """Characters that a font has pictures of."""
    from matplotlib.ft2font import FT2Font

    return set(FT2Font(path).get_charmap())
