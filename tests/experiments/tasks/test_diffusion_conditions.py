"""What diffusion models are told of an image: class or caption, or nothing, and a small copy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.data.order import BatchPlan
from experiments.diffusion import sampler
from experiments.diffusion.draws import training_draws
from experiments.diffusion.losses import Objective
from experiments.diffusion.noise_schedule import NoiseSchedule
from experiments.distributed import World
from experiments.evaluations.evaluation import Context
from experiments.settings.diffusion import DiffusionTaskConfig, SamplingConfig
from experiments.settings.text_to_image import TextToImageTaskConfig
from experiments.tasks.diffusion import Diffusion
from experiments.tasks.text_to_image import TextToImage

CONTEXT = Context(World(0, 1, torch.device("cpu")), seed=3, batch_size=4, step=1)
STEPS, SIDE, NUMBERS = 51, 4, [5, 2, 11]
SCHEDULE = NoiseSchedule("cosine", STEPS)


def bare(kind: type[Diffusion], settings: Any, **source: Any) -> Any:
    """A task without files: only what these tests call."""
    task = object.__new__(kind)
    task.settings, task.source = settings, SimpleNamespace(**source)
    task.objective = Objective(SCHEDULE)
    task.__dict__["shape"] = (1, SIDE, SIDE)
    return task


def of_texts(**settings: Any) -> Any:
    texts = torch.arange(12.0)[:, None, None].expand(-1, 3, 2)
    pixels = torch.arange(12 * SIDE**2).reshape(12, 1, SIDE, SIDE).to(torch.uint8)

    def take(split: str, numbers: list[int], _: Any) -> tuple[Tensor, Tensor, Tensor]:
        assert split == "val"
        return pixels[numbers], texts[numbers], torch.ones(len(numbers), 3, dtype=torch.bool)

    task = bare(TextToImage, TextToImageTaskConfig(num_time_steps=STEPS, **settings), take=take)
    task._image_settings = None
    return task


def called(monkeypatch: pytest.MonkeyPatch, task: Any, guidance: float) -> Any:
    """What the sampler was called with; the model gives back what it is told."""
    seen: list[Any] = []
    monkeypatch.setattr(sampler, "sample", lambda *args: seen.extend(args))
    sampling = SamplingConfig(guidance=guidance)
    task._draw(sampling, lambda noisy, times, *told: told, CONTEXT, NUMBERS)
    told, untold, objective, asked, start, generators = seen
    assert objective is task.objective and asked is sampling
    ours = [CONTEXT.generator(number) for number in NUMBERS]
    expected = torch.stack([torch.randn(1, SIDE, SIDE, generator=g) for g in ours])
    assert torch.equal(start, expected), "a sample's noise is that of its number"
    assert len(generators) == len(NUMBERS)
    return told, untold, start


def test_a_sample_is_asked_for_its_class_and_held_against_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = bare(Diffusion, DiffusionTaskConfig(num_time_steps=STEPS), num_classes=10)
    told, untold, start = called(monkeypatch, task, 2.0)
    assert told(start, 0)[0].tolist() == [5, 2, 1] and untold(start, 0)[0].tolist() == [10] * 3
    assert called(monkeypatch, task, 1.0)[1] is None


def test_a_sample_is_asked_for_its_caption_and_held_against_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, untold, start = called(monkeypatch, of_texts(), 2.0)
    for ask, is_told in ((told, True), (untold, False)):
        text, mask = ask(start, 0)
        assert text[:, 0, 0].tolist() == NUMBERS and mask.all() == mask.any() == is_told


def test_a_small_copy_is_all_that_super_resolution_sees_of_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = of_texts(low_resolution=2, sampling_augmentation=0.1)
    told, untold, start = called(monkeypatch, task, 2.0)
    for ask in (told, untold):
        *_, copy, level = ask(start, 0)
        assert level.tolist() == [5] * 3  # a tenth of 50
    pixels = torch.arange(12 * SIDE**2).reshape(12, SIDE, SIDE)[NUMBERS].double() / 127.5 - 1
    ours = [CONTEXT.generator(number) for number in NUMBERS]
    noise = [torch.randn(2, 1, SIDE, SIDE, generator=g)[1, 0] for g in ours]  # the second draw
    signal = float((1 - SCHEDULE.betas).cumprod(0)[5].sqrt())
    shrink = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]).double()
    enlarge = torch.tensor([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]).double()
    both = enlarge @ shrink
    expected = signal * (both @ pixels @ both.T) + (1 - signal**2) ** 0.5 * torch.stack(noise)
    torch.testing.assert_close(copy[:, 0].double(), expected, rtol=1e-5, atol=1e-5)


def test_while_training_the_copy_has_any_noise_up_to_the_most() -> None:
    task = of_texts(low_resolution=2)
    generators = [torch.Generator().manual_seed(k) for k in range(300)]
    noise, levels = task._augmentation(generators, 0.5)
    assert noise.shape == (300, 1, SIDE, SIDE) and noise.std() == pytest.approx(1, abs=0.03)
    assert (int(levels.min()), int(levels.max())) == (0, 25)
    assert float(levels.float().mean()) == pytest.approx(12.5, abs=1)
    assert of_texts()._augmentation(generators, 0.5) == ()


def test_a_caption_is_left_out_where_the_draw_says_so() -> None:
    plan = BatchPlan(seed=1, num_examples=64, batch_size=32, micro_batch_size=16)
    images, text = torch.zeros(16, 1, SIDE, SIDE), torch.ones(16, 3, 2)
    mask = torch.tensor([True, True, False]).expand(16, -1)
    steps = [[(images, text, mask)] * 2]
    task = of_texts(condition_dropout=0.5)
    task.source.train_batches = lambda *_: iter(steps)
    (batch,) = task.batches(plan, 7, 8)
    for number, (_, noise, times, _, told) in enumerate(batch):
        draws = training_draws(plan, 7, number, (1, SIDE, SIDE), STEPS, 0.5)
        assert torch.equal(noise, draws.noise) and torch.equal(times, draws.times)
        assert 2 < int(draws.dropped.sum()) < 14
        assert torch.equal(told, mask & ~draws.dropped[:, None])


def test_an_evaluation_tells_each_image_its_own_caption_and_copy_in_any_process() -> None:
    """Of two processes, this one has the second, fourth and sixth image."""
    task, own = of_texts(low_resolution=2), [1, 3, 5]
    taken = task.source.take("val", own, None)
    batches = [tuple(x[:2] for x in taken), tuple(x[2:] for x in taken)]
    task.source.eval_batches = lambda *_: iter(batches)
    world: Any = SimpleNamespace(rank=1, size=2)
    found = list(task._told(Context(world, seed=3, batch_size=2, step=1)))
    texts, levels = (torch.cat([told[k] for _, told in found]) for k in (0, 3))
    assert texts[:, 0, 0].tolist() == own
    expected = []
    for number in own:
        generator = CONTEXT.generator(-1 - number)  # another than that of the noise to predict
        torch.randn(1, SIDE, SIDE, generator=generator)
        expected.append(round(50 * float(torch.rand((), generator=generator))))
    assert levels.tolist() == expected and len(set(expected)) == 3
    clean = torch.cat([image for image, _ in found])
    assert torch.equal(clean, taken[0].float() / 127.5 - 1)
