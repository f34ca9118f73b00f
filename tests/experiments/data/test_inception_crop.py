"""The crop is drawn as TensorFlow draws it."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from PIL import Image

from experiments.data.inception_crop import RATIO, InceptionCrop, draw_size


def sizes(width: int, height: int, ratio: float, number: int = 3000) -> Counter:
    random.seed(0)
    return Counter(draw_size(width, height, (0.05, 1.0), ratio) for _ in range(number))


@pytest.mark.parametrize(
    ("width", "height", "ratio", "heights", "widest"),
    [
        (40, 40, 1.0, range(9, 41), 40),  # sqrt(0.05) of 40 is 8.94
        (40, 30, 1.0, range(8, 31), 30),  # as high as the image
        (30, 40, 1.2, range(8, 26), 30),  # as wide as the image: 25 x 1.2
        (40, 40, 1.33, range(8, 31), 40),  # 30 x 1.33 is 39.9; 7 x 9 would be less than 5 %
    ],
)
def test_every_height_that_fits_is_as_likely(
    width: int, height: int, ratio: float, heights: range, widest: int
) -> None:
    found = sizes(width, height, ratio)
    assert None not in found
    assert {size[0] for size in found} == set(heights)
    assert all(size[1] == round(size[0] * ratio) for size in found)
    assert max(size[1] for size in found) == widest
    inner = [count for size, count in found.items() if size[0] not in (heights[0], heights[-1])]
    expected = 3000 / len(heights)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in inner)


def test_crops_lie_inside_and_are_closer_than_timms() -> None:
    random.seed(0)
    image = Image.new("RGB", (500, 375))
    boxes = [InceptionCrop.get_params(image, (0.05, 1.0), RATIO) for _ in range(2000)]
    for top, left, height, width in boxes:
        assert 0 <= top <= 375 - height and 0 <= left <= 500 - width
        assert 0.05 <= height * width / (500 * 375) <= 1
        assert 0.74 < width / height < 1.34
    shares = [height * width / (500 * 375) for *_, height, width in boxes]
    assert sum(shares) / len(shares) == pytest.approx(0.34, abs=0.01)


def test_where_nothing_fits_it_is_the_whole_image() -> None:
    assert InceptionCrop.get_params(Image.new("RGB", (300, 3)), (0.5, 1.0), RATIO) == (0, 0, 3, 300)
    assert InceptionCrop.get_params(Image.new("L", (1, 1)), (0.05, 1.0), RATIO) == (0, 0, 1, 1)
