"""Copies to a GPU beside its computation: every batch whole, once, in order, and no host waits."""

from __future__ import annotations

import contextlib
import itertools
import signal
from types import SimpleNamespace

import forked
import pytest
import tiny
import torch
from fake_streams import FakeStreams, PromptStreams
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from experiments import parts as parts_module
from experiments import runner
from experiments.averaging import RunningAverage
from experiments.build import build
from experiments.data import normalising
from experiments.distributed import World
from experiments.parts import build_parts
from experiments.prefetching import NUM_SLOTS, CudaStreams, Prefetcher, prefetcher

ORDERS = ("copies", "computations")


def steps_of(numbers, sizes=None):
    """Steps of micro-batches (images, labels), each full of its own number."""
    count, sizes = itertools.count(1), sizes or itertools.repeat(3)
    return [
        [
            (torch.full((size, 1, 2, 2), float(n)), torch.full((size,), n))
            for n, size in zip(itertools.islice(count, number), sizes, strict=False)
        ]
        for number in numbers
    ]


def seen(streams: FakeStreams, steps) -> list[list[int]]:
    """What each computation finds in its batch when the device gets to it."""
    prefetch, found = Prefetcher(streams, channels_last=False), []

    def look(batch):
        found.append([int(v) for tensor in batch for v in tensor.unique()])

    for step in steps:
        for batch in prefetch(step):
            streams.compute(lambda b=batch: look(b))
            streams.compute(lambda b=batch: look(b))  # the backward pass
    streams.run()
    return found


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("numbers", [[1, 1, 1, 1, 1], [4, 4], [3, 3, 3], [2], [1, 0, 2]])
def test_each_computation_sees_its_own_batch_however_late_the_queues_run(order, numbers):
    expected = [[n, n] for n in range(1, sum(numbers) + 1) for _ in range(2)]
    assert seen(FakeStreams(order), steps_of(numbers)) == expected


@pytest.mark.parametrize("order, missing", [("copies", "free"), ("computations", "copied")])
def test_without_an_event_the_fake_device_shows_it(order, missing):
    heeds = [kind for kind in ("copied", "free") if kind != missing]
    expected = [[n, n] for n in range(1, 7) for _ in range(2)]
    assert seen(FakeStreams(order, heeds), steps_of([3, 3])) != expected


@pytest.mark.parametrize("order", ORDERS)
def test_batches_of_another_size_get_memory_of_their_own(order):
    sizes = iter([3, 3, 2, 3, 5, 5])
    streams = FakeStreams(order)
    assert seen(streams, steps_of([3, 3], sizes)) == [[n, n] for n in range(1, 7) for _ in (0, 1)]


def test_memory_is_that_of_two_batches_and_the_next_copy_is_queued_first():
    streams = FakeStreams("copies")
    prefetch = Prefetcher(streams, channels_last=True)
    for step in steps_of([3, 3, 3]):
        streams.run()
        for number, batch in enumerate(prefetch(step)):
            assert batch[0].is_contiguous(memory_format=torch.channels_last)
            queued = sum(callable(work) for work in streams.queues["copies"])
            assert queued == 3 * min(number + 2, 3)  # two copies and an event for each batch
    assert streams.num_allocations == 2 * NUM_SLOTS


@pytest.mark.parametrize("is_cuda", [False, True])
def test_a_batch_that_was_made_on_the_device_is_copied_when_it_is_there(monkeypatch, is_cuda):
    """And keeps its memory until then, which the stream that made it would use again."""
    done = []

    class Stream:
        def __getattr__(self, name):
            return lambda *given: done.append((name, *given))

    copying, computing = Stream(), Stream()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: copying)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    source = SimpleNamespace(is_cuda=is_cuda, is_pinned=lambda: not is_cuda)
    source.record_stream = lambda stream: done.append(("keep", stream))
    target = SimpleNamespace(copy_=lambda source, non_blocking: done.append(("copy", source)))
    CudaStreams(torch.device("cuda")).copy([target], [source], "free")
    expected = [("wait_event", "free"), ("copy", source), ("record_event",)]
    if is_cuda:
        expected[1:2] = [("wait_stream", computing), ("copy", source), ("keep", copying)]
    assert done == expected


def test_on_a_cpu_batches_stay_where_they_are():
    assert prefetcher(torch.device("cpu"), channels_last=True) is None


@pytest.fixture
def on_fake_gpu(monkeypatch):
    """Runs whose batches go through a prefetcher; counts what went through."""
    given = []

    class Counting(Prefetcher):
        def __call__(self, batches):
            for batch in super().__call__(batches):
                given.append(batch[1].tolist())
                yield batch

    def make(device, channels_last):
        return Counting(PromptStreams(), channels_last)

    monkeypatch.setattr(parts_module, "prefetcher", make)
    return given


def weights(config):
    assert runner.run(config).state == "finished"
    return forked.weights(config)["model"]


def test_a_run_over_the_ends_of_epochs_is_the_same(tmp_path, monkeypatch, on_fake_gpu):
    changes = {"train__batch_size": 20, "train__micro_batch_size": 5, "train__epochs": 2.0}
    through = weights(tiny.config(tmp_path / "a", **changes))
    assert [len(labels) for labels in on_fake_gpu] == [5] * 4 * 8  # 96 images: 4 steps an epoch
    monkeypatch.setattr(parts_module, "prefetcher", prefetcher)
    plain = weights(tiny.config(tmp_path / "b", **changes))
    assert all(torch.equal(tensor, plain[name]) for name, tensor in through.items())


def test_killed_and_called_again_it_ends_the_same(tmp_path, monkeypatch, on_fake_gpu):
    changes = {"train__epochs": 2.0, "checkpoint__every_steps": 2}
    killed = tiny.config(tmp_path / "a", **changes, task={"_target_": "tiny.Task"})
    whole = tiny.config(tmp_path / "b", **changes, task={"_target_": "tiny.Task"})
    assert forked.run_ranks(killed, 1, **{tiny.KILL_VARIABLE: "6"}) == [-signal.SIGKILL]
    assert forked.run_ranks(killed, 1) == [0]
    monkeypatch.setattr(parts_module, "prefetcher", prefetcher)
    assert forked.run_ranks(whole, 1) == [0]
    a, b = forked.weights(killed), forked.weights(whole)
    assert a["step"] == b["step"]
    assert all(torch.equal(tensor, b["model"][name]) for name, tensor in a["model"].items())


class Waits(TorchDispatchMode):
    """Notes what would make a host wait for a GPU: a number that Python reads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        reads = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "is_nonzero")
        if func.overloadpacket.__name__ in reads and not is_counter(args[0]):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def is_counter(tensor) -> bool:
    """The average's counter, and an optimizer's: on the host for a model on a GPU, too."""
    return tensor.dim() == 0 and tensor.dtype == torch.int64


def test_no_number_is_read_within_a_step(tmp_path):
    config = tiny.config(
        tmp_path, train__grad_clip_norm=1.0, train__ema_decay=0.9, train__micro_batch_size=4,
    )  # fmt: skip
    task = build(config.task, "task", data=config.data, model=config.model)
    parts = build_parts(config, task, World(0, 1, torch.device("cpu")))
    batches = iter(task.batches(parts.plan, 0, 3))
    runner._step(parts, 0, next(batches), 1.0)
    with Waits() as waits:
        parts.losses.add(runner._step(parts, 1, next(batches), 1.0))
    assert not waits.found
    with waits:
        parts.losses.latest()
    assert waits.found


def test_the_average_is_torchs_without_its_counter_on_the_device():
    update = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    model = tiny.Net()
    ours = RunningAverage(model, update)
    torchs = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    for step in range(4):
        for param in model.parameters():
            nn.init.normal_(param, std=step + 1.0)
        model(torch.randn(5, 1, 6, 8))  # moves the running statistics
        ours.update_parameters(model)
        torchs.update_parameters(model)
    for (name, one), other in zip(
        ours.state_dict().items(), torchs.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert list(ours.state_dict()) == list(torchs.state_dict())


def test_constants_go_to_a_gpu_once():
    """On a GPU of which torch only keeps account."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    made = []
    normalising._kept.cache_clear()
    with FakeTensorMode(), pytest.MonkeyPatch.context() as patch:
        tensor = torch.tensor
        patch.setattr(torch, "tensor", lambda *a, **k: made.append(a) or tensor(*a, **k))
        images = torch.empty(2, 3, 4, 4, dtype=torch.uint8, device="cuda")
        for _ in range(3):
            found = normalising.normalised(images, [0.5, 0.4, 0.3], [0.2, 0.2, 0.1])
    normalising._kept.cache_clear()
    assert len(made) == 2 and found.device.type == "cuda" and found.dtype == torch.float32


def test_normalised_pixels_are_as_ever():
    images = torch.arange(48, dtype=torch.uint8).view(1, 3, 4, 4)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.2, 0.1])
    expected = images.float().div(255.0).sub(mean[:, None, None]).div(std[:, None, None])
    assert torch.equal(normalising.normalised(images, mean.tolist(), std.tolist()), expected)
    floats = images.float()
    assert normalising.normalised(floats, [9.0] * 3, [9.0] * 3) is floats
