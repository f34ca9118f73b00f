"""A contextual bandit: the class of an image is learnt from the reward of one guess at a time.

As in reinforcement learning, the gradient is an estimate from one sampled action, so it is noisy
however large the batch of images is; the labels say only whether an action was right. Source of the
estimate: REINFORCE, Williams (Machine Learning 8, 1992).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.data.order import BatchPlan, derive
from experiments.distributed import World
from experiments.settings.bandit import BanditTaskConfig
from experiments.tasks.image import ImageClassification
from experiments.tasks.task import Batch, Loss


class ContextualBandit(ImageClassification):
    """Actions are classes, drawn from the model's softmax; the reward is 1 for the right one.

    The loss of an example is -(r - baseline) log p(a): its gradient is an unbiased estimate of that
    of the negative expected reward. What is drawn is a function of the seed, the epoch and the
    example, and comes with the batch, so runs resume exactly and can be trained together.
    Evaluations are those of a classifier: the most likely action.

    Args:
        data: An image source; its labels are the right actions.
        model: Gives a score for each action.
        settings: See `BanditTaskConfig`.
    """

    def __init__(self, data: dict[str, Any], model: dict[str, Any], **settings: Any) -> None:
        super().__init__(data, model, horizontal_flip=0.0)
        self.baseline = BanditTaskConfig(**settings).baseline

    def example_batch(self, size: int) -> Batch:
        return *super().example_batch(size), torch.empty(size, device="meta")

    def batches(self, plan: BatchPlan, start: int, end: int) -> Iterator[list[Batch]]:
        """Images, right actions, and a number in [0, 1) for each that picks the action."""
        for step, micro_batches in zip(
            range(start, end), super().batches(plan, start, end), strict=True
        ):
            draws = _draws(plan.seed, plan.epoch_of(step), plan.num_examples)
            indices = plan.micro_batches(step)
            yield [
                (*batch, draws[torch.from_numpy(chosen)])
                for batch, chosen in zip(micro_batches, indices, strict=True)
            ]

    def loss(self, model: nn.Module, batch: Batch, world: World) -> Loss:
        images, right, draws = batch
        log_probs = functional.log_softmax(model(self._normalised(images)).float(), 1)
        actions = drawn(log_probs.detach(), draws)
        rewards = (actions == right).to(log_probs.dtype)
        taken = log_probs.gather(1, actions[:, None])[:, 0]
        return Loss(-((rewards - self.baseline) * taken).mean())


def drawn(log_probs: Tensor, draws: Tensor) -> Tensor:
    """The action that a number picks: that in whose part of [0, 1) it lies.

    Args:
        log_probs: (N, actions), normalised.
        draws: (N,) in [0, 1).

    Returns:
        (N,) int64.
    """
    above = log_probs.exp().cumsum(1) <= draws[:, None]
    return above.sum(1).clamp(max=log_probs.shape[1] - 1)


@lru_cache(maxsize=2)
def _draws(seed: int, epoch: int, num_examples: int) -> Tensor:
    """A number for each example of the training set."""
    generator = np.random.RandomState(derive(seed, "action", epoch) % 2**32)
    return torch.from_numpy(generator.rand(num_examples).astype(np.float32))
