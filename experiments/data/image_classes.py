"""One numbering of classes for all splits of a data set: that of its training split.

Readers number the classes of each split on their own. Names, where the data has them, tell which
number of one split is which of another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from unicodedata import normalize

import numpy as np

from experiments.config import ConfigError
from experiments.data import imagenet21k, imagenet_variants
from experiments.data.image_folders import remarks_on
from experiments.data.image_names import left_out_in_words
from experiments.data.image_readers import LabelledImages

_NUM_IMAGENET = imagenet_variants.NUM_CLASSES
_WNID = re.compile(r"n\d{8}")


def check_labels(images: LabelledImages, num_classes: int, where: str) -> None:
    """Checks that every label is the number of a class.

    Raises:
        ConfigError: names the first image with another label.
    """
    labels, most = images.labels, min(num_classes, len(images.class_names or range(num_classes)))
    wrong = np.flatnonzero((labels < 0) | (labels >= most))
    if len(wrong):
        raise ConfigError(
            f"{where}: image {images.file_name(int(wrong[0])) or wrong[0]} has the label "
            f"{labels[wrong[0]]}, but class numbers run from 0 to {most - 1} (-1 is a hidden "
            "label): mend the labels, or set data.num_classes"
        )


def number_training_classes(images: LabelledImages, num_classes: int, where: str) -> None:
    """Checks the classes of the training split; ImageNet's get ImageNet's order.

    Args:
        images: The training split; its labels and names may be put in another order.
        num_classes: As configured.
        where: Names the split in messages.

    Raises:
        ConfigError: another number of classes, or ImageNet-1k with classes that are not its own.
    """
    names = images.class_names
    found = len(names) if names is not None else int(images.labels.max(initial=-1)) + 1
    check_labels(images, max(found, 1), where)
    if names is not None and (numbering := imagenet21k.numbering(names, num_classes, where)):
        _renumber(images, numbering)
        return
    if found != num_classes:
        raise ConfigError(_other_number(images, found, num_classes, where))
    if names is None:
        return
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{where} has two classes called '{twice}': give each its own name")
    if len(names) != _NUM_IMAGENET or not all(_WNID.fullmatch(name) for name in names):
        return
    wrong = sorted(set(names) - set(synsets()))
    if len(wrong) > _NUM_IMAGENET // 2:  # another thousand of WordNet's
        return
    if wrong:
        raise ConfigError(
            f"{where}: class '{wrong[0]}' is not one of ImageNet-1k's, and "
            f"{len(names) - len(wrong)} of the others are: take it away, and complete the copy"
        )
    _renumber(images, synsets())


def _other_number(images: LabelledImages, found: int, num_classes: int, where: str) -> str:
    hints = remarks_on(images)
    if images.left_out:
        hints = [*hints, left_out_in_words(images.left_out)]
    if images.class_names is None and len(images.labels) and images.labels.min() == 1:
        hints = ["no image is of class 0: do the numbers begin at 1?"]
    more = "".join(f"; {hint}" for hint in hints)
    if found < 2:
        return (
            f"{where} holds {found} class, and there must be two to tell apart: complete the copy, "
            f"or name the folder of the classes{more}"
        )
    return (
        f"data.num_classes={num_classes}, but {where} holds {found} classes: complete the "
        f"copy, or set data.num_classes={found}{more}"
    )


def number_like_training(
    images: LabelledImages, training: Sequence[str] | None, num_classes: int, where: str
) -> None:
    """Gives the labels of another split the numbers that the training split has for these classes.

    Args:
        images: The split; its labels and names are put in the order of the training split.
        training: Names of the training split's classes by number; None: it has numbers only.
        num_classes: As configured.
        where: Names the split in messages.

    Raises:
        ConfigError: a class that the training split lacks, or names in one of the two alone.
    """
    names = images.class_names
    check_labels(images, len(names) if names else num_classes, where)
    if (names is None) != (training is None):
        has, lacks = ("numbers", "names") if names is None else ("names", "numbers")
        raise ConfigError(
            f"{where} has class {has} where the training split has class {lacks}, so nothing says "
            "which is which: give both splits the same"
        )
    if names is None or training is None:
        return
    if unknown := sorted(set(names) - set(training)):
        alike = {normalize("NFC", name) for name in training}
        form = ", encoded otherwise (NFC, NFD)" if normalize("NFC", unknown[0]) in alike else ""
        raise ConfigError(
            f"{where} has {len(unknown)} of {len(names)} classes that the training split lacks, "
            f"the first is '{unknown[0]}'{form}: give each class the same name in both splits"
        )
    _renumber(images, training)


def _renumber(images: LabelledImages, names: Sequence[str]) -> None:
    if images.class_names == list(names):
        return
    numbers = {name: number for number, name in enumerate(names)}
    new = np.array([numbers[name] for name in images.class_names or []], dtype=np.int64)
    images.labels, images.class_names = new[images.labels], list(names)


@lru_cache(maxsize=1)
def synsets() -> list[str]:
    """The WordNet ids of ImageNet's 1000 classes, in order."""
    return imagenet_variants.synsets()


def require_imagenet(images: LabelledImages, what: str, where: str) -> None:
    """Refuses ImageNet's further test sets where class numbers do not mean ImageNet's classes.

    Names are held against WordNet ids, or against their first words (as in ILSVRC/imagenet-1k of
    Hugging Face). Where there are numbers only, the labels are held against ReaL, as far as the
    images have their original names.

    Args:
        images: The validation split, numbered like the training split.
        what: The setting that asks for the test set.
        where: Names the split in messages.

    Raises:
        ConfigError: the classes are others, or in another order.
    """
    names = images.class_names
    if names is None or names == [str(n) for n in range(_NUM_IMAGENET)]:
        is_it = _agrees_with_real(images)
    else:
        is_it = names == synsets() or _are_lemmas(names)
    if not is_it:
        first = f"class 0 is '{names[0]}'" if names else "its labels are not those of its images"
        raise ConfigError(
            f"{what} needs ImageNet's 1000 classes in ImageNet's order, and {where} has others "
            f"({first}): leave it out, or name the "
            "classes by WordNet ids"
        )


def _are_lemmas(names: Sequence[str]) -> bool:
    """Whether nine in ten names begin with the first word of the class at their place."""
    lemmas = imagenet_variants.lemmas()
    pairs = zip(names, (lemmas[synset] for synset in synsets()), strict=False)
    equal = sum(_first_word(name) == _first_word(lemma) for name, lemma in pairs)
    return len(names) == _NUM_IMAGENET and equal >= 0.9 * _NUM_IMAGENET


def _first_word(name: str) -> str:
    return name.partition(",")[0].replace("_", " ").strip().lower()


def _agrees_with_real(images: LabelledImages) -> bool:
    """Half of the labels are among ReaL's (nine in ten of the originals are), or none can tell."""
    shown = imagenet_variants.real_labels(images, _NUM_IMAGENET)
    if shown is None:
        return True
    counted = shown.targets.any(1)
    agreeing = shown.targets[np.arange(len(images.labels)), images.labels] & counted
    return counted.sum() < 20 or agreeing.sum() >= 0.5 * counted.sum()
