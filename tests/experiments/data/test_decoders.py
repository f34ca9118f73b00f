"""Two decoders: the same pixels, random numbers and refusals; only resizing rounds otherwise."""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.config import ConfigError
from experiments.data import decoders, jpeg_regions
from experiments.data.decode import to_rgb
from experiments.data.decoders import DECODERS, to_tensor
from experiments.data.image_files import ImageFiles
from experiments.data.image_folders import FolderImages
from experiments.data.image_loading import ImageBatches, UnreadableImage
from experiments.data.image_transforms import eval_transform, train_transform
from experiments.data.locate import check_section
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

BOXES = [(0, 0, 75, 101), (3, 5, 40, 50), (31, 1, 44, 99), (70, 90, 5, 11), (16, 32, 16, 16)]
needs_codec = pytest.mark.skipif(
    not jpeg_regions.is_available(), reason="nvidia-nvimgcodec-cu13 is not installed"
)


def photograph(seed: int = 0, size: tuple[int, int] = (101, 75)) -> Image.Image:
    """Smooth shapes in colours, with some grain."""
    draw = np.random.RandomState(seed)
    y, x = np.mgrid[: size[1], : size[0]] / 20
    waves = [np.sin(x * draw.uniform(0.3, 2) + y * draw.uniform(0.3, 2)) for _ in range(3)]
    pixels = 120 + 80 * np.stack(waves, -1) + 10 * draw.randn(size[1], size[0], 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **({"quality": 90} | options if form == "JPEG" else options))
    return file.getvalue()


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = 6  # turn by a quarter
    return found


KINDS = {
    "4:2:0": encoded(photograph(), subsampling="4:2:0"),
    "4:2:2": encoded(photograph(), subsampling="4:2:2"),
    "4:4:4": encoded(photograph(), subsampling="4:4:4"),
    "progressive": encoded(photograph(), progressive=True),
    "restarts": encoded(photograph(), restart_marker_rows=1),
    "rgb": encoded(photograph(), keep_rgb=True),
    "exif": encoded(photograph(), exif=exif()),
    "grey": encoded(photograph().convert("L")),
    "cmyk": encoded(photograph().convert("CMYK")),
    "tail": encoded(photograph()) + b"more",
    "png": encoded(photograph(), "PNG"),
    "png, transparent": encoded(photograph().convert("RGBA"), "PNG"),
    "png, palette": encoded(photograph().convert("P"), "PNG"),
    "webp": encoded(photograph(), "WEBP"),
}


@pytest.fixture(params=[pytest.param(True, marks=needs_codec), False], ids=["regions", "whole"])
def regions(request, monkeypatch) -> bool:
    """With nvImageCodec, and without."""
    if not request.param:
        monkeypatch.setattr(decoders, "decode_region", lambda *_: None)
    return request.param


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_pillows(kind, regions):
    truth = torch.from_numpy(np.array(to_rgb(Image.open(io.BytesIO(KINDS[kind]))))).permute(2, 0, 1)
    assert torch.equal(to_tensor(Image.open(io.BytesIO(KINDS[kind]))), truth)
    for top, left, height, width in BOXES:
        found = to_tensor(Image.open(io.BytesIO(KINDS[kind])), (top, left, height, width))
        assert torch.equal(found, truth[:, top : top + height, left : left + width])


@needs_codec
@pytest.mark.parametrize("kind", ["4:2:0", "4:2:2", "4:4:4", "progressive", "restarts", "exif"])
def test_a_photograph_is_decoded_only_where_it_is_looked_at(kind, monkeypatch):
    def opened() -> Image.Image:
        return Image.open(io.BytesIO(KINDS[kind]))

    truth = to_tensor(opened())
    to_tensor(opened(), BOXES[1])  # the first one is checked
    monkeypatch.setattr(decoders, "_by_pillow", lambda *_: pytest.fail("decodes the whole"))
    for top, left, height, width in BOXES:
        found = to_tensor(opened(), (top, left, height, width))
        assert torch.equal(found, truth[:, top : top + height, left : left + width])


def test_a_codec_that_decodes_otherwise_is_found_out_and_left(monkeypatch):
    class Wrong(jpeg_regions._Regions):
        def __init__(self) -> None:
            self._is_trusted = None

        def _decode(self, content, box):
            return torch.zeros(3, box[2], box[3], dtype=torch.uint8)

    wrong = Wrong()
    monkeypatch.setattr(jpeg_regions, "_regions", lambda _: wrong)
    truth = torch.from_numpy(np.array(Image.open(io.BytesIO(KINDS["4:2:0"])))).permute(2, 0, 1)
    with pytest.warns(UserWarning, match="other pixels .* it is not used"):
        first = to_tensor(Image.open(io.BytesIO(KINDS["4:2:0"])), (3, 5, 40, 50))
    second = to_tensor(Image.open(io.BytesIO(KINDS["4:2:0"])), (3, 5, 40, 50))
    assert torch.equal(first, truth[:, 3:43, 5:55]) and torch.equal(second, first)


def damaged() -> list[tuple[bytes, bool]]:
    """JPEGs cut off at many places, and with bytes overwritten; whether they are cut off."""
    draw = np.random.RandomState(1)
    found = []
    for kind in ("4:2:0", "progressive", "grey"):
        content = KINDS[kind]
        found += [(content[: round(len(content) * s)], True) for s in (0.3, 0.6, 0.9, 0.99)]
        found += [(content[:-2], True), (content[:-1], True)]
        for _ in range(6):
            changed = bytearray(content)
            for place in draw.randint(2, len(content) - 2, 3):
                changed[place] = draw.randint(256)
            found.append((bytes(changed), False))
    return found


def test_damage_is_read_or_refused_as_by_pillow(tmp_path, regions):
    """A region is not told of bytes overwritten below it; that the file is cut off there, it is."""
    outcomes = []
    (tmp_path / "a").mkdir()
    transform = train_transform(16, ImageTaskConfig(crop_scale_min=0.05))
    for content, is_cut in damaged():
        (tmp_path / "a" / "1.jpg").write_bytes(content)
        found = {}
        for name in DECODERS:
            batches = ImageBatches(
                FolderImages(tmp_path), np.arange(1), np.zeros(1), transform, decoder=name
            )
            random.seed(3)
            found[name] = batches[0, np.arange(1)]
        is_refused = [isinstance(batch, UnreadableImage) for batch in found.values()]
        outcomes.append(is_refused[0])
        if is_cut or not regions:
            assert is_refused[0] == is_refused[1]
        if all(is_refused):
            assert str(found["tensor"]) == str(found["pil"])
        elif not any(is_refused):
            gap = found["tensor"][0].float() - found["pil"][0].float()
            assert gap.abs().mean() < 0.5
    assert any(outcomes) and not all(outcomes)


AUGMENTATIONS = {
    "crop and flip": ImageTaskConfig(crop_scale_min=0.05),
    "Inception crop": ImageTaskConfig(train_crop="inception", crop_scale_min=0.05),
    "bilinear": ImageTaskConfig(interpolation="bilinear"),
    "centre": ImageTaskConfig(train_crop="centre"),
    "randaugment": ImageTaskConfig(randaug_layers=2, randaug_magnitude=10.0),
}


def seen(name: str, transform, seed: int) -> torch.Tensor:
    decoder = DECODERS[name](transform)
    random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
    with Image.open(io.BytesIO(KINDS["4:2:0"])) as image:
        pixels = decoder.decode(image)
    return decoder.finish(pixels).float()


@pytest.mark.parametrize("settings", AUGMENTATIONS.values(), ids=list(AUGMENTATIONS))
def test_both_decoders_draw_the_same_augmentation(settings, regions):
    transform = train_transform(32, settings)
    gaps = []
    for seed in range(12):
        one, other = (seen(name, transform, seed) for name in DECODERS)
        assert one.shape == other.shape == (3, 32, 32)
        gaps.append((one - other).abs().mean())
        assert (one - other.flip(-1)).abs().mean() > 3  # what another draw would be
    assert torch.stack(gaps).mean() < 0.5


@pytest.mark.parametrize("border", [0, 2])
def test_evaluation_shows_the_same_part_of_the_image(border):
    transform = eval_transform(32, ImageTaskConfig(), border)
    one, other = (seen(name, transform, 0) for name in DECODERS)
    assert one.shape == (3, 32, 32) and (one - other).abs().mean() < 0.1


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number in range(8):
        for split in ("train", "val"):
            path = tmp_path / split / "ab"[number % 2] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(photograph(number)))
    return tmp_path


def steps(root: Path, start: int, end: int, num_workers: int = 0) -> list[torch.Tensor]:
    data = ImageFiles(
        "toy", 2, 8, str(root), input_size=16, num_workers=num_workers, decoder="tensor"
    )
    plan = BatchPlan(seed=3, num_examples=8, batch_size=4, micro_batch_size=2)
    settings = AUGMENTATIONS["randaugment"]
    return [images for step in data.train_batches(plan, start, end, settings) for images, _ in step]


def test_order_resume_and_workers_do_not_show(tree, regions):
    whole = steps(tree, 0, 4)
    assert all(map(torch.equal, steps(tree, 2, 4), whole[4:]))
    assert all(map(torch.equal, steps(tree, 0, 4, num_workers=2), whole))
    assert not torch.equal(whole[0], whole[4])


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_can_be_sent_to_any_kind_of_process(name):
    decoder = DECODERS[name](train_transform(16, AUGMENTATIONS["randaugment"]))
    copy = pickle.loads(pickle.dumps(decoder))
    assert type(copy) is type(decoder)


def test_refusals_are_one_line(tree):
    given = {"name": "toy", "num_classes": 2, "num_train": 8, "root": str(tree)}
    target = {"_target_": "experiments.data.image_files.ImageFiles"}
    with pytest.raises(ConfigError, match="data.decoder='opencv': must be pil or tensor"):
        check_section({**target, **given, "decoder": "opencv"})
    with pytest.raises(ConfigError, match="cannot resize by task.interpolation=lanczos: set"):
        DECODERS["tensor"](train_transform(16, ImageTaskConfig(interpolation="lanczos")))
    with pytest.raises(ConfigError, match="cannot resize by task.interpolation=box: set"):
        DECODERS["tensor"](eval_transform(16, ImageTaskConfig(interpolation="box")))
