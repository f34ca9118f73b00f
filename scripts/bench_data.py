"""Measures what it costs to load images: this suite, timm and torchvision on one tree of JPEGs.

    python scripts/bench_data.py [--images 300] [--passes 4] [--repeats 5]  # results/bench/data.csv

The photographs are made: noise with the spectrum of natural images (amplitude 1/f), 500 x 375, in
colours that go together as in photographs, as JPEG of quality 90 with halved colours; one tree as
class folders, as a tar and as WebDataset shards. What is counted is processor time of the loading
process and its workers, which a busy machine changes little, beside pictures a second: that of one
pass and of so many more, each in processes of its own, whose difference has no start-up and no
first pass in it. Ways take turns, and ratios are taken within a turn. timm's loader is given our
transform, so augmentation is equal; torchvision's has its own RandAugment. No loader normalises:
all give batches of uint8.
"""

from __future__ import annotations

import argparse
import csv
import io
import multiprocessing
import resource
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# First, as it says in a line what this Python lacks.
import experiments  # noqa: E402, F401

# isort: split
import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

OUT = ROOT / "results" / "bench" / "data.csv"
SIZE, SIDE, BATCH, NUM_CLASSES = (500, 375), 224, 50, 10
QUALITY = 90
CASES = ("folder:1", "folder:2", "tar:1", "webdataset:1")
"""Formats and numbers of workers."""
Batches = Iterable[Any]


def photograph(seed: int) -> bytes:
    """A JPEG whose spectrum is that of a photograph."""
    width, height = SIZE
    draw = np.random.RandomState(seed)
    across = np.fft.rfftfreq(width)[None, :] * width
    down = np.fft.fftfreq(height)[:, None] * height
    fall = 1 / np.maximum(1.0, np.hypot(across, down))
    spectrum = np.fft.rfft2(draw.randn(3, height, width)) * fall
    planes = np.fft.irfft2(spectrum, s=(height, width))
    planes /= planes.std(axis=(1, 2), keepdims=True)
    light, red, blue = planes * np.array([50.0, 12.0, 12.0])[:, None, None]
    pixels = np.stack([light + red, light - (red + blue) / 2, light + blue], -1) + 120
    file = io.BytesIO()
    image = Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))
    image.save(file, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return file.getvalue()


def make_tree(root: Path, num_images: int) -> float:
    """Writes all formats where they are not yet there; returns kilobytes of an image."""
    done = root / f"{num_images}.done"
    if not done.exists():
        images = [photograph(seed) for seed in range(num_images)]
        for number, content in enumerate(images):
            path = root / "folder" / "train" / f"c{number % NUM_CLASSES}" / f"{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (root / "tar").mkdir()
        (root / "webdataset").mkdir()
        with tarfile.open(root / "tar" / "train.tar", "w") as tar:
            for number, content in enumerate(images):
                _add(tar, f"train/c{number % NUM_CLASSES}/{number:05d}.jpg", content)
        with tarfile.open(root / "webdataset" / "bench-train-0000.tar", "w") as tar:
            for number, content in enumerate(images):
                _add(tar, f"{number:05d}.jpg", content)
                _add(tar, f"{number:05d}.cls", str(number % NUM_CLASSES).encode())
        done.write_text(str(statistics.mean(map(len, images)) / 1000))
    return float(done.read_text())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def settings(augmented: bool) -> Any:
    """Random-resized crops and flips; RandAugment at the paper's strongest setting, or none."""
    from experiments.settings.image import ImageTaskConfig

    strong = {"randaug_layers": 2, "randaug_magnitude": 15.0} if augmented else {}
    return ImageTaskConfig(crop_scale_min=0.05, **strong)


def ours(decoder: str) -> Callable[..., Batches]:
    """This suite, with a decoder."""

    def batches(root: Path, form: str, count: int, passes: int, workers: int, ra: bool) -> Batches:
        from experiments.data.image_files import ImageFiles
        from experiments.data.order import BatchPlan

        reader = {"folder": "", "tar": "", "webdataset": "wds"}[form]
        data = ImageFiles(
            "bench", NUM_CLASSES, count, str(root / form), reader=reader, num_workers=workers,
            cache_dir=str(root / "cache"), decoder=decoder,
        )  # fmt: skip
        plan = BatchPlan(0, count, BATCH, BATCH)
        steps = passes * plan.steps_per_epoch
        return (
            micro for step in data.train_batches(plan, 0, steps, settings(ra)) for micro in step
        )

    return batches


def timms(root: Path, form: str, count: int, passes: int, workers: int, ra: bool) -> Batches:
    """timm's loader up to the batch in shared memory, with our transform."""
    from timm.data.dataset_factory import create_dataset
    from timm.data.loader import create_loader

    from experiments.data.image_transforms import train_transform

    if form == "webdataset":
        split = f"bench-train-0000.tar|{count}"
        data = create_dataset(
            "wds/",
            str(root / form),
            split=split,
            is_training=True,
            batch_size=BATCH,
            num_samples=count,
        )
    else:
        place = root / form / ("train" if form == "folder" else "train.tar")
        data = create_dataset("", str(place))
    loader = create_loader(
        data, (3, SIDE, SIDE), BATCH, is_training=True, num_workers=workers,
        device=torch.device("cpu"), pin_memory=False,
    )  # fmt: skip
    data.transform = train_transform(SIDE, settings(ra))
    return (batch for _ in range(passes) for batch in loader.loader)


def torchvisions(root: Path, form: str, count: int, passes: int, workers: int, ra: bool) -> Batches:
    """torchvision's own folders, decoder and transforms of tensors."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    cubic = v2.InterpolationMode.BICUBIC
    steps: list[Any] = [
        v2.RandomResizedCrop(SIDE, scale=(0.05, 1.0), interpolation=cubic, antialias=True),
        v2.RandomHorizontalFlip(),
        *([v2.RandAugment(2, 15)] if ra else []),
    ]
    data = ImageFolder(
        str(root / form / "train"), v2.Compose(steps),
        loader=lambda path: decode_image(path, ImageReadMode.RGB),
    )  # fmt: skip
    loader = DataLoader(
        data, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True
    )
    return (batch for _ in range(passes) for batch in loader)


WAYS: dict[str, Callable[..., Batches]] = {
    "timm": timms,
    "ours, pil": ours("pil"),
    "ours, tensor": ours("tensor"),
    "torchvision v2": torchvisions,
}


def spent() -> float:
    """Processor seconds of this process and of its workers that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds))


def _measure(way: str, arguments: tuple[Any, ...], answer: Any) -> None:
    torch.set_num_threads(1)
    began, wall = spent(), time.perf_counter()
    batches = WAYS[way](*arguments)
    number = sum(len(batch[0]) for batch in batches)
    wall = time.perf_counter() - wall
    del batches  # ends the workers, whose time counts from then on
    answer.send((number, spent() - began, wall))


def load_packages() -> None:
    """Once for all processes, which are forks of this one."""
    import timm.data  # noqa: F401
    import torchvision.transforms.v2  # noqa: F401

    from experiments.data import image_files, image_transforms  # noqa: F401


def measure(
    way: str, root: Path, form: str, images: int, passes: int, workers: int, augmented: bool
) -> tuple[float, float]:
    """Processor milliseconds of an image, and images a second, when all runs."""
    once, more = (once_measured(way, root, form, images, n, workers, augmented)
                  for n in (1, 1 + passes))  # fmt: skip
    number, cpu, wall = (b - a for a, b in zip(once, more, strict=True))
    return 1000 * cpu / number, number / wall


def once_measured(way: str, *arguments: Any) -> tuple[int, float, float]:
    """Images, processor seconds and wall seconds of a process of its own, start-up in them."""
    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_measure, args=(way, arguments, there), daemon=False
    )
    process.start()
    there.close()
    measured = here.recv()
    process.join()
    return measured


def pixel_difference(root: Path, count: int, augmented: bool) -> tuple[float, int]:
    """Percent of values that differ between our two decoders, and the largest difference."""
    given = (root, "folder", count, 1, 0, augmented)
    pairs = zip(ours("pil")(*given), ours("tensor")(*given), strict=True)
    gaps = torch.stack([(a[0].int() - b[0].int()).abs() for a, b in pairs])
    return 100 * (gaps > 0).float().mean().item(), int(gaps.max())


def rows_of(
    case: str, augmented: bool, root: Path, given: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """A row for each way of loading."""
    from experiments.surroundings import measured_on

    form, workers = case.split(":")
    ways = [w for w in WAYS if form == "folder" or w != "torchvision v2"]
    sizes = (given.images, given.passes, int(workers), augmented)
    turns = [
        {way: measure(way, root, form, *sizes) for way in ways} for _ in range(given.repeats + 1)
    ][1:]  # the first turn fills caches
    share, largest = pixel_difference(root, given.images, augmented)
    for way in ways:
        costs = [turn[way][0] for turn in turns]
        ratios = [turn["timm"][0] / turn[way][0] for turn in turns]
        is_new = way == "ours, tensor"
        yield {
            "format": form, "workers": workers, "randaugment": str(augmented), "loader": way,
            "cpu_ms_per_image": round(statistics.median(costs), 3),
            "lowest": round(min(costs), 3), "highest": round(max(costs), 3),
            "speed_over_timm": round(statistics.median(ratios), 2),
            "lowest_ratio": round(min(ratios), 2), "highest_ratio": round(max(ratios), 2),
            "images_per_second": round(statistics.median(t[way][1] for t in turns)),
            "turns": given.repeats, "images": given.images * given.passes,
            "values_unlike_pil_percent": round(share, 2) if is_new else "",
            "largest_difference": largest if is_new else "",
            **measured_on(),
        }  # fmt: skip


def keep(rows: list[dict[str, Any]], out: Path) -> None:
    """Writes rows in place of those of the same case; other rows stay."""
    key = ("format", "workers", "randaugment")
    new = {tuple(row[k] for k in key) for row in rows}
    old = list(csv.DictReader(out.open(newline=""))) if out.exists() else []
    rows = [row for row in old if tuple(row[k] for k in key) not in new] + rows
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> int:
    """Makes the tree, measures all ways and writes the table, case by case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", default=",".join(CASES), help="FORMAT:WORKERS,...")
    parser.add_argument("--root", type=Path, help="folder for the tree; default: a temporary one")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root = given.root or Path(scratch)
        load_packages()
        print(f"{make_tree(root, given.images):.1f} kB an image")
        for case in given.cases.split(","):
            for augmented in (False, True):
                rows = list(rows_of(case, augmented, root, given))
                for row in rows:
                    print(*list(row.values())[:11], sep="\t", flush=True)
                keep(rows, given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
