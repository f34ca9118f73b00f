"""ImageNet-21k: which classes each of its versions has, and in which order.

Source: the lists of WordNet ids in timm (`timm/data/_info`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from experiments.config import ConfigError
from experiments.data import imagenet_variants

GOOGLE, FALL_2011 = 21_843, 21_841
LISTS = {
    GOOGLE: "imagenet21k_goog_synsets.txt",
    FALL_2011: "imagenet22k_synsets.txt",
    11_821: "imagenet12k_synsets.txt",
    11_221: "imagenet21k_miil_synsets.txt",
    10_450: "imagenet21k_miil_w21_synsets.txt",
}
"""Number of classes of a version to its list: Google's order, the release of fall 2011, timm's 12k,
and 21k-P of the releases of fall 2011 and winter 2021."""
_WNID = re.compile(r"n\d{8}")


def numbering(names: Sequence[str], num_classes: int, where: str) -> list[str] | None:
    """The WordNet ids of a version by class number; None where it is another data set.

    `data.num_classes` tells the version. Google's order has two ids that the release of fall 2011
    lacks: a copy of that release may be numbered so, and these two have no image.

    Args:
        names: Of the classes that were found.
        num_classes: As configured.
        where: Names the split in messages.

    Raises:
        ConfigError: a class that the version does not have, or classes that are missing.
    """
    if num_classes not in LISTS or not all(_WNID.fullmatch(name) for name in names):
        return None
    listed = imagenet_variants.info(LISTS[num_classes]).split()
    versions = ", ".join(f"{number}" for number in LISTS)
    if wrong := sorted(set(names) - set(listed)):
        raise ConfigError(
            f"{where}: {len(wrong)} of {len(names)} classes are not among the {num_classes} of "
            f"this version of ImageNet-21k, the first is '{wrong[0]}': take them away, or name the "
            f"version by data.num_classes ({versions})"
        )
    missing = sorted(set(listed) - set(names))
    if missing and (num_classes, len(set(names))) != (GOOGLE, FALL_2011):
        raise ConfigError(
            f"data.num_classes={num_classes}, but {where} holds {len(set(names))} of this "
            f"version's classes, the first that it lacks is '{missing[0]}': complete the copy, or "
            f"set data.num_classes={len(set(names))}"
        )
    return listed
