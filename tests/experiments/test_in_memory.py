"""Images in memory: batches are a pure function of the position, and evaluation counts once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import tiny
import torch

from experiments.config import ConfigError
from experiments.data import in_memory
from experiments.data.in_memory import InMemoryImages
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

PLAN = BatchPlan(seed=5, num_examples=96, batch_size=16, micro_batch_size=4)
STILL = ImageTaskConfig(horizontal_flip=0.0)
MOVING = ImageTaskConfig(horizontal_flip=0.5, max_shift=2)


def batches(plan: BatchPlan, start: int, end: int, settings: ImageTaskConfig) -> list[torch.Tensor]:
    """Images of each step, the micro-batches joined."""
    found = tiny.images().train_batches(plan, start, end, settings)
    return [torch.cat([images for images, _ in step]) for step in found]


def test_a_batch_holds_the_examples_of_the_plan_with_their_labels() -> None:
    source = tiny.images()
    images, labels = source.splits["train"]
    for step, batch in enumerate(source.train_batches(PLAN, 4, 9, STILL), 4):
        for indices, (x, y) in zip(PLAN.micro_batches(step), batch, strict=True):
            assert torch.equal(x, images[torch.from_numpy(indices)])
            assert torch.equal(y, labels[torch.from_numpy(indices)])


@pytest.mark.parametrize("settings", [STILL, MOVING], ids=["still", "moving"])
def test_starting_anywhere_gives_the_same_batches(settings: ImageTaskConfig) -> None:
    whole = batches(PLAN, 0, 14, settings)
    for start in (1, 6, 13):
        for late, early in zip(batches(PLAN, start, 14, settings), whole[start:], strict=True):
            assert torch.equal(late, early)


@pytest.mark.parametrize("made_together", [1, 40, 64, 1000])
def test_how_many_are_made_together_changes_no_batch(
    made_together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = replace(MOVING, max_rotation=0.2, max_zoom=0.1)
    whole = batches(PLAN, 0, 14, moving)  # of two epochs and a piece, 6 steps each
    monkeypatch.setattr(in_memory, "MADE_TOGETHER", made_together)
    for start, end in ((0, 14), (4, 5), (5, 13), (6, 6)):
        found = batches(PLAN, start, end, moving)
        for one, other in zip(found, whole[start:end], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_what_is_made_together_does_not_depend_on_where_a_run_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kernels round by the size of a batch: else a resumed run would end with other bits."""
    monkeypatch.setattr(in_memory, "MADE_TOGETHER", 70)  # 4 of the 6 steps of an epoch
    whole = [range(0, 4), range(4, 6), range(6, 10), range(10, 12), range(12, 16)]
    for start in range(13):
        for end in range(start + 1, 14):
            wanted = [made for made in whole if made.stop > start and made.start < end]
            assert list(in_memory._made_together(PLAN, start, end)) == wanted


def test_augmentation_is_the_same_at_any_cut_of_the_batch() -> None:
    whole = batches(PLAN, 6, 8, MOVING)
    for micro in (1, 16):
        cut = batches(replace(PLAN, micro_batch_size=micro), 6, 8, MOVING)
        for one, other in zip(cut, whole, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_augmentation_draws_anew_each_epoch_and_for_each_seed() -> None:
    source = tiny.images()
    images, _ = source.splits["train"]
    flipping = ImageTaskConfig(horizontal_flip=0.5)

    def flipped(seed: int, epoch: int) -> tuple[bool, ...]:
        plan = replace(PLAN, seed=seed)
        seen = {}
        for step in range(6 * epoch, 6 * epoch + 6):
            (batch,) = source.train_batches(plan, step, step + 1, flipping)
            for indices, (x, _) in zip(plan.micro_batches(step), batch, strict=True):
                for index, image in zip(indices.tolist(), x, strict=True):
                    same = torch.equal(image, images[index])
                    assert same or torch.equal(image, images[index].flip(-1))
                    seen[index] = not same
        return tuple(seen[index] for index in range(96))

    draws = {flipped(seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
    assert len(draws) == 4
    assert all(25 < sum(draw) < 71 for draw in draws)


def test_flip_is_certain_at_one_and_off_at_zero() -> None:
    certain = ImageTaskConfig(horizontal_flip=1.0)
    (still,), (turned,) = batches(PLAN, 3, 4, STILL), batches(PLAN, 3, 4, certain)
    assert torch.equal(turned, still.flip(-1))


def test_a_shift_moves_the_images_and_leaves_the_source_alone() -> None:
    source = tiny.images()
    before = source.splits["train"][0].clone()
    settings = ImageTaskConfig(horizontal_flip=0.0, max_shift=1)
    (batch,) = source.train_batches(PLAN, 0, 1, settings)
    moved, (still,) = torch.cat([x for x, _ in batch]), batches(PLAN, 0, 1, STILL)
    assert moved.shape == still.shape and moved.dtype == torch.float32
    assert (moved != still).flatten(1).any(1).all()
    assert torch.equal(source.splits["train"][0], before)


def test_shifts_turns_and_zooms_by_hand() -> None:
    """One draw at a time at an end of its range, on exact pixels; 9 comes in from outside."""
    square, wide = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 6)
    most = {"max_shift": 2, "max_rotation": math.pi / 2, "max_zoom": 0.5}

    def moved(images: torch.Tensor, place: int, draw: float, **settings: float) -> torch.Tensor:
        draws = torch.full((1, 5), 0.5)  # nothing moves
        draws[0, place] = draw
        made = ImageTaskConfig(horizontal_flip=0.0, **settings)  # type: ignore[arg-type]
        return in_memory.augment(images, draws, made, 9.0)

    def expect(found: torch.Tensor, wanted: torch.Tensor) -> None:
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)

    expect(moved(wide, 0, 0.0, **most), wide)
    turned = ImageTaskConfig(horizontal_flip=0.4)
    for place in range(5):  # a flip has a draw of its own, which says nothing of the others
        draws = torch.full((1, 5), 0.5)
        draws[0, place] = 0.1
        expect(in_memory.augment(wide, draws, turned, 9.0), wide.flip(-1) if place == 0 else wide)
    right, up = (torch.full_like(wide, 9.0) for _ in range(2))
    right[..., :4], up[..., 2:, :] = wide[..., 2:], wide[..., :2, :]
    expect(moved(wide, 3, 1.0, **most), right)
    expect(moved(wide, 4, 0.0, **most), up)
    expect(moved(square, 1, 1.0, **most), square.rot90(1, (2, 3)))
    large = torch.nn.functional.interpolate(square, scale_factor=2, mode="bilinear")
    expect(moved(square, 2, 0.0, **most), large[..., 2:6, 2:6])


@pytest.mark.parametrize("world", [1, 2, 3, 50])
def test_each_example_is_evaluated_once_over_all_processes(world: int) -> None:
    source = tiny.images()
    images, labels = source.splits["val"]
    seen, classes = [], []
    for rank in range(world):
        for x, y in source.eval_batches(["val"], 8, rank, world, STILL):
            assert set(y) == {"val"}
            assert 0 < len(x) == len(y["val"]) <= 8
            seen += [tuple(image.flatten().tolist()) for image in x]
            classes += y["val"].tolist()
    assert sorted(seen) == sorted(tuple(image.flatten().tolist()) for image in images)
    assert sorted(classes) == sorted(labels.tolist())


def test_only_the_other_splits_are_evaluated() -> None:
    source = tiny.images(num_train=20)
    assert source.num_train == 20
    assert source.eval_groups == [["val"], ["test"]]
    assert source.visible_classes("val") is None


IMAGES, LABELS = torch.zeros(5, 1, 2, 2), torch.tensor([0, 1, 2, 3, 0])


@pytest.mark.parametrize(
    ("split", "images", "labels", "line"),
    [
        ("val", IMAGES, LABELS + 1, "labels run from 1 to 4, but num_classes=4 allows 0 to 3"),
        ("train", IMAGES, LABELS - 1, "labels run from -1 to 2"),
        ("val", IMAGES, LABELS[:4], "labels must be int64, one per image"),
        ("val", IMAGES, LABELS.int(), "these are torch.int32"),
        ("val", IMAGES[:0], LABELS[:0], "one image or more"),
        ("val", IMAGES[0], LABELS, "images must be floats"),
        ("val", torch.zeros(5, 1, 3, 2), LABELS, "alike in all splits"),
        ("train", IMAGES.to(torch.uint8), LABELS, "images must be floats"),
    ],
)
def test_labels_and_images_that_do_not_fit_are_refused(split, images, labels, line) -> None:
    splits = {"train": (IMAGES, LABELS), "val": (IMAGES, LABELS), split: (images, labels)}
    with pytest.raises(ConfigError, match=line) as error:
        InMemoryImages("toy", splits, num_classes=4)
    assert "\n" not in str(error.value)


def test_a_set_without_a_training_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no split 'train', only val"):
        InMemoryImages("toy", {"val": (IMAGES, LABELS)}, num_classes=4)
