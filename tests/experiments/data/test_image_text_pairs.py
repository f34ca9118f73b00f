"""Image-text pairs in the formats that people have: img2dataset's tars, Karpathy's json."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from data_trees import image as png
from data_trees import tar

from experiments.config import ConfigError, UserError
from experiments.data.captioned_sets import digest_of
from experiments.data.image_text_pairs import ImageTextPairs
from experiments.data.karpathy import KarpathyCaptions
from experiments.data.locate import DataMissing, check_section
from experiments.data.order import BatchPlan
from experiments.data.tokenizer_training import train_bpe
from experiments.settings.contrastive import ContrastiveTaskConfig

SETTINGS = ContrastiveTaskConfig()
PAIRS = "experiments.data.image_text_pairs.ImageTextPairs"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    content = train_bpe(["a cat on a mat", "two dogs"], 300)
    path = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return {"tokenizer_file": str(path), "tokenizer_sha256": digest}


def members(first: int, number: int) -> list[tuple[str, bytes]]:
    """What img2dataset writes of each pair; brightness and caption tell the number."""
    found = []
    for k in range(first, first + number):
        key, facts = f"{k:09d}", {"caption": f"picture {k}", "url": "x", "status": "success"}
        found += [(f"{key}.jpg", png(10 * k)), (f"{key}.json", json.dumps(facts).encode())]
        if k % 2 == 0:  # half of them have the caption in the json alone
            found.insert(-1, (f"{key}.txt", f" picture {k}\n".encode()))
    return found


def shards(root: Path) -> Path:
    tar(root / "00000.tar", members(0, 6))
    tar(root / "00001.tar", members(6, 5))
    for number in (0, 1):  # beside them, for whoever wants tables
        (root / f"{number:05d}_stats.json").write_text("{}")
    return root


def source(root: Path, tokenizer: dict[str, str], **changes: Any) -> ImageTextPairs:
    given = {
        "train_split": "{00000..00001}.tar", "input_size": 16, "num_workers": 0, "num_train": 11,
        "num_tokens": 12, "cache_dir": str(root / "cache"), **tokenizer, **changes,
    }  # fmt: skip
    return ImageTextPairs("toy", root=str(root), **given)


def said(data: ImageTextPairs, tokens: torch.Tensor) -> list[str]:
    return [data.tokens.tokenizer.decode(row.tolist()) for row in tokens]


def seen(data: ImageTextPairs, plan: BatchPlan, start: int, end: int) -> list[tuple[int, str]]:
    """(brightness / 10, caption) in the order of training."""
    found = []
    for step in data.train_batches(plan, start, end, SETTINGS):
        for images, tokens in step:
            assert images.dtype == torch.uint8 and images.shape[1:] == (3, 16, 16)
            found += zip(
                [round(int(i[0, 8, 8]) / 10) for i in images], said(data, tokens), strict=True
            )
    return found


@pytest.mark.parametrize("num_workers", [0, 2])
def test_pairs_come_in_the_order_of_the_plan_and_belong_together(
    tmp_path: Path, tokenizer: dict[str, str], num_workers: int
) -> None:
    data = source(shards(tmp_path), tokenizer, num_workers=num_workers)
    plan = BatchPlan(3, 11, 4, 2)
    expected = [
        (int(n), f"picture {n}") for s in range(5) for row in plan.micro_batches(s) for n in row
    ]
    whole = seen(data, plan, 0, 5)
    assert whole == expected
    assert seen(data, plan, 3, 5) == whole[12:]  # resumed
    ranks = [BatchPlan(3, 11, 4, 2, rank, 2) for rank in (0, 1)]
    one, two = (seen(source(tmp_path, tokenizer), rank, 0, 2) for rank in ranks)
    assert [*one[:2], *two[:2], *one[2:], *two[2:]] == whole[:8]


def test_captions_that_are_cut_are_said(tmp_path: Path, tokenizer: dict[str, str]) -> None:
    plan = BatchPlan(3, 11, 4, 4)
    with pytest.warns(UserWarning, match="toy: 11 of 11 captions .* more than data.num_tokens=2 "):
        next(source(shards(tmp_path), tokenizer, num_tokens=2).train_batches(plan, 0, 1, SETTINGS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(source(tmp_path, tokenizer, num_tokens=30).train_batches(plan, 0, 1, SETTINGS))


def test_numbers_in_place_of_images_have_the_same_captions(
    tmp_path: Path, tokenizer: dict[str, str]
) -> None:
    data = source(shards(tmp_path), tokenizer)
    plan = BatchPlan(0, 11, 4, 4)
    ((numbers, tokens),) = next(data.train_batches(plan, 0, 1, SETTINGS, with_images=False))
    ((_, same),) = next(data.train_batches(plan, 0, 1, SETTINGS))
    assert torch.equal(tokens, same) and tokens.shape == (4, 12)
    assert said(data, tokens) == [f"picture {n}" for n in numbers.tolist()]
    (shown,) = data.train_images([numbers.numpy()], SETTINGS)
    assert [round(int(i[0, 8, 8]) / 10) for i in shown] == numbers.tolist()
    meta = data.example_batch(4)
    assert [(m.shape, m.dtype) for m in meta] == [(x.shape, x.dtype) for x in (shown, tokens)]


def test_webdataset_reads_the_same_pairs(tmp_path: Path, tokenizer: dict[str, str]) -> None:
    webdataset = pytest.importorskip("webdataset")
    root = shards(tmp_path)
    theirs = {}
    for path in sorted(root.glob("*.tar")):
        for sample in webdataset.WebDataset(str(path), shardshuffle=False).decode("pil"):
            theirs[sample["__key__"]] = sample["json"]["caption"]
    data = source(root, tokenizer)
    _, _, captions = data._train
    assert [captions.file_name(k) for k in range(11)] == list(theirs)
    assert captions.texts(range(11)) == list(theirs.values())


def test_a_part_of_the_shards_is_searched(tmp_path: Path, tokenizer: dict[str, str]) -> None:
    data = source(
        shards(tmp_path), tokenizer, train_split="00000.tar", val_split="00001.tar", num_train=6
    )
    captioned = data.eval_sets["val"]
    assert captioned.num_images == 5 and captioned.captions[0] == "picture 6"
    (shown,) = captioned.images([np.array([4, 0])], SETTINGS)
    assert [round(int(i[0, 8, 8]) / 10) for i in shown] == [10, 6]


def test_flips_are_drawn_for_each_pair_alone(tmp_path: Path, tokenizer: dict[str, str]) -> None:
    import io

    from PIL import Image

    def striped(k: int) -> bytes:
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[:, :8] = 100 + k
        Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
        return file.getvalue()

    pairs = [(f"{k}.png", striped(k)) for k in range(8)] + [(f"{k}.txt", b"x") for k in range(8)]
    tar(tmp_path / "a.tar", pairs)
    data = source(tmp_path, tokenizer, train_split="a.tar", num_train=8)
    settings = ContrastiveTaskConfig(horizontal_flip=0.5)

    def sides(size: int) -> dict[int, bool]:
        found = {}
        for step in data.train_batches(BatchPlan(1, 8, 8, size), 0, 1, settings):
            for images, _ in step:
                for one in images:
                    found[int(one[0].max())] = bool(one[0, 0, 0])
        return found

    assert sides(8) == sides(2) and len(set(sides(8).values())) == 2


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path, tokenizer: dict[str, str]) -> None:
    one = source(shards(tmp_path / "a"), tokenizer).fingerprint
    assert one == source(shards(tmp_path / "b"), tokenizer).fingerprint
    changed = [(n, c.replace(b"picture 7", b"picture 8")) for n, c in members(6, 5)]
    tar(tmp_path / "b/00001.tar", changed)
    assert one != source(tmp_path / "b", tokenizer).fingerprint


def test_the_fingerprint_tells_another_set_to_search_in(
    tmp_path: Path, tokenizer: dict[str, str]
) -> None:
    """Only the training pairs were looked at; features of these are kept by their own alone."""
    split: dict[str, Any] = {"train_split": "00000.tar", "val_split": "00001.tar", "num_train": 6}
    one = source(shards(tmp_path), tokenizer, **split)
    before = one.fingerprint, one.train_fingerprint
    tar(tmp_path / "00001.tar", [(n, c.replace(b"7", b"8")) for n, c in members(6, 5)])
    other = source(tmp_path, tokenizer, **split)
    assert before[0] != other.fingerprint and before[1] == other.train_fingerprint
    assert before[0].startswith(f"{before[1]} ")


def test_half_samples_are_left_out_with_a_word(tmp_path: Path, tokenizer: dict[str, str]) -> None:
    lonely = [("1.txt", b"a caption"), ("2.jpg", png(50))]
    tar(tmp_path / "x.tar", [*members(0, 2), *lonely])
    data = source(tmp_path, tokenizer, train_split="x.tar", num_train=2)
    with pytest.warns(UserWarning, match="left out: 1 without caption, 1 without image"):
        assert len(seen(data, BatchPlan(0, 2, 2, 2), 0, 1)) == 2


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        ("txt", b""), ("txt", b" \n"), ("txt", b" " * 99), ("txt", b"\xef\xbb\xbf"),
        ("json", b"{}"), ("json", b'{"caption": null}'),
        ("json", b'{"caption": ""}'), ("json", b"["), ("json", b"[1]"), ("json", b'{"caption": 7}'),
    ],
)  # fmt: skip
def test_no_caption_is_none_and_not_the_word_none(
    tmp_path: Path, tokenizer: dict[str, str], suffix: str, content: bytes
) -> None:
    """img2dataset writes null, and an empty text, for whom its table has no caption."""
    bare = [("x.jpg", png(90)), (f"x.{suffix}", content)]
    tar(tmp_path / "x.tar", [*bare, *members(0, 2), ("y.jpg", png(20)), ("y.txt", b"z")])
    data = source(tmp_path, tokenizer, train_split="x.tar", num_train=3)
    with pytest.warns(UserWarning, match="left out: 1 without caption$"):
        found = seen(data, BatchPlan(0, 3, 3, 3), 0, 1)
    assert sorted(found) == [(0, "picture 0"), (1, "picture 1"), (2, "z")]


def test_the_caption_of_the_json_stands_in_for_an_empty_text(
    tmp_path: Path, tokenizer: dict[str, str]
) -> None:
    tar(tmp_path / "x.tar", [("a.jpg", png(10)), ("a.txt", b""), ("a.json", b'{"caption": "it"}')])
    data = source(tmp_path, tokenizer, train_split="x.tar", num_train=1)
    assert seen(data, BatchPlan(0, 1, 1, 1), 0, 1) == [(1, "it")]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"\xef\xbb\xbfit", "it"),
        ("a.txt", b" " * 99 + b"it", "it"),
        ("a.json", b'\xef\xbb\xbf{"caption": "it"}', "it"),
        ("a.json", b'{"caption": "it \\ud83d\\ude00"}', "it \U0001f600"),
        ("a.json", b'{"caption": "it \\ud83d"}', "it \ufffd"),
    ],
)
def test_marks_of_byte_order_and_halves_of_characters(
    tmp_path: Path, tokenizer: dict[str, str], name: str, content: bytes, expected: str
) -> None:
    """No mark is a caption's first word, and what JSON alone can hold stops no tokenizer."""
    tar(tmp_path / "x.tar", [("a.jpg", png(10)), (name, content)])
    data = source(tmp_path, tokenizer, train_split="x.tar", num_train=1)
    assert seen(data, BatchPlan(0, 1, 1, 1), 0, 1) == [(1, expected)]


Damage = Callable[[Path], None]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "cut": (
        lambda root: (
            (root / "00001.tar").write_bytes((root / "00001.tar").read_bytes()[:3000]) and None
        ),
        "00001.tar .* get it again",
    ),
    "no pairs": (lambda root: tar(root / "00000.tar", [("a.txt", b"x")]), "num_train=5"),
    "no image": (
        lambda root: tar(root / "00000.tar", [("a.jpg", b"no"), ("a.txt", b"x"), *members(0, 5)]),
        "cannot read the image .*00000.tar: a",
    ),
    "two images": (
        lambda root: tar(
            root / "00000.tar", [("a.jpg", png(1)), ("a.png", png(1)), ("a.txt", b"x")]
        ),
        "a has 2 images",
    ),
    "more pairs": (
        lambda root: tar(root / "00000.tar", members(0, 7)),
        "num_train=11, but .* holds 12 pairs: .*set data.num_train=12",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.filterwarnings("ignore:.*left out")
def test_damage_is_one_line_that_names_the_file(
    tmp_path: Path, tokenizer: dict[str, str], name: str
) -> None:
    damage, expected = DAMAGES[name]
    root = shards(tmp_path)
    damage(root)
    data = source(root, tokenizer)
    with pytest.raises(UserError, match=expected) as caught:
        seen(data, BatchPlan(0, 11, 11, 11), 0, 1)
    assert "\n" not in str(caught.value)


def coco(root: Path) -> Path:
    """Eight images; one has six captions, one lies in another folder, restval counts as train."""
    splits = ["train", "restval", "test", "val", "test", "train", "test", "val"]
    images = []
    for k, split in enumerate(splits):
        folder = "val2014" if k % 2 else "train2014"
        path = root / folder / f"COCO_{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(10 * k))
        sentences = [
            {"raw": f"caption {j} of {k}", "tokens": []} for j in range(6 if k == 4 else 5)
        ]
        images.append(
            {"filepath": folder, "filename": path.name, "split": split, "sentences": sentences}
        )
    (root / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return root


def test_karpathys_test_split_with_five_captions_each(tmp_path: Path) -> None:
    data = KarpathyCaptions("coco", str(coco(tmp_path)), input_size=16, num_workers=0)
    assert data.num_images == 3 and data.image_of.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert data.captions[:5] == [f"caption {j} of 2" for j in range(5)]
    assert "caption 5 of 4" not in data.captions
    shown = list(data.images([np.array([2, 0]), np.array([1])], SETTINGS))
    assert [[round(int(i[0, 8, 8]) / 10) for i in s] for s in shown] == [[6, 2], [4]]
    other = KarpathyCaptions("coco", str(tmp_path), split="val")
    assert digest_of(data.captions, data.image_of) != digest_of(other.captions, other.image_of)


def test_images_that_are_not_there_are_said_at_once(tmp_path: Path) -> None:
    """And not at the first evaluation, hours later."""
    data = KarpathyCaptions("coco", str(coco(tmp_path)), input_size=16, num_workers=0)
    data.check_files()
    (tmp_path / "train2014/COCO_4.jpg").unlink()
    with pytest.raises(UserError, match=r"coco \(test\): 1 of 3 images .*COCO_4.jpg: complete"):
        data.check_files()


def test_half_a_character_in_karpathys_json_is_one_no_more(tmp_path: Path) -> None:
    row = {"filename": "1.jpg", "split": "test", "sentences": [{"raw": "a \ud83d"}]}
    (tmp_path / "dataset_x.json").write_text(json.dumps({"images": [row]}))
    assert KarpathyCaptions("x", str(tmp_path)).captions == ["a \ufffd"]


def test_flickr_has_no_folders_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(png(30))
    listed = {
        "images": [{"filename": "1.jpg", "split": "test", "sentences": [{"raw": " a dog. "}]}]
    }
    (tmp_path / "splits.json").write_text(json.dumps(listed))
    data = KarpathyCaptions(
        "flickr30k", str(tmp_path), str(tmp_path / "splits.json"), input_size=16, num_workers=0
    )
    assert data.captions == ["a dog."]
    (shown,) = data.images([np.array([0])], SETTINGS)
    assert int(shown[0, 0, 8, 8]) == 30


def test_every_caption_of_karpathys_training_images_is_a_pair(
    tmp_path: Path, tokenizer: dict[str, str]
) -> None:
    data = source(
        coco(tmp_path), tokenizer, reader="karpathy", train_split="train", val_split="val",
        num_train=15, num_tokens=16,
    )  # fmt: skip
    pairs = sorted(seen(data, BatchPlan(0, 15, 15, 5), 0, 1))
    assert pairs == sorted((k, f"caption {j} of {k}") for k in (0, 1, 5) for j in range(5))
    assert data.eval_sets["val"].num_images == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[", "not in Karpathy's form"),
        ('{"images": []}', "no image of the split test"),
        ('{"images": [{"split": "test", "filename": "x", "sentences": []}]}', "x has no caption"),
        (
            '{"images": [{"split": "test", "filename": "x", "sentences": [{"raw": null}]}]}',
            "x has no caption",
        ),
        ('{"images": [{"split": "test"}]}', "KeyError: 'filename'"),
    ],
)
def test_a_damaged_json_is_one_line(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "dataset_x.json").write_text(content)
    with pytest.raises(UserError, match=expected):
        _ = KarpathyCaptions("x", str(tmp_path)).captions


def test_what_is_missing_is_said_before_anything_heavy(
    tmp_path: Path, tokenizer: dict[str, str]
) -> None:
    section = {"_target_": PAIRS, "name": "cc12m", "num_train": 3, "root": None, **tokenizer}
    for changes, expected in (
        ({}, "data.root is not set; download cc12m with img2dataset"),
        ({"root": str(tmp_path / "no")}, "is not a folder"),
        ({"root": str(tmp_path), "train_split": "{00..01}.tar"}, "has no shard 00.tar"),
        ({"root": str(tmp_path), "reader": "karpathy"}, "has no dataset_\\*.json; get Karpathy's"),
    ):
        with pytest.raises(DataMissing, match=expected):
            check_section({**section, **changes})
    coco(tmp_path)
    good = {**section, "root": str(tmp_path), "reader": "karpathy"}
    check_section(good)
    with pytest.raises(ConfigError, match="choose train, val or test"):
        check_section({**good, "train_split": "tets"})
    with pytest.raises(ConfigError, match="data.val_split=train: train is trained on, too"):
        check_section({**good, "val_split": "train"})
    shards(tmp_path)
    with pytest.raises(ConfigError, match="00001.tar is trained on, too: name another split"):
        both = {"reader": "shards", "train_split": "{00000..00001}.tar", "val_split": "00001.tar"}
        check_section({**good, **both})
    (tmp_path / "linked.tar").symlink_to("00001.tar")
    with pytest.raises(ConfigError, match="data.val_split=linked.tar: .*00001.tar is trained on"):
        check_section({**good, **both, "val_split": "linked.tar"})
    with pytest.raises(DataMissing, match="tokenizer_file is not set"):
        check_section({**good, "tokenizer_file": None})
    (tmp_path / "dataset_two.json").touch()
    with pytest.raises(DataMissing, match="2 files dataset_"):
        check_section({**good})


def test_square_images_keep_all_of_their_pixels(tmp_path: Path) -> None:
    from PIL import Image

    from experiments.data.image_transforms import eval_transform

    pixels = np.zeros((10, 40, 3), np.uint8)
    pixels[:, :10], pixels[:, 30:] = 255, 128
    whole = eval_transform(16, ContrastiveTaskConfig())(Image.fromarray(pixels))
    centre = SimpleNamespace(crop="centre", interpolation="bicubic", eval_crop_fraction=1.0)
    cut = eval_transform(16, centre)(Image.fromarray(pixels))  # pyright: ignore[reportArgumentType]
    assert torch.as_tensor(whole)[0, 8, 0] == 255 and torch.as_tensor(whole)[0, 8, 15] == 128
    assert int(torch.as_tensor(cut).max()) == 0
