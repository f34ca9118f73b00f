"""Text to image from tars of pairs: order of the plan, exact resume, ranks, one line for errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_trees import image as png
from data_trees import tar

from experiments.config import ConfigError, UserError
from experiments.data import caption_embeddings
from experiments.data.captioned_shards import CaptionedShards
from experiments.data.locate import DataMissing, check_section
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

SETTINGS = ImageTaskConfig(horizontal_flip=0.0, train_crop="centre", eval_crop_fraction=1.0)
TARGET = "experiments.data.captioned_shards.CaptionedShards"


class Counting:
    """Stands for an encoder: a token for each word, whose embedding is the word's number."""

    device = torch.device("cpu")

    def to(self, device: Any) -> Counting:
        return self

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        hidden = input_ids[..., None].float().expand(*input_ids.shape, 3)
        return type("Output", (), {"last_hidden_state": hidden})


class Told(dict):
    def to(self, device: Any) -> Told:
        return self


def words(texts: list[str], max_length: int, **_: Any) -> Told:
    """`picture 7` is two tokens, 1 and 7."""
    rows = [[1, int(text.split()[1])][:max_length] for text in texts]
    ids = torch.tensor(rows)
    return Told(input_ids=ids, attention_mask=torch.ones_like(ids))


@pytest.fixture(autouse=True)
def encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_embeddings, "load_whole", lambda *_: Counting())
    monkeypatch.setattr(caption_embeddings, "load_part", lambda *_: words)
    monkeypatch.setattr(caption_embeddings, "checksum", lambda _: "right")


def members(first: int, number: int) -> list[tuple[str, bytes]]:
    """Brightness and caption tell the number."""
    found = []
    for k in range(first, first + number):
        found += [(f"{k:09d}.jpg", png(10 * k)), (f"{k:09d}.txt", f"picture {k}".encode())]
    return found


def section(root: Path, **changes: Any) -> dict[str, Any]:
    if not root.exists():
        tar(root / "00000.tar", members(0, 6))
        tar(root / "00001.tar", members(6, 5))
        tar(root / "00002.tar", members(11, 3))
        (root / "encoder").mkdir()
        (root / "encoder/config.json").write_text("{}")
    return {
        "name": "toy", "num_train": 11, "root": str(root), "encoder": str(root / "encoder"),
        "train_split": "{00000..00001}.tar", "val_split": "00002.tar", "encoder_sha256": "right",
        "input_size": 16, "num_tokens": 4, "embed_dim": 3, "num_workers": 0,
        "cache_dir": str(root / "cache"), **changes,
    }  # fmt: skip


def source(root: Path, **changes: Any) -> CaptionedShards:
    return CaptionedShards(**section(root, **changes))


def numbers(batch: tuple[torch.Tensor, ...]) -> list[int]:
    """Of the examples in a batch, which its images and its captions must both tell."""
    images, values, mask = batch
    assert images.dtype == torch.uint8 and images.shape[1:] == (3, 16, 16)
    assert values.dtype == torch.float32 and mask.tolist() == [[True, True, False, False]] * len(
        mask
    )
    assert not values[:, 2:].any() and values.shape[1:] == (4, 3)
    shown = [round(int(i[0, 8, 8]) / 10) for i in images]
    assert values[:, 1, 0].tolist() == shown
    return shown


def seen(data: CaptionedShards, plan: BatchPlan, start: int, end: int) -> list[int]:
    return [
        n
        for step in data.train_batches(plan, start, end, SETTINGS)
        for b in step
        for n in numbers(b)
    ]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_pairs_come_in_the_order_of_the_plan_and_belong_together(
    tmp_path: Path, num_workers: int
) -> None:
    data = source(tmp_path / "a", num_workers=num_workers)
    plan = BatchPlan(3, 11, 4, 2)
    whole = seen(data, plan, 0, 5)
    assert whole == [int(n) for s in range(5) for row in plan.micro_batches(s) for n in row]
    assert seen(data, plan, 3, 5) == whole[12:]  # resumed
    ranks = [BatchPlan(3, 11, 4, 2, rank, 2) for rank in (0, 1)]
    one, two = (seen(source(tmp_path / "a"), rank, 0, 2) for rank in ranks)
    assert [*one[:2], *two[:2], *one[2:], *two[2:]] == whole[:8]


def test_validation_is_taken_once_over_all_processes_and_by_number(tmp_path: Path) -> None:
    data = source(tmp_path / "a")
    parts = [data.eval_batches("val", 2, rank, 2, SETTINGS) for rank in (0, 1)]
    assert [[numbers(batch) for batch in part] for part in parts] == [[[11, 13]], [[12]]]
    assert numbers(data.take("val", [2, 3, 7], SETTINGS)) == [13, 11, 12]
    assert data.captions("val", [2, 3]) == ["picture 13", "picture 11"]
    shapes = [(x.shape, x.dtype) for x in data.example_batch(3)]
    assert shapes == [(x.shape, x.dtype) for x in data.take("val", [0, 1, 2], SETTINGS)]


def test_another_folder_may_hold_what_is_drawn(tmp_path: Path) -> None:
    tar(tmp_path / "coco/val.tar", members(20, 2))
    data = source(tmp_path / "a", val_root=str(tmp_path / "coco"), val_split="val")
    assert data.captions("val", [0, 1]) == ["picture 20", "picture 21"]
    assert source(tmp_path / "a").fingerprint != data.fingerprint


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    one = source(tmp_path / "a").fingerprint
    assert one == source(tmp_path / "b").fingerprint
    changed = [(n, c.replace(b"picture 7", b"picture 8")) for n, c in members(6, 5)]
    tar(tmp_path / "b/00001.tar", changed)
    other = source(tmp_path / "b")
    assert one != other.fingerprint
    with pytest.raises(AssertionError):  # its captions were embedded anew: 7 is shown, 8 is said
        seen(other, BatchPlan(3, 11, 11, 11), 0, 1)


def test_embeddings_fall_due_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(source(tmp_path / "a"), BatchPlan(0, 11, 11, 11), 0, 1)
    monkeypatch.setattr(caption_embeddings, "_fill", lambda *_: pytest.fail("embedded again"))
    seen(source(tmp_path / "a"), BatchPlan(0, 11, 11, 11), 0, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"root": None}, "data.root is not set; make .*img2dataset.*experiment=vit_proxy"),
        ({"train_split": "{00000..00003}.tar"}, "has no shard 00003.tar"),
        ({"val_root": "/nowhere"}, "data.val_root=/nowhere does not exist; .*set data.val_root="),
        ({"val_split": "00001.tar"}, "data.val_split: 00001.tar is trained on, too"),
        ({"encoder": None}, "data.encoder is not set"),
        ({"num_workers": -1}, "data.num_workers=-1: must be a whole number"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_read(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    given = {"_target_": TARGET, **section(tmp_path / "a")}
    check_section(given)
    with pytest.raises((DataMissing, ConfigError), match=said) as error:
        check_section({**given, **changes})
    assert "\n" not in str(error.value)


def test_a_wrong_number_and_a_wrong_width_name_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds 11 pairs: .*set data.num_train=11"):
        seen(source(tmp_path / "a", num_train=12), BatchPlan(0, 12, 4, 4), 0, 1)
    with pytest.raises(ConfigError, match="data.embed_dim=5: the encoder gives 3"):
        seen(source(tmp_path / "a", embed_dim=5), BatchPlan(0, 11, 4, 4), 0, 1)
    folder = next((tmp_path / "a/cache").glob("captions-*"))
    for path in folder.glob("*.values.npy"):
        path.write_bytes(b"cut")
    caption_embeddings._opened.cache_clear()
    with pytest.raises(UserError, match="cannot be read .*remove it, it will be made anew"):
        for part in ("train", "val"):
            source(tmp_path / "a").take(part, [0], SETTINGS)


def test_flips_are_drawn_for_each_pair_alone(tmp_path: Path) -> None:
    import io

    from PIL import Image

    def striped(k: int) -> bytes:
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[:, :8] = 100 + k
        Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
        return file.getvalue()

    root = tmp_path / "a"
    section(root)
    pairs = [(f"{k}.png", striped(k)) for k in range(8)]
    tar(root / "x.tar", pairs + [(f"{k}.txt", b"picture 1") for k in range(8)])
    data = source(root, train_split="x.tar", num_train=8)
    settings = ImageTaskConfig(horizontal_flip=0.5, eval_crop_fraction=1.0)

    def sides(size: int) -> dict[int, bool]:
        steps = data.train_batches(BatchPlan(1, 8, 8, size), 0, 1, settings)
        return {int(i[0].max()): bool(i[0, 0, 0]) for step in steps for b in step for i in b[0]}

    assert sides(8) == sides(2) and len(set(sides(8).values())) == 2


@pytest.mark.parametrize("split", ["train", "{0..3}.tar"])
def test_a_folder_that_is_not_there_is_named_and_not_its_shards(split: str) -> None:
    section = {"_target_": TARGET, "root": "/no/such/folder", "train_split": split}
    with pytest.raises(DataMissing, match="^data.root=/no/such/folder does not exist; make"):
        check_section(section)
