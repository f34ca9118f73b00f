"""Diffusion models of images that predict the noise; conditional on the image's class.

Source: arXiv:2302.06675, section 4.3; arXiv:2102.09672 and 2105.05233 (the models it trains).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from experiments.build import build
from experiments.config import ConfigError
from experiments.data.honours import refuse_ignored, refuse_last_groups
from experiments.data.order import BatchPlan
from experiments.diffusion import sampler
from experiments.diffusion.draws import Draws, training_draws
from experiments.diffusion.losses import Objective
from experiments.diffusion.model_fit import check_fit, check_signed, knows_classes
from experiments.diffusion.noise_schedule import NoiseSchedule
from experiments.distributed import World
from experiments.evaluations.denoising import denoise
from experiments.evaluations.extractors import Extractor, eight_bit
from experiments.evaluations.frechet import Statistics
from experiments.evaluations.generation import Generation, TextMatch, judge
from experiments.evaluations.reference import measured, reference
from experiments.headline import Headline, usual_splits
from experiments.packages import need
from experiments.settings.diffusion import DiffusionTaskConfig, JudgeConfig, SamplingConfig
from experiments.settings.image import ImageTaskConfig
from experiments.tasks.task import Batch, Context, Evaluation, Loss, Measurement, Task


class Diffusion(Task):
    """The error of the predicted noise, and how far samples are from the training images.

    Takes the sources of images that classification takes; see `experiments.tasks.image`.
    """

    example = "image"
    loss_unit = "mse"
    reference_split = "train"
    """Whose images samples are compared with."""
    asks_for_classes = True
    """Whether a sample should be recognised as a class."""

    def __init__(self, data: dict[str, Any], model: dict[str, Any], **settings: Any) -> None:
        judge_section = settings.pop("judge", {})
        self.settings = self._read_settings(settings)
        self.judge = self._read_judge(judge_section or {})
        self.source: Any = build(data, "data")
        self._model, self._decoder = model, data.get("decoder")
        self._image_settings = ImageTaskConfig(
            horizontal_flip=self.settings.horizontal_flip,
            interpolation=self.settings.interpolation,
            eval_crop_fraction=1.0,
            train_crop="centre",
        )
        own = ("train_crop", "eval_crop_fraction")  # what lies in memory is cut already
        honours = getattr(self.source, "honours", None)
        refuse_ignored(self._image_settings, honours, self.source.name, own)
        refuse_last_groups(self.source)
        check_signed(self.source)
        self.objective = Objective(
            NoiseSchedule(self.settings.noise_schedule, self.settings.num_time_steps),
            self.settings.learned_variance,
            self.settings.bound_weight,
            self.settings.num_levels,
        )
        self._knows_classes = True  # until the model is built
        tune, report = usual_splits([group[0] for group in self.source.eval_groups])
        self.headline = Headline(
            "eps_loss", "lower", "mse", tune=tune, report=report, weights="ema", digits=4
        )
        self.samplings = self._read_samplings()

    @staticmethod
    def _read_settings(settings: Mapping[str, Any]) -> Any:
        return DiffusionTaskConfig(**settings)

    @staticmethod
    def _read_judge(section: Mapping[str, Any]) -> Any:
        return JudgeConfig(**section)

    @property
    def data_name(self) -> str:
        return self.source.name

    @property
    def num_train(self) -> int:
        return self.source.num_train

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of an image: (C, H, W)."""
        return tuple(self.source.example_batch(1)[0].shape[1:])

    def build_model(self) -> nn.Module:
        model = build(self._model, "model")
        if self.source.example_batch(1)[1].dim() > 1:
            raise ConfigError("data.more_labels: a model is told one class an image: leave it out")
        dropout = self.settings.condition_dropout
        check_fit(model, self.source.name, self.shape, self.source.num_classes, dropout)
        self._knows_classes = knows_classes(model)
        return model

    def example_batch(self, size: int) -> Batch:
        images, labels = (x.to("meta") for x in self.source.example_batch(size))
        noise = torch.empty(images.shape, device="meta")
        return images, noise, torch.empty(size, dtype=torch.int64, device="meta"), labels

    def batches(self, plan: BatchPlan, start: int, end: int) -> Iterator[list[Batch]]:
        steps = self.source.train_batches(plan, start, end, self._image_settings)
        for step, batch in enumerate(steps, start):
            made = []
            for number, (images, labels) in zip(plan.micro_numbers(), batch, strict=True):
                draws = training_draws(plan, step, number, self.shape, *self._drawn_with)
                made.append((images, draws.noise, draws.times, *self._conditions(labels, draws)))
            yield made

    @property
    def _drawn_with(self) -> tuple[int, float]:
        return self.settings.num_time_steps, self.settings.condition_dropout

    def _conditions(self, labels: Tensor, draws: Draws) -> tuple[Tensor, ...]:
        """What the model is told of a training image; "nothing" is one class more."""
        if not self.settings.condition_dropout:
            return (labels,)
        return (labels.masked_fill(draws.dropped, self.source.num_classes),)

    def loss(self, model: nn.Module, batch: Batch, world: World) -> Loss:
        images, noise, times, *conditions = batch
        clean = self._signed(images)
        noisy = self.objective.schedule.add_noise(clean, noise, times)
        output = model(noisy, times, *conditions)
        return Loss(self.objective.losses(output, clean, noisy, noise, times).mean())

    def evaluations(self) -> Sequence[Evaluation]:
        drawn = [
            Evaluation(self._metric(sampling), partial(self._judge, sampling), sampling.when)  # type: ignore[arg-type]
            for sampling in self.samplings
        ]
        return [Evaluation("denoising", self._denoise), *drawn]

    def _denoise(self, model: nn.Module, context: Context) -> Iterator[Measurement]:
        for group in self.source.eval_groups:
            batches = self._eval_batches(group, context)
            told = ((self._signed(images), (labels,)) for images, labels in batches)
            yield from denoise(model, told, self.objective, self.judge.num_draws, group[0], context)

    def _eval_batches(
        self, group: Sequence[str], context: Context
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images, and labels of the group's first split."""
        world = context.world
        found = self.source.eval_batches(
            group, context.batch_size, world.rank, world.size, self._image_settings
        )
        for images, labels in found:
            yield images, labels[group[0]]

    def _judge(
        self, sampling: SamplingConfig, model: nn.Module, context: Context
    ) -> Iterator[Measurement]:
        extractor = self.extractor
        extractor.model.to(context.world.device)
        known = self._reference(context)
        drawn_by = {
            "sampler": sampling.sampler,
            "steps": sampling.num_steps,
            "guidance": sampling.guidance,
            "threshold": sampling.threshold,
            "num_samples": sampling.num_samples,
            "shape": list(self.shape),
        }
        generation = Generation(
            name=sampler.name_of(sampling),
            num_samples=sampling.num_samples,
            num_shown=self.judge.num_shown,
            extractor=extractor,
            facts={
                **drawn_by,
                "num_features": len(known.mean),
                "reference": f"{known.num_images} images of {self.reference_split}",
                **self._judged_by,
            },
            draw=lambda numbers: self._draw(sampling, model, context, numbers),
            asked=self._labels if self._asks_for_known_classes() else None,
            text=self._text_match(drawn_by),
        )
        yield from judge(model, generation, known, context)

    def _asks_for_known_classes(self) -> bool:
        """Whether the model is told a class, and the extractor has as many of them."""
        is_told = self.asks_for_classes and self._knows_classes
        return is_told and self.extractor.num_classes == self.source.num_classes

    def _text_match(self, drawn_by: dict[str, Any]) -> TextMatch | None:
        """How samples are held against texts; None where there are none."""
        return None

    def _draw(
        self, sampling: SamplingConfig, model: nn.Module, context: Context, numbers: list[int]
    ) -> Tensor:
        device = context.world.device
        generators = [context.generator(number) for number in numbers]
        start = torch.stack([torch.randn(self.shape, generator=g) for g in generators]).to(device)
        labels = self._labels(numbers).to(device)
        nothing = torch.full_like(labels, self.source.num_classes)

        def told(what: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
            return lambda noisy, times: model(noisy, times, what)

        without = told(nothing) if sampling.guidance != 1.0 else None
        return sampler.sample(told(labels), without, self.objective, sampling, start, generators)

    def _labels(self, numbers: list[int]) -> Tensor:
        """The class that a sample is asked to be: each in turn."""
        return torch.tensor(numbers) % self.source.num_classes

    @cached_property
    def extractor(self) -> Extractor:
        """Of the features by which samples are judged."""
        found: Extractor = build(self.judge.extractor, "task.judge.extractor")
        found.check_fits(self.shape)
        return found

    @property
    def _judged_by(self) -> dict[str, Any]:
        return {
            "extractor": self.extractor.name,
            "sha256": self.extractor.sha256,
            "resize": self.extractor.resize,
            "data": self._data_seen,
            **self._resized_by,
        }

    @property
    def _resized_by(self) -> dict[str, Any]:
        """What made the images of their files, where it is not what it is by default."""
        found = {"interpolation": self.settings.interpolation, "decoder": self._decoder}
        usual = (DiffusionTaskConfig().interpolation, "pil", None)
        return {key: value for key, value in found.items() if value not in usual}

    @property
    def _data_seen(self) -> str:
        return f"{self.source.name} {getattr(self.source, 'fingerprint', '')}".strip()

    def _reference(self, context: Context) -> Statistics:
        images = partial(self._reference_images, context)
        if not getattr(self.source, "fingerprint", ""):  # other images might have the same name
            return measured(self.extractor, images(), context.world)
        facts = {**self._judged_by, "shape": self.shape, "split": self.reference_split}
        facts["computed_in"] = "float32"  # kept ones may be of when it was as the training's
        facts["features"] = "spread"  # or of when the first ones were kept
        return reference(facts, self.extractor, images, self.judge.cache_dir, context.world)

    def _reference_images(self, context: Context) -> Iterator[Tensor]:
        for found, _ in self._eval_batches([self.reference_split], context):
            yield eight_bit(self._signed(found))

    def _metric(self, sampling: SamplingConfig) -> str:
        """Name of an evaluation, without opening the extractor."""
        is_inception = str(self.judge.extractor.get("_target_", "")).endswith(".inception")
        return f"{'fid' if is_inception else 'fd'}{sampler.name_of(sampling)}"

    def _read_samplings(self) -> list[SamplingConfig]:
        sections: dict[str, Any] = dict(self.judge.sampling or {})
        found = [
            sampler.read(name, section, self.settings.num_time_steps)
            for name, section in sections.items()
            if section is not None
        ]
        for sampling in found:
            if sampling.guidance != 1.0 and not self.settings.condition_dropout:
                raise ConfigError(
                    f"task.judge.sampling: guidance={sampling.guidance} needs a model that was "
                    "also trained without conditions: set task.condition_dropout, e.g. 0.1"
                )
        if found and not self.judge.extractor:
            raise ConfigError("task.judge.extractor is not set: samples cannot be judged without")
        if any(sampling.when != "asked" for sampling in found):
            self._open_judges()
        return found

    def _open_judges(self) -> None:
        """So that what is missing is said before the training."""
        need("torchmetrics", "distances of samples (task.judge.sampling.quick=null draws none)")
        self.extractor  # noqa: B018

    def _signed(self, images: Tensor) -> Tensor:
        """Pixels in [-1, 1]; those in memory are already."""
        if images.dtype != torch.uint8:
            return images
        return images.float().div_(127.5).sub_(1.0)
