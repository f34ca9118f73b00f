"""Recall and zero-shot accuracy against plain loops over numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_threads import together
from torch import Tensor

from experiments.config import ConfigError, UserError
from experiments.data.captioned_sets import CaptionedImagesInMemory
from experiments.distributed import World
from experiments.evaluations.classification import score
from experiments.evaluations.evaluation import Context
from experiments.evaluations.prompts import FOLDER, Prompts, read_prompts
from experiments.evaluations.retrieval import retrieve
from experiments.evaluations.zero_shot import class_embeddings, zero_shot

CONTEXT = Context(World(0, 1, torch.device("cpu")), seed=0, batch_size=4, step=1)


class Table:
    """A model whose embeddings stand in tables; a caption is the number of its row."""

    def __init__(self, images: np.ndarray, texts: np.ndarray) -> None:
        self.images, self.texts = (torch.tensor(t, dtype=torch.float32) for t in (images, texts))
        self.embed_dim, self.scale = images.shape[1], torch.tensor(7.0)

    def encode_image(self, numbers: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self.images[numbers], dim=1)

    def encode_text(self, numbers: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self.texts[numbers], dim=1)


def numbers(texts: Sequence[str]) -> Tensor:
    return torch.tensor([int(text) for text in texts])


def recalls(model: Table, image_of: np.ndarray) -> dict[str, float]:
    captions = [str(k) for k in range(len(image_of))]
    shown = CaptionedImagesInMemory(torch.empty(len(model.images)), captions, image_of)
    found = retrieve(
        model, shown, "val", CONTEXT, numbers, lambda rows: (torch.from_numpy(r) for r in rows)
    )
    rows = list(found)
    assert all(row.split == "val" and row.better == "higher" for row in rows)
    for row in rows:
        share = row.value / 100
        assert row.error == pytest.approx(100 * (share * (1 - share) / row.n) ** 0.5)
    assert all(
        row.n == (len(model.images) if "i2t" in row.metric else len(image_of)) for row in rows
    )
    return {row.metric: row.value for row in rows}


def by_sorting(model: Table, image_of: np.ndarray) -> dict[str, float]:
    x, y = (t.double().numpy() for t in (model.images, model.texts))
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    found = {}
    for depth in (1, 5, 10):
        hits = [
            any(image_of[c] == i for c in np.argsort(-(y @ x[i]))[:depth]) for i in range(len(x))
        ]
        found[f"i2t_recall{depth}"] = 100 * float(np.mean(hits))
        hits = [image_of[c] in np.argsort(-(x @ y[c]))[:depth] for c in range(len(y))]
        found[f"t2i_recall{depth}"] = 100 * float(np.mean(hits))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [0.5, 2.0])
@pytest.mark.parametrize("alike", [True, False], ids=["five captions", "1 to 7 captions"])
def test_recall_is_that_of_sorting(seed: int, noise: float, alike: bool) -> None:
    random_state = np.random.RandomState(seed)
    image_of = np.repeat(np.arange(23), 5 if alike else random_state.randint(1, 8, 23))
    random_state.shuffle(image_of)
    images = random_state.randn(23, 6)
    texts = images[image_of] + noise * random_state.randn(len(image_of), 6)
    model = Table(images, texts)
    found = recalls(model, image_of)
    assert found == pytest.approx(by_sorting(model, image_of))
    assert 0 < found["t2i_recall1"] < 100 and found["i2t_recall1"] != found["t2i_recall1"]


def test_any_caption_counts_and_not_the_share_of_them() -> None:
    image_of = np.repeat(np.arange(12), 5)
    images = np.eye(12)
    texts = np.roll(np.eye(12), 1, axis=0)[image_of]  # of the wrong image,
    texts[::5] = images  # but for one of five
    found = recalls(Table(images, texts + 1e-3 * np.arange(60)[:, None] * 0), image_of)
    assert found["t2i_recall1"] == pytest.approx(20.0)
    assert found["i2t_recall5"] == 100.0 and found["i2t_recall1"] == 0.0  # four others are as near


class Rounds(Table):
    """Embeddings differ by their place in a batch, as those of real kernels may."""

    def encode_text(self, numbers: Tensor) -> Tensor:
        return super().encode_text(numbers) * (1 + 1e-6 * torch.arange(len(numbers))[:, None])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 60])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_captions_of_the_same_tokens_are_equally_near_however_they_are_cut(
    batch_size: int, size: int
) -> None:
    """Of 12 images, two each have a caption in common, and one that is of no use."""
    image_of = np.repeat(np.arange(12), 2)
    words = [str(k) for image in range(12) for k in (image // 2, 6 + image)]
    texts, images = np.eye(18, 6), np.eye(6).repeat(2, axis=0)
    texts[6:] = -np.ones(6)
    shown = CaptionedImagesInMemory(torch.empty(12), words, image_of)

    def found(world: World) -> dict[str, float]:
        context = replace(CONTEXT, batch_size=batch_size, world=world)
        model = Rounds(images, texts)
        rows = retrieve(
            model, shown, "val", context, numbers, lambda of: (torch.from_numpy(r) for r in of)
        )
        return {row.metric: row.value for row in rows}

    for one in together(size, found):
        assert one["i2t_recall1"] == 0.0, "the caption of the other image is as near"
        assert one["i2t_recall5"] == 100.0


def test_an_image_is_not_in_the_way_of_itself_by_a_caption_that_it_has_twice() -> None:
    """Three images, each caption twice or thrice: it is known by its tokens, not by its place."""
    image_of = np.array([2, 0, 0, 1, 2, 1, 2])
    words = [str(image) for image in image_of]
    shown = CaptionedImagesInMemory(torch.empty(3), words, image_of)

    def rows(of: CaptionedImagesInMemory) -> dict[str, Any]:
        found = retrieve(
            Table(np.eye(3), np.eye(3)), of, "val", CONTEXT, numbers,
            lambda rows: (torch.from_numpy(r) for r in rows),
        )  # fmt: skip
        return {row.metric: row for row in found}

    found = rows(shown)
    assert {row.value for row in found.values()} == {100.0}
    others = rows(CaptionedImagesInMemory(torch.empty(3), words, np.roll(image_of, 1)))
    assert found["i2t_recall1"].instrument != others["i2t_recall1"].instrument


def test_embeddings_that_are_all_alike_find_nothing() -> None:
    found = recalls(Table(np.ones((30, 3)), np.ones((60, 3))), np.repeat(np.arange(30), 2))
    assert set(found.values()) == {0.0}


def test_an_embedding_that_is_not_a_number_finds_nothing_and_is_in_nobodys_way() -> None:
    """No comparison with NaN is true: nothing seemed to be ahead of it, and recall was 100 %."""
    broken = np.full((30, 4), np.nan)
    image_of = np.arange(30)
    assert set(recalls(Table(broken, broken), image_of).values()) == {0.0}
    x = np.random.RandomState(0).randn(30, 4)
    y = x.copy()
    y[3] = np.nan
    found = recalls(Table(x, y), image_of)
    assert list(found.values()) == pytest.approx([100 * 29 / 30] * 6)
    far = Table(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[-0.2, 1.0], [np.nan, 1.0]]))
    assert recalls(far, np.arange(2))["i2t_recall1"] == 50.0, "not even of those that point away"
    x[:2] = np.nan
    logits, labels = torch.tensor(x, dtype=torch.float32), torch.tensor([0] * 30)
    for truth in (labels, torch.ones(30, 4, dtype=torch.bool)):
        right = score(logits, truth, None)[0] - score(logits[2:], truth[2:], None)[0]
        assert float(right) == 0.0


PROMPTS = Prompts(["3", "1", "2"], ["{}", "1{}", "2{}"])  # sentences 3, 13, 23; 1, 11, 21; ...


def test_classes_are_means_of_unit_vectors_of_unit_length() -> None:
    model = Table(np.zeros((1, 4)), 5 * np.random.RandomState(0).randn(30, 4))
    found = class_embeddings(model, PROMPTS, CONTEXT, numbers)
    together = class_embeddings(model, PROMPTS, replace(CONTEXT, batch_size=6), numbers)
    torch.testing.assert_close(together, found)  # two classes at a time
    for row, name in zip(found, (3, 1, 2), strict=True):
        y = model.texts.double().numpy()[[name, 10 + name, 20 + name]]
        mean = np.mean([v / np.linalg.norm(v) for v in y], axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=1e-5)


def test_zero_shot_accuracy_and_loss_are_those_of_plain_loops() -> None:
    random_state = np.random.RandomState(1)
    model = Table(random_state.randn(50, 4), random_state.randn(30, 4))
    labels = random_state.randint(0, 3, 50)
    order = torch.arange(50)
    batches = [(b, {"all": torch.from_numpy(labels)[b], "two": torch.from_numpy(labels)[b]})
               for b in order.split(8)]  # fmt: skip
    visible: dict[str, Any] = {"all": None, "two": torch.tensor([0, 2])}
    found = {
        (row.split, row.metric): row
        for row in zero_shot(model, PROMPTS, CONTEXT, numbers, batches, visible)
    }
    classes = class_embeddings(model, PROMPTS, CONTEXT, numbers).double().numpy()
    x = model.images.double().numpy()
    logits = 7 * x / np.linalg.norm(x, axis=1, keepdims=True) @ classes.T
    right = np.mean([row.argmax() == k for row, k in zip(logits, labels, strict=True)])
    loss = np.mean([np.log(np.exp(r).sum()) - r[k] for r, k in zip(logits, labels, strict=True)])
    assert found["all", "zero_shot_top1"].value == pytest.approx(100 * right)
    assert found["all", "zero_shot_loss"].value == pytest.approx(loss, rel=1e-5)
    logits[:, 1] = -np.inf
    right = np.mean([row.argmax() == k for row, k in zip(logits, labels, strict=True)])
    assert found["two", "zero_shot_top1"].value == pytest.approx(100 * right)
    assert ("two", "zero_shot_loss") not in found
    instruments = {row.instrument for row in found.values()}
    assert len(instruments) == 1 and PROMPTS.digests["templates"] in str(instruments)


def test_prompts_of_other_words_have_another_hash(tmp_path: Path) -> None:
    classes, templates = tmp_path / "c.txt", tmp_path / "t.txt"
    classes.write_text("# animals\ncat\n\ndog\n")
    templates.write_text("a photo of a {}.\n{}\n")
    prompts = read_prompts(str(classes), str(templates), 2)
    assert prompts.of_class(1) == ["a photo of a dog.", "dog"]
    assert replace(prompts, templates=["{} or {}"]).of_class(0) == ["cat or cat"]
    templates.write_text("\ufeff# as Windows writes it\na photo of a {}.\n{}\n", "utf-8")
    assert read_prompts(str(classes), str(templates), 2) == prompts
    templates.write_text("a photo of the {}.\n{}\n")
    other = read_prompts(str(classes), str(templates), 2)
    assert prompts.digests["classes"] == other.digests["classes"]
    assert prompts.digests["templates"] != other.digests["templates"]
    for number, text, error, said in (
        (3, "{}", ConfigError, "names 2 classes, and the data has 3"),
        (2, "a photo", ConfigError, "has no {} for the name"),
        (2, "# nothing", ConfigError, "is empty"),
    ):
        templates.write_text(text)
        with pytest.raises(error, match=said):
            read_prompts(str(classes), str(templates), number)
    templates.write_text("{}")
    classes.write_text("cardigan\nCardigan\n")  # one of two alike is what argmax never takes
    with pytest.raises(ConfigError, match="the classes 0 and 1 are both called 'Cardigan'"):
        read_prompts(str(classes), str(templates), 2)
    with pytest.raises(UserError, match="or one of .*glyph_scripts"):
        read_prompts(str(tmp_path / "none.txt"), "glyph_templates", 2)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda p: p.stem)
def test_every_prompt_file_is_well_formed(path: Path) -> None:
    lines = [x for x in path.read_text().splitlines() if x and not x.startswith("#")]
    assert len(set(lines)) == len(lines) and all(line == line.strip() for line in lines)
    assert path.read_text().startswith("# ")
    if "templates" in path.stem:
        assert all(line.count("{}") == 1 for line in lines)
