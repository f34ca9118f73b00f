"""Image classification: any timm model, on images in memory or in files.

Source: arXiv:2302.06675, section 4.1; RandAugment, Mixup and label smoothing are timm's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.build import build
from experiments.config import ConfigError
from experiments.data.order import BatchPlan
from experiments.distributed import World
from experiments.settings.image import ImageTaskConfig
from experiments.tasks.task import Batch, Measurement


class ImageSource(Protocol):
    """What image data must give. `InMemoryImages` and `ImageFiles` do."""

    name: str
    num_classes: int
    num_train: int
    eval_groups: list[list[str]]  # splits in a group have the same images: one pass for all

    def train_batches(
        self, plan: BatchPlan, start: int, end: int, settings: ImageTaskConfig
    ) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Per step, this process's micro-batches: images (N, C, H, W) and labels (N,) int64.

        Images are float32 and normalised, or uint8 as they lie in files.
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

        Labels are (N,) int64, or (N, num_classes) bool where several classes count as right.
        """
        ...

    def visible_classes(self, split: str) -> Tensor | None:
        """Classes that a split knows, int64; null: all. Others are not predicted there."""
        ...


class ImageClassification:
    """Cross entropy on class labels; top-1 accuracy on every evaluation split."""

    def __init__(self, data: dict[str, Any], model: dict[str, Any], **settings: Any) -> None:
        self.settings = ImageTaskConfig(**settings)
        self.source: ImageSource = build(data, "data")
        self._model = model
        self._mixup = _build_mixup(self.settings, self.source.num_classes)

    @property
    def data_name(self) -> str:
        return self.source.name

    @property
    def num_train(self) -> int:
        return self.source.num_train

    def build_model(self) -> nn.Module:
        return build(self._model, "model")

    def batches(self, plan: BatchPlan, start: int, end: int) -> Iterator[list[Batch]]:
        if self._mixup is not None and plan.micro_batch_size % 2:
            raise ConfigError(
                f"Mixup pairs the images of a micro-batch, so {plan.micro_batch_size} must be "
                f"even: set train.micro_batch_size={max(2, plan.micro_batch_size // 2 * 2)}"
            )
        yield from self.source.train_batches(plan, start, end, self.settings)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        images, labels = self._normalised(batch[0]), batch[1]
        if self._mixup is not None:
            images, labels = self._mixup(images, labels)
            return functional.cross_entropy(model(images), labels)
        smoothing = self.settings.label_smoothing
        return functional.cross_entropy(model(images), labels, label_smoothing=smoothing)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batch_size: int, world: World) -> Iterator[Measurement]:
        for group in self.source.eval_groups:
            sums = self._sum_scores(model, group, batch_size, world)
            for split in group:
                correct, counted, loss, with_loss = world.sum(sums[split]).tolist()
                if counted:
                    yield Measurement(split, "top1", 100.0 * correct / counted, "%", int(counted))
                if with_loss:
                    yield Measurement(split, "loss", loss / with_loss, "nats", int(with_loss))

    def _sum_scores(
        self, model: nn.Module, group: Sequence[str], batch_size: int, world: World
    ) -> dict[str, Tensor]:
        """This process's sums of `score` over its share of a group's images, per split."""
        visible = {split: self.source.visible_classes(split) for split in group}
        visible = {s: None if v is None else v.to(world.device) for s, v in visible.items()}
        sums = {s: torch.zeros(4, dtype=torch.float64, device=world.device) for s in group}
        batches = self.source.eval_batches(group, batch_size, world.rank, world.size, self.settings)
        for images, labels in batches:
            images = images.to(world.device, non_blocking=True)
            logits = model(self._normalised(images)).float()
            for split, truth in labels.items():
                truth = truth.to(world.device, non_blocking=True)
                sums[split] += score(logits, truth, visible[split])
        return sums

    def _normalised(self, images: Tensor) -> Tensor:
        """Pixels 0..255 of files become floats; images in memory are normalised already."""
        if images.dtype != torch.uint8:
            return images
        mean = images.new_tensor(self.settings.mean, dtype=torch.float32)[:, None, None]
        std = images.new_tensor(self.settings.std, dtype=torch.float32)[:, None, None]
        return images.float().div_(255.0).sub_(mean).div_(std)


def score(logits: Tensor, labels: Tensor, visible: Tensor | None) -> Tensor:
    """Counts right answers and sums the loss of a batch.

    Args:
        logits: (N, num_classes).
        labels: (N,) int64 class numbers, or (N, num_classes) bool: every true class is right,
            and an example without any is not counted (ImageNet ReaL, ObjectNet).
        visible: Classes that may be predicted, int64; None: all.

    Returns:
        (4,) float64: right answers, examples counted, summed cross entropy in nats, examples
        behind that sum (none for bool labels or a subset of classes).
    """
    if visible is not None:
        hidden = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
        hidden[visible] = False
        predicted = logits.masked_fill(hidden, float("-inf")).argmax(1)
    else:
        predicted = logits.argmax(1)
    counted = with_loss = torch.tensor(len(labels))
    loss = logits.new_zeros(())
    if labels.dtype == torch.bool:
        counts = labels.any(1)
        right = labels.gather(1, predicted[:, None])[:, 0] & counts
        counted, with_loss = counts.sum(), torch.tensor(0)
    else:
        right = predicted == labels
        if visible is None:
            loss = functional.cross_entropy(logits, labels, reduction="sum")
        else:
            with_loss = torch.tensor(0)
    numbers = (right.sum(), counted, loss, with_loss)
    return torch.stack([x.to(logits.device, torch.float64) for x in numbers])


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
