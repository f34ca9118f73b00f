"""What an image file holds is what the model sees, or it is refused."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.data.decode import to_rgb
from experiments.data.image_files import ImageFiles
from experiments.data.image_loading import UnreadableImage
from experiments.data.image_names import IMAGE_SUFFIXES, is_image
from experiments.settings.image import ImageTaskConfig

STILL = ImageTaskConfig(eval_crop_fraction=1.0)
GREY16 = (np.arange(480).reshape(20, 24) * 136).astype(np.uint16)  # 0 to 65,144


def reopened(image: Image.Image, form: str, **options) -> Image.Image:
    file = io.BytesIO()
    image.save(file, form, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def pgm(grey: np.ndarray) -> Image.Image:
    """Which Pillow writes only lately."""
    header = f"P5 {grey.shape[1]} {grey.shape[0]} 65535\n".encode()
    return Image.open(io.BytesIO(header + grey.astype(">u2").tobytes()))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PGM"])
def test_sixteen_bits_are_scaled_to_eight(form):
    image = pgm(GREY16) if form == "PGM" else reopened(Image.fromarray(GREY16), form)
    seen = np.asarray(to_rgb(image))
    assert seen.shape == (20, 24, 3) and seen.dtype == np.uint8
    assert (seen == np.round(GREY16 / 257).astype(np.uint8)[:, :, None]).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_of_unknown_range_are_refused(dtype):
    with pytest.raises(ValueError, match="no known range: save it with 8 bits"):
        to_rgb(reopened(Image.fromarray(GREY16.astype(dtype)), "TIFF"))


@pytest.mark.parametrize(
    "mode, form, expected, tolerance",
    [("RGB", "PNG", (200, 10, 30), 0), ("RGBA", "PNG", (200, 10, 30), 0), ("L", "PNG", 69, 0),
     ("LA", "PNG", 69, 0), ("1", "PNG", 0, 0), ("CMYK", "JPEG", (200, 10, 30), 4),
     ("CMYK", "TIFF", (200, 10, 30), 0), ("L", "JPEG", 69, 1)],
)  # fmt: skip
def test_kinds_of_pixels_become_their_colours(mode, form, expected, tolerance):
    plain = Image.new("RGB", (16, 16), (200, 10, 30))
    image = plain.convert(mode, dither=Image.Dither.NONE)
    if mode in ("RGBA", "LA"):
        image.putalpha(0)  # transparency is dropped, as in torchvision
    seen = np.asarray(to_rgb(reopened(image, form))).astype(int)
    assert (abs(seen - np.array(expected)) <= tolerance).all()


def test_a_palette_with_transparency_keeps_its_colours_without_a_warning():
    image = Image.new("P", (4, 4))
    image.putpalette([200, 10, 30])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = to_rgb(reopened(image, "PNG", transparency=b"\x00" * 9))
    assert seen.getpixel((0, 0)) == (200, 10, 30)


def test_exif_orientation_is_not_applied_as_in_the_papers_loaders():
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    assert to_rgb(reopened(image, "JPEG", exif=exif)).size == (8, 6)


def test_of_several_frames_the_first_counts():
    frames = [Image.new("L", (4, 4), value) for value in (50, 200)]
    opened = reopened(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert to_rgb(opened).getpixel((0, 0)) == (50, 50, 50)


def saved(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {"jfif": "JPEG", "jpe": "JPEG", "dib": "BMP", "pgm": "PPM", "pbm": "PPM"}
    suffix = path.suffix[1:].lower()
    image = Image.new("1" if suffix == "pbm" else "L" if suffix == "pgm" else "RGB", (16, 16))
    image.paste(
        255 if suffix == "pbm" else value if suffix == "pgm" else (value,) * 3, (0, 0, 16, 16)
    )
    image.save(path, form.get(suffix))


def evaluated(root: Path, num_classes: int, num_train: int) -> list[float]:
    data = ImageFiles("toy", num_classes, num_train, str(root), input_size=16, num_workers=0)
    batches = data.eval_batches(["toy_val"], 5, 0, 1, STILL)
    return sorted(float(image[0, 8, 8]) for images, _ in batches for image in images)


@pytest.fixture
def training(tmp_path, class_folders) -> Path:
    class_folders(tmp_path / "train", {"ant": [10], "bee": [20]})
    return tmp_path


@pytest.mark.parametrize("upper", [False, True])
def test_every_suffix_is_evaluated(training, upper):
    for number, suffix in enumerate(IMAGE_SUFFIXES):
        name = f"x{number}.{suffix.upper() if upper else suffix}"
        saved(training / "val" / ("ant" if number % 2 else "bee") / name, 10 * number)
    values = [255 if s == "pbm" else 10 * n for n, s in enumerate(IMAGE_SUFFIXES)]
    assert evaluated(training, 2, 2) == pytest.approx(sorted(values), abs=3)


def test_what_is_no_image_is_counted_and_said(training):
    saved(training / "val" / "ant" / "a.png", 40)
    saved(training / "val" / "bee" / "b.png", 80)
    for name in ("notes.txt", "more.TXT", "x.heic", "README", "a.npy"):
        (training / "val" / "ant" / name).write_text("text")
    expected = r"val.*: 5 files are left out: .* \(1 without one, 1 heic, 1 npy, 2 txt\)"
    with pytest.warns(UserWarning, match=expected):
        assert evaluated(training, 2, 2) == [40, 80]


HIDDEN = ["._a.png", ".DS_Store", ".cache.jpg", ".ipynb_checkpoints/a-checkpoint.png"]


def test_hidden_files_are_no_part_of_the_data(training):
    saved(training / "val" / "ant" / "a.png", 40)
    saved(training / "val" / "bee" / "b.png", 80)
    for name in [*(f"ant/{name}" for name in HIDDEN), "__MACOSX/ant/c.png", ".hidden/d.png"]:
        (training / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        (training / "val" / name).write_bytes(b"\0\5\x16\7 of macOS")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluated(training, 2, 2) == [40, 80]


def test_a_sixteen_bit_image_reaches_the_model_grey_and_an_odd_one_is_named(training):
    saved(training / "val" / "bee" / "b.png", 80)
    path = training / "val" / "ant" / "grey.png"
    path.parent.mkdir()
    Image.fromarray(np.full((16, 16), 40 * 257, np.uint16)).save(path)
    assert evaluated(training, 2, 2) == [40, 80]
    Image.fromarray(np.full((16, 16), 1e-3, np.float32)).save(path.with_suffix(".tiff"))
    with pytest.raises(UnreadableImage, match=r"grey\.tiff .*save it with 8 bits"):
        evaluated(training, 2, 2)


@pytest.mark.parametrize(
    "name, yes",
    [("a.jpg", True), ("A.JPEG", True), ("x/a.b.TIFF", True), ("jpg", False), (".jpg", False),
     ("a.jpg.txt", False), ("a.jpg/readme", False), ("", False)],
)  # fmt: skip
def test_the_last_suffix_tells_an_image(name, yes):
    assert is_image(name) == yes
