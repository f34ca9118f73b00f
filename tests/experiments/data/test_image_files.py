"""Batches from files depend on the seed and the step, and on nothing else."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import forked
import numpy as np
import pytest
import torch

from experiments.config import ConfigError, UserError
from experiments.data.image_files import ImageFiles
from experiments.data.image_folders import FolderImages
from experiments.data.image_loading import (
    ImageBatches,
    UnreadableImage,
    _prepare_worker,
    _sigterm_blocked,
    load,
)
from experiments.data.image_transforms import train_transform
from experiments.data.locate import DataMissing
from experiments.data.order import BatchPlan
from experiments.settings.image import ImageTaskConfig

SETTINGS = ImageTaskConfig(randaug_layers=2, randaug_magnitude=15.0)
PLAN = BatchPlan(seed=3, num_examples=20, batch_size=8, micro_batch_size=4)


@pytest.fixture
def tree(tmp_path: Path, class_folders) -> Path:
    """20 training and 7 validation images in 3 classes."""
    train = {"ant": range(0, 70, 10), "bee": range(70, 140, 10), "cat": range(140, 200, 10)}
    class_folders(tmp_path / "train", train)
    class_folders(tmp_path / "val", {"ant": [5, 15, 25], "bee": [75, 85], "cat": [145, 155]})
    return tmp_path


def source(root: Path, **changes) -> ImageFiles:
    settings = {"num_workers": 0, "input_size": 16, **changes}
    return ImageFiles("toy", 3, 20, str(root), **settings)


def steps(data: ImageFiles, start: int, end: int, plan: BatchPlan = PLAN, settings=SETTINGS):
    return list(data.train_batches(plan, start, end, settings))


def same(left, right) -> bool:
    """Compares steps of micro-batches of images and labels."""
    flat_left = [tensor for step in left for batch in step for tensor in batch]
    flat_right = [tensor for step in right for batch in step for tensor in batch]
    pairs = zip(flat_left, flat_right, strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_folders_name_the_classes(tree):
    assert source(tree).class_names == ["ant", "bee", "cat"]
    assert source(tree, num_holdout=3, val_split="none").class_names == ["ant", "bee", "cat"]


def test_batches_have_the_shape_the_task_expects(tree):
    for step in steps(source(tree), 0, 2):
        assert len(step) == 2
        for images, labels in step:
            assert images.shape == (4, 3, 16, 16) and images.dtype == torch.uint8
            assert labels.shape == (4,) and labels.dtype == torch.int64


def test_labels_belong_to_their_images(tree):
    plain = ImageTaskConfig(crop_scale_min=1.0, horizontal_flip=0.0)
    for step in steps(source(tree), 0, 4, settings=plain):
        for images, labels in step:
            brightness = images[:, :, 8:, 8:].float().mean((1, 2, 3))
            assert (torch.bucketize(brightness, torch.tensor([65.0, 135.0])) == labels).all()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_number_of_workers_does_not_show(tree, num_workers):
    expected = steps(source(tree), 0, 5)
    assert same(steps(source(tree, num_workers=num_workers), 0, 5), expected)


def test_start_in_the_middle_gives_the_same_batches(tree):
    data = source(tree)
    assert same(steps(data, 3, 6), steps(data, 0, 6)[3:])


def test_ranks_together_take_what_one_process_takes_in_order(tree):
    data = source(tree)
    ranks = [steps(data, 0, 3, replace(PLAN, rank=rank, world_size=2)) for rank in range(2)]
    assert same([a + b for a, b in zip(*ranks, strict=True)], steps(data, 0, 3))


def test_augmentation_changes_with_epoch_and_seed(tree):
    batches = ImageBatches(
        FolderImages(tree / "train"), np.arange(20), np.zeros(20), train_transform(16, SETTINGS)
    )
    numbers = np.arange(20)
    batches.plan = PLAN
    first, again, later = batches[0, numbers], batches[0, numbers], batches[1, numbers]
    batches.plan = replace(PLAN, seed=4)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], later[0])
    assert not torch.equal(first[0], batches[0, numbers][0])


def test_the_runs_own_generators_are_left_alone(tree):
    for num_workers in (0, 1):
        data = source(tree, num_workers=num_workers)
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        expected = random.random(), np.random.rand(), torch.rand(1)
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        steps(data, 0, 1)
        list(data.eval_batches(["toy_val"], 4, 0, 1, SETTINGS))
        assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_loading_can_be_sent_to_any_kind_of_process(tree):
    images = FolderImages(tree / "train")
    batches = ImageBatches(
        images, np.arange(20), images.labels, train_transform(16, SETTINGS), PLAN
    )
    copy = pickle.loads(pickle.dumps(batches))
    assert torch.equal(copy[0, np.arange(4)][0], batches[0, np.arange(4)][0])


@pytest.mark.skipif(sys.platform != "linux", reason="Linux forks")
def test_loading_processes_begin_with_what_this_one_holds(tree):
    """As on every Python: 3.14 would import all anew in each, and send them copies."""
    images = FolderImages(tree / "train")
    images.held = lambda: None  # pyright: ignore[reportAttributeAccessIssue]  # cannot be sent
    batches = ImageBatches(
        images, np.arange(20), images.labels, train_transform(16, SETTINGS), PLAN
    )
    usual = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        (loaded,) = load(batches, [(0, np.arange(4))], 1)
    finally:
        multiprocessing.set_start_method(usual, force=True)
    assert torch.equal(loaded[0], batches[0, np.arange(4)][0])


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_sees_each_example_once(tree, world_size, num_workers):
    data = source(tree, num_workers=num_workers)
    seen = []
    for rank in range(world_size):
        for images, labels in data.eval_batches(["toy_val"], 2, rank, world_size, SETTINGS):
            assert images.dtype == torch.uint8 and images.shape[1:] == (3, 16, 16)
            centres = images[:, 0, 8, 8].tolist()
            seen += zip(centres, labels["toy_val"].tolist(), strict=True)
    assert len(seen) == 7
    values = sorted(round(value / 5) * 5 for value, _ in seen)
    assert values == [5, 15, 25, 75, 85, 145, 155]
    assert all(label == (value > 65) + (value > 135) for value, label in seen)


def test_holdout_is_disjoint_fixed_and_the_only_split_evaluated(tree):
    data = source(tree, num_holdout=6)
    assert data.num_train == 14 and data.eval_groups == [["minival"]]
    _, trained, held_out = data._train
    assert len(held_out) == 6 and sorted([*trained, *held_out]) == list(range(20))
    assert held_out.tolist() == [1, 8, 10, 17, 18, 19], "drawn from all, alike in every run"
    batches = list(data.eval_batches(["minival"], 4, 0, 1, SETTINGS))
    assert sum(len(labels["minival"]) for _, labels in batches) == 6
    plan = replace(PLAN, num_examples=14, batch_size=7, micro_batch_size=7)
    labels = [batch[1] for step in steps(data, 0, 2, plan) for batch in step]
    everything = FolderImages(tree / "train").labels
    assert sorted(torch.cat(labels).tolist()) == sorted(everything[trained].tolist())


def test_nothing_is_read_before_it_is_needed(tmp_path):
    data = ImageFiles("imagenet", 1000, 1281167, str(tmp_path / "nowhere"))
    assert data.num_train == 1281167 and data.eval_groups == [["imagenet_val"]]
    with pytest.raises(DataMissing, match=r"data\.root=.*nowhere does not exist"):
        next(data.train_batches(PLAN, 0, 1, SETTINGS))
    with pytest.raises(DataMissing, match=r"image-net\.org"):
        next(data.eval_batches(["imagenet_val"], 2, 0, 1, SETTINGS))


def test_wrong_counts_are_refused(tree):
    with pytest.raises(ConfigError, match=r"holds 20 training images.*set data\.num_train=20"):
        steps(ImageFiles("toy", 3, 21, str(tree), num_workers=0), 0, 1)
    with pytest.raises(ConfigError, match=r"holds 3 classes.*set data\.num_classes=3"):
        steps(ImageFiles("toy", 4, 20, str(tree), num_workers=0), 0, 1)


@pytest.mark.parametrize("damage, num_workers", [("cut", 0), ("text", 0), ("short", 2)])
def test_unreadable_image_ends_in_one_line_that_names_it(tree, num_workers, damage):
    victim = sorted((tree / "train" / "bee").iterdir())[2]
    content = victim.read_bytes()
    victim.write_bytes(
        {"cut": content[: len(content) // 2], "text": b"no image", "short": content[:2]}[damage]
    )
    with pytest.raises(UnreadableImage) as error:
        steps(source(tree, num_workers=num_workers), 0, 5)
    assert str(victim) in str(error.value) and "\n" not in str(error.value)


def no_room(*_):
    # As torch 2.14 has it in a container whose /dev/shm is full.
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_0>: No space")


def bus_error(*_):  # as its last page is touched there
    os.kill(os.getpid(), signal.SIGBUS)


def out_of_memory(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def other(*_):
    raise RuntimeError("something else")


@pytest.mark.parametrize(
    "what, error, remedy",
    [
        (no_room, UserError, "--shm-size"),
        (bus_error, UserError, "--shm-size"),
        (out_of_memory, UserError, "ran out of memory: set data.num_workers lower"),
        (other, RuntimeError, "something else"),
    ],
)
def test_loading_processes_that_are_lost_end_in_one_line(tree, what, error, remedy):
    images = FolderImages(tree / "train")
    batches = ImageBatches(images, np.arange(4), np.zeros(4, np.int64), what)
    with pytest.raises(error, match=remedy):
        list(load(batches, [(0, np.arange(4))], 1))


def test_wrong_settings_are_refused_early(tmp_path):
    def build(**changes):
        return ImageFiles("imagenet", 1000, 100, str(tmp_path), **changes)

    with pytest.raises(ConfigError, match="did you mean sketch"):
        build(eval_roots={"sketsh": "/x"})
    with pytest.raises(ConfigError, match="tfds"):
        build(reader="tfds/imagenet2012")
    with pytest.raises(ConfigError, match="num_holdout"):
        build(num_holdout=100)
    with pytest.raises(ConfigError, match="1000 classes"):
        ImageFiles("toy", 3, 10, str(tmp_path), real_labels=True)


def wait_as_worker(ready, library_thread: bool) -> None:
    if library_thread:  # as a library starts one anew after a fork
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    _prepare_worker(0)
    ready.set()
    threading.Event().wait()  # until it is told


def started_worker(*, library_thread: bool):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=wait_as_worker, args=(ready, library_thread), daemon=True)
    with _sigterm_blocked():
        worker.start()
    assert ready.wait(forked.NET_SECONDS)
    return worker


@pytest.mark.parametrize("library_thread", [False, True])
def test_workers_leave_stopping_to_the_main_process(library_thread):
    worker = started_worker(library_thread=library_thread)
    subprocess.run(["sh", "-c", f"kill -TERM {worker.pid}; kill -INT {worker.pid}"], check=True)
    worker.join(0.3)
    assert worker.is_alive()
    worker.terminate()
    assert forked.join(worker) == 0


def test_workers_end_when_told_where_the_sender_is_not_known(monkeypatch):
    """As on macOS: without this a worker that was busy could not be ended."""
    monkeypatch.delattr(signal, "sigwaitinfo")
    worker = started_worker(library_thread=False)
    worker.terminate()
    assert forked.join(worker) == -signal.SIGTERM
