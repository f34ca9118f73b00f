"""Text-to-image diffusion with a frozen text encoder, and its super-resolution.

Source: arXiv:2205.11487 (Imagen); arXiv:2302.06675, section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.build import build
from experiments.config import ConfigError
from experiments.data.order import BatchPlan
from experiments.diffusion import sampler
from experiments.diffusion.draws import training_draws
from experiments.distributed import World
from experiments.evaluations.clip_score import Clip, open_clip
from experiments.evaluations.denoising import denoise
from experiments.evaluations.extractors import eight_bit
from experiments.evaluations.generation import TextMatch
from experiments.settings.diffusion import SamplingConfig
from experiments.settings.text_to_image import ClipConfig, TextJudgeConfig, TextToImageTaskConfig
from experiments.tasks.diffusion import Diffusion
from experiments.tasks.task import Batch, Context, Loss, Measurement


class TextToImage(Diffusion):
    """The error of the predicted noise given the caption; samples of the validation captions.

    Distances are to the validation images, whose captions are drawn.
    """

    example = "captioned image"
    settings: TextToImageTaskConfig
    judge: TextJudgeConfig
    reference_split = "val"
    asks_for_classes = False

    @staticmethod
    def _read_settings(settings: Mapping[str, Any]) -> Any:
        return TextToImageTaskConfig(**settings)

    @staticmethod
    def _read_judge(section: Mapping[str, Any]) -> Any:
        return TextJudgeConfig(**section)

    def __init__(self, data: dict[str, Any], model: dict[str, Any], **settings: Any) -> None:
        super().__init__(data, model, **settings)
        side, small = self.shape[-1], self.settings.low_resolution
        if small is not None and (small < 1 or side % small or small >= side):
            raise ConfigError(
                f"task.low_resolution={small}: must divide the {side} pixels of the images"
            )

    def build_model(self) -> nn.Module:
        return build(self._model, "model")

    def example_batch(self, size: int) -> Batch:
        images, *conditions = self.source.example_batch(size)
        noise = torch.empty(images.shape, device="meta")
        times = torch.empty(size, dtype=torch.int64, device="meta")
        extra = (noise, times) if self.settings.low_resolution else ()
        return images, noise, times, *conditions, *extra

    def batches(self, plan: BatchPlan, start: int, end: int) -> Iterator[list[Batch]]:
        steps = self.source.train_batches(plan, start, end, self._image_settings)
        for step, batch in enumerate(steps, start):
            made = []
            for number, (images, text, mask) in zip(plan.micro_numbers(), batch, strict=True):
                draws = training_draws(plan, step, number, self.shape, *self._drawn_with)
                mask = mask & ~draws.dropped[:, None]
                extra = self._augmentation(draws.generators, self.settings.max_augmentation)
                made.append((images, draws.noise, draws.times, text, mask, *extra))
            yield made

    def _augmentation(
        self, generators: list[torch.Generator], most: float, fixed: bool = False
    ) -> tuple[Tensor, ...]:
        """Noise on the small copy and its time step; nothing without super-resolution."""
        if self.settings.low_resolution is None:
            return ()
        noise = torch.stack([torch.randn(self.shape, generator=g) for g in generators])
        shares = torch.stack([torch.rand((), generator=g) for g in generators])
        shares = torch.ones_like(shares) if fixed else shares
        last = self.settings.num_time_steps - 1
        return noise, (shares * most * last).round().long()

    def loss(self, model: nn.Module, batch: Batch, world: World) -> Loss:
        images, noise, times, text, mask, *extra = batch
        clean = self._signed(images)
        noisy = self.objective.schedule.add_noise(clean, noise, times)
        output = model(noisy, times, text, mask, *self._small(clean, *extra))
        return Loss(self.objective.losses(output, clean, noisy, noise, times).mean())

    def _small(self, clean: Tensor, *extra: Tensor) -> tuple[Tensor, ...]:
        """What the model sees of the image: shrunk, enlarged again, noised; and how much."""
        if not extra:
            return ()
        noise, level = extra
        factor = clean.shape[-1] // int(self.settings.low_resolution or 1)
        shrunk = functional.avg_pool2d(clean, factor)
        large = functional.interpolate(shrunk, clean.shape[-2:], mode="bilinear")
        return self.objective.schedule.add_noise(large, noise, level), level

    def _denoise(self, model: nn.Module, context: Context) -> Iterator[Measurement]:
        yield from denoise(
            model, self._told(context), self.objective, self.judge.num_draws, "val", context
        )

    def _told(self, context: Context) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Validation images, and what the model is told of them."""
        world, number = context.world, 0
        found = self.source.eval_batches(
            "val", context.batch_size, world.rank, world.size, self._image_settings
        )
        for images, text, mask in found:
            places = [(number + k) * world.size + world.rank for k in range(len(images))]
            number += len(images)
            clean = self._signed(images)
            generators = [context.generator(-1 - place) for place in places]
            extra = self._augmentation(generators, self.settings.max_augmentation)
            yield clean, (text, mask, *self._small(clean, *extra))

    def _reference_images(self, context: Context) -> Iterator[Tensor]:
        world = context.world
        found = self.source.eval_batches(
            "val", context.batch_size, world.rank, world.size, self._image_settings
        )
        for images, _, _ in found:
            yield eight_bit(self._signed(images))

    @cached_property
    def clip(self) -> Clip | None:
        """By which samples are held against their captions; None: they are not."""
        section: Any = self.judge.clip
        if section is None:
            return None
        asked = section if isinstance(section, ClipConfig) else ClipConfig(**section)
        return open_clip(asked.path, asked.sha256, self.shape[0])

    def _open_judges(self) -> None:
        super()._open_judges()
        self.clip  # noqa: B018

    def _text_match(self, drawn_by: dict[str, Any]) -> TextMatch | None:
        clip = self.clip
        if clip is None:
            return None
        facts = {**drawn_by, **clip.facts, "captions": "val", "data": self._data_seen}

        def cosines(images: Tensor, numbers: list[int]) -> Tensor:
            return clip.cosines(images, self.source.captions("val", numbers))

        return TextMatch(facts, cosines)

    def _draw(
        self, sampling: SamplingConfig, model: nn.Module, context: Context, numbers: list[int]
    ) -> Tensor:
        device = context.world.device
        generators = [context.generator(number) for number in numbers]
        start = torch.stack([torch.randn(self.shape, generator=g) for g in generators])
        images, text, mask = self.source.take("val", numbers, self._image_settings)
        share = self.settings.sampling_augmentation
        small = self._small(
            self._signed(images), *self._augmentation(generators, share, fixed=True)
        )
        start, text, mask, *small = (x.to(device) for x in (start, text, mask, *small))

        def told(noisy: Tensor, times: Tensor) -> Tensor:
            return model(noisy, times, text, mask, *small)

        def untold(noisy: Tensor, times: Tensor) -> Tensor:
            return model(noisy, times, text, torch.zeros_like(mask), *small)

        return sampler.sample(told, untold, self.objective, sampling, start, generators)
