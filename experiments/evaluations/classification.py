"""Top-1 accuracy and cross entropy of a classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from experiments.distributed import World
from experiments.evaluations.evaluation import Measurement


def classify(
    predict: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Mapping[str, Tensor]]],
    visible: Mapping[str, Tensor | None],
    world: World,
    losses: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Iterator[Measurement]:
    """Measures one pass over images that several splits may label.

    Args:
        predict: Images to logits (N, num_classes).
        batches: This process's images, and by split their labels; see `score`.
        visible: By split: classes that may be predicted there, int64; None: all.
        world: The processes; their sums are brought together.
        losses: Logits and labels to the loss of each example, (N,) nats; None: cross entropy.

    Yields:
        top1 (%, standard error of a share) and loss (nats) of each split; the loss only where
        every class may be predicted.
    """
    device = world.device
    limits = {s: None if v is None else v.to(device) for s, v in visible.items()}
    sums = {s: torch.zeros(5, dtype=torch.float64, device=device) for s in visible}
    for images, labels in batches:
        logits = predict(images.to(device, non_blocking=True)).float()
        for split, truth in labels.items():
            truth = truth.to(device, non_blocking=True)
            sums[split] += score(logits, truth, limits[split], losses)
    for split, own in sums.items():
        correct, counted, loss, with_loss, squares = world.sum(own).tolist()
        if counted:
            share = correct / counted
            error = 100.0 * (share * (1 - share) / counted) ** 0.5
            value = 100.0 * correct / counted
            yield Measurement(split, "top1", value, "%", int(counted), "higher", error)
        if with_loss:
            mean = loss / with_loss
            spread = max(squares / with_loss - mean**2, 0.0)  # NaN stays NaN
            error = (spread / with_loss) ** 0.5
            yield Measurement(split, "loss", mean, "nats", int(with_loss), "lower", error)


def score(
    logits: Tensor,
    labels: Tensor,
    visible: Tensor | None,
    losses: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Counts right answers and sums the loss of a batch.

    Args:
        logits: (N, num_classes).
        labels: (N,) int64 class numbers; (N, num_classes) bool: every true class is right,
            and an example without any is not counted (ImageNet ReaL, ObjectNet); (N, K) int64,
            filled up with -1: each of them is right. Logits with a NaN are wrong.
        visible: Classes that may be predicted, int64; None: all.
        losses: Logits and labels to the loss of each example; None: cross entropy.

    Returns:
        (5,) float64: right answers, examples counted, summed cross entropy in nats, examples
        behind that sum (none for bool labels or a subset of classes), summed squares of it.
    """
    if visible is not None:
        hidden = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
        hidden[visible] = False
        predicted = logits.masked_fill(hidden, float("-inf")).argmax(1)
    else:
        predicted = logits.argmax(1)
    is_known = ~logits.isnan().any(1)  # else argmax says class 0, which would be right for some
    counted = with_loss = torch.tensor(len(labels))
    loss, squares = logits.new_zeros(()), logits.new_zeros(())
    if labels.dtype == torch.bool:
        counts = labels.any(1)
        right = labels.gather(1, predicted[:, None])[:, 0] & is_known
        counted, with_loss = counts.sum(), torch.tensor(0)
    else:
        truth = labels if labels.dim() == 2 else labels[:, None]
        right = (predicted[:, None] == truth).any(1) & is_known
        if visible is None:
            if losses is None:
                loss = functional.cross_entropy(logits, labels, reduction="sum")
                each = functional.cross_entropy(logits, labels, reduction="none")
            else:
                each = losses(logits, labels)
                loss = each.sum()
            squares = each.double().square().sum()
        else:
            with_loss = torch.tensor(0)
    numbers = (right.sum(), counted, loss, with_loss, squares)
    return torch.stack([x.to(logits.device, torch.float64) for x in numbers])
