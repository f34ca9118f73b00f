"""Image classification: any timm model, on images in memory or in files.

Source: arXiv:2302.06675, section 4.1; RandAugment, Mixup and label smoothing are timm's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional

from experiments.build import build
from experiments.config import ConfigError
from experiments.data.honours import refuse_ignored
from experiments.data.normalising import normalised
from experiments.data.order import BatchPlan
from experiments.distributed import World
from experiments.evaluations.classification import classify
from experiments.headline import Headline, usual_splits
from experiments.models.class_loss import sigmoid_loss
from experiments.settings.image import ImageTaskConfig
from experiments.tasks.task import Batch, Context, Evaluation, Loss, Measurement, Task


class ImageSource(Protocol):
    """What image data must give. `InMemoryImages` and `ImageFiles` do.

    A source may have `last_groups`, too: splits like `eval_groups`, measured at the end alone.
    """

    name: str
    num_classes: int
    num_train: int
    eval_groups: list[list[str]]  # splits in a group have the same images: one pass for all

    def train_batches(
        self, plan: BatchPlan, start: int, end: int, settings: ImageTaskConfig
    ) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Per step, this process's micro-batches: images (N, C, H, W) and labels.

        Images are float32 and normalised, or uint8 as they lie in files. Labels are (N,) int64; or
        (N, K) int64, filled up with -1, where an image may have several.
        """
        ...

    def eval_batches(
        self,
        group: Sequence[str],
        batch_size: int,
        rank: int,
        world_size: int,
        settings: ImageTaskConfig,
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Each example of a group once over all processes: images, and labels of each split.

        Labels are as those of `train_batches`, or (N, num_classes) bool where several classes
        count as right.
        """
        ...

    def visible_classes(self, split: str) -> Tensor | None:
        """Classes that a split knows, int64; null: all. Others are not predicted there."""
        ...

    def example_batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Images and labels on the meta device, of the shapes and types of `train_batches`."""
        ...


class ImageClassification(Task):
    """Cross entropy, or a sigmoid per class; top-1 accuracy on every evaluation split."""

    example = "image"

    def __init__(self, data: dict[str, Any], model: dict[str, Any], **settings: Any) -> None:
        self.settings = ImageTaskConfig(**settings)
        self.source: ImageSource = build(data, "data")
        refuse_ignored(
            self.settings,
            getattr(self.source, "honours", None),
            self.source.name,
            own=("loss", "label_smoothing", "mixup_alpha", "cutmix_alpha"),
        )
        self._model = model
        self._mixup = _build_mixup(self.settings, self.source.num_classes)
        self._check_loss()
        if self._mixup is not None:
            self.why_not_stacked = "the loss draws random numbers (Mixup, CutMix)"
        self._last_groups: list[list[str]] = getattr(self.source, "last_groups", [])
        groups = [*self.source.eval_groups, *self._last_groups]
        splits = [split for group in groups for split in group]
        tune, report = usual_splits(splits)
        self.headline = Headline("top1", "higher", "%", tune=tune, report=report)

    @property
    def data_name(self) -> str:
        return self.source.name

    @property
    def num_train(self) -> int:
        return self.source.num_train

    def build_model(self) -> nn.Module:
        return build(self._model, "model")

    def adapt(self, state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        from experiments.models.position_embeddings import resized

        return resized(state, model)

    def example_batch(self, size: int) -> Batch:
        images, labels = self.source.example_batch(size)
        return images.to("meta"), labels.to("meta")

    def batches(self, plan: BatchPlan, start: int, end: int) -> Iterator[list[Batch]]:
        if self._mixup is not None and plan.micro_batch_size % 2:
            raise ConfigError(
                f"Mixup pairs the images of a micro-batch, so {plan.micro_batch_size} must be "
                f"even: set {_even(plan)}"
            )
        yield from self.source.train_batches(plan, start, end, self.settings)

    def loss(self, model: nn.Module, batch: Batch, world: World) -> Loss:
        images, labels = self._normalised(batch[0]), batch[1]
        smoothing = self.settings.label_smoothing
        if labels.dim() == 2 and (self._mixup is not None or self.settings.loss != "sigmoid"):
            raise ConfigError(
                "images of this data have several labels: set task.loss=sigmoid, without Mixup"
            )
        if self._mixup is not None:
            # It writes into the images; those of memory may be asked for their loss once more.
            own = images.clone() if images is batch[0] else images
            images, labels = self._mixup(own, labels)
            smoothing = 0.0  # it is in the labels
        scores = model(images)
        if scores.dim() != 2 or scores.shape[1] != self.source.num_classes:
            number = self.source.num_classes
            raise ConfigError(
                f"the model gives scores of shape {list(scores.shape)} for {len(images)} images of "
                f"{number} classes: set model.num_classes={number}"
            )
        if self.settings.loss == "sigmoid":
            return Loss(sigmoid_loss(scores, labels).mean())
        return Loss(functional.cross_entropy(scores, labels, label_smoothing=smoothing))

    def evaluations(self) -> Sequence[Evaluation]:
        found = [Evaluation("classification", self._measure)]
        if self._last_groups:
            found.append(
                Evaluation("test", partial(self._measure_groups, self._last_groups), "last")
            )
        return found

    def _measure(self, model: nn.Module, context: Context) -> Iterator[Measurement]:
        yield from self._measure_groups(self.source.eval_groups, model, context)

    def _measure_groups(
        self, groups: Sequence[Sequence[str]], model: nn.Module, context: Context
    ) -> Iterator[Measurement]:
        for group in groups:
            batches = self.source.eval_batches(
                group, context.batch_size, context.world.rank, context.world.size, self.settings
            )
            visible = {split: self.source.visible_classes(split) for split in group}
            yield from classify(
                lambda images: model(self._normalised(images)),
                batches,
                visible,
                context.world,
                sigmoid_loss if self.settings.loss == "sigmoid" else None,
            )

    def _check_loss(self) -> None:
        smoothing = self.settings.label_smoothing
        if self.settings.loss == "sigmoid" and smoothing and self._mixup is None:
            raise ConfigError(
                f"task.label_smoothing={smoothing} does nothing with task.loss=sigmoid: leave it "
                "at 0.0"
            )

    def _normalised(self, images: Tensor) -> Tensor:
        return normalised(images, self.settings.mean, self.settings.std)


def _even(plan: BatchPlan) -> str:
    """The settings nearest to a plan whose micro-batches are even."""
    share = plan.batch_size // plan.world_size
    if share % 2:
        pairs = 2 * plan.world_size
        nearest = max(pairs, plan.batch_size // pairs * pairs)
        return f"train.batch_size={nearest} and train.micro_batch_size=null"
    fits = [n for n in range(2, plan.micro_batch_size + 1, 2) if share % n == 0]
    return f"train.micro_batch_size={max(fits, default=2)}"


def _build_mixup(settings: ImageTaskConfig, num_classes: int) -> Any:
    """timm's Mixup, which draws from numpy's global generator; None where nothing is mixed."""
    if settings.mixup_alpha <= 0 and settings.cutmix_alpha <= 0:
        return None
    from timm.data.mixup import Mixup

    return Mixup(
        mixup_alpha=settings.mixup_alpha,
        cutmix_alpha=settings.cutmix_alpha,
        label_smoothing=settings.label_smoothing,
        num_classes=num_classes,
    )
