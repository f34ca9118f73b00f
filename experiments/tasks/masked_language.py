"""Prediction of hidden tokens from both sides, as BERT is pre-trained.

Source: arXiv:2302.06675, section 4.4; arXiv:1810.04805 for the corruption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.build import build
from experiments.config import ConfigError
from experiments.data.order import BatchPlan
from experiments.data.token_windows import TokenWindows, ahead
from experiments.data.tokenizer import check_fits
from experiments.distributed import World
from experiments.evaluations.perplexity import TokenTally
from experiments.models.looking_ahead import say_if_causal
from experiments.models.text_length import check_length
from experiments.models.tied_weights import under_all_names
from experiments.models.token_loss import logits_of, token_losses
from experiments.settings.masked_language import MaskedLanguageConfig
from experiments.tasks.causal_language import language_headline, num_embeddings
from experiments.tasks.task import Batch, Context, Evaluation, Loss, Measurement, Task

SHOWN, PLACES, TARGETS = 0, 1, 2
"""What a batch holds: the corrupted windows (B, T); where tokens are predicted (B, n) and which
tokens stood there (B, n), int64."""


class MaskedLanguage(Task):
    """Cross entropy of hidden tokens; every window hides the same number of them.

    Special tokens, such as the ends of documents, are not hidden, as in BERT.

    While training, which tokens are hidden is drawn anew in each epoch from the run's seed and the
    window's number; in evaluations from the evaluation's seed and the window's number.
    """

    loss_unit = "nats per masked token"

    def __init__(self, data: dict[str, Any], model: dict[str, Any], **settings: Any) -> None:
        self.settings = MaskedLanguageConfig(**settings)
        self.source: TokenWindows = build(data, "data")
        self._model = model
        self.example = f"sequence of {self.source.length:,} tokens"
        self.headline = language_headline(self.source)
        self.num_masked = _num_masked(self.settings, self.source.length)

    @property
    def data_name(self) -> str:
        return self.source.name

    @property
    def num_train(self) -> int:
        return self.source.num_windows("train", 0)

    def build_model(self) -> nn.Module:
        model = build(self._model, "model")
        check_fits(self.source.tokenizer, num_embeddings(model), needs=["mask"])
        check_length(model, self.source.length, "data.length")
        say_if_causal(model, self.source.tokenizer.vocab_size)
        return model

    def example_batch(self, size: int) -> Batch:
        shapes = ((size, self.source.length), (size, self.num_masked), (size, self.num_masked))
        return tuple(torch.empty(shape, dtype=torch.int64, device="meta") for shape in shapes)

    def batches(self, plan: BatchPlan, start: int, end: int) -> Iterator[list[Batch]]:
        def make(step: int) -> list[Batch]:
            epoch = plan.epoch_of(step)
            return [self._train_batch(plan, epoch, chosen) for chosen in plan.micro_batches(step)]

        yield from ahead(make, range(start, end), self.source.num_workers)

    def _train_batch(self, plan: BatchPlan, epoch: int, numbers: np.ndarray) -> Batch:
        seeds = [plan.example_seed(epoch, int(number)) for number in numbers]
        return self._corrupted(self.source.read("train", numbers, 0), seeds, False)

    def _corrupted(self, tokens: Tensor, seeds: Sequence[int], all_masked: bool) -> Batch:
        """Hides tokens of each window by its own seed."""
        is_special = np.isin(tokens.numpy(), self._special_ids)
        draws = [self._draw(seed, row) for seed, row in zip(seeds, is_special, strict=True)]
        places, kinds, others = (
            torch.from_numpy(np.stack(part)) for part in zip(*draws, strict=True)
        )
        targets = tokens.gather(1, places)
        shown = torch.full_like(targets, self._mask_id)
        if not all_masked:
            kept, random = self.settings.kept_share, self.settings.random_share
            shown = torch.where(kinds < kept + random, others, shown)
            shown = torch.where(kinds < kept, targets, shown)
        return tokens.scatter(1, places, shown), places, targets

    def _draw(self, seed: int, is_special: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places to predict, numbers in [0, 1) that say what is shown, and random tokens.

        Places that `is_special` (T,) names are taken where there are too few others.
        """
        generator = np.random.RandomState(seed % 2**32)
        order = generator.permutation(len(is_special))
        places = order[is_special[order].argsort(kind="stable")][: self.num_masked]
        kinds = generator.rand(self.num_masked)
        others = generator.randint(0, self.source.tokenizer.vocab_size, self.num_masked)
        return places, kinds, others

    @property
    def _special_ids(self) -> list[int]:
        """Tokens that are no text: ends of documents and the like."""
        known = self.source.tokenizer
        ids = known.eos_id, known.mask_id, known.pad_id, known.start_id
        return [number for number in ids if number is not None]

    @property
    def _mask_id(self) -> int:
        mask_id = self.source.tokenizer.mask_id
        assert mask_id is not None, "check_fits refuses it"
        return mask_id

    def loss(self, model: nn.Module, batch: Batch, world: World) -> Loss:
        logits = _at(logits_of(model(batch[SHOWN])), batch[PLACES])
        return Loss(
            functional.cross_entropy(logits.float().flatten(0, 1), batch[TARGETS].flatten())
        )

    def adapt(self, state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        return under_all_names(state, model)

    def evaluations(self) -> Sequence[Evaluation]:
        return [Evaluation("perplexity", self._measure)]

    def _measure(self, model: nn.Module, context: Context) -> Iterator[Measurement]:
        world = context.world
        for split in self.source.eval_splits:
            tally = TokenTally(world)
            found = self.source.eval_batches(split, 0, context.batch_size, world.rank, world.size)
            for numbers, tokens in found:
                seeds = [context.generator(int(n)).initial_seed() for n in numbers]
                batch = self._corrupted(tokens, seeds, self.settings.eval_all_masked)
                shown, places, targets = (part.to(world.device) for part in batch)
                losses = token_losses(_at(logits_of(model(shown)), places), targets)
                tally.add(losses, torch.ones_like(targets, dtype=torch.bool))
            yield from tally.measurements(split)


def _at(logits: Tensor, places: Tensor) -> Tensor:
    """Rows of (B, T, V) at (B, n)."""
    return logits.gather(1, places[..., None].expand(-1, -1, logits.shape[-1]))


def _num_masked(settings: MaskedLanguageConfig, length: int) -> int:
    number = round(settings.masked_share * length)
    if not 1 <= number <= length:
        raise ConfigError(
            f"task.masked_share={settings.masked_share}: of {length} tokens {number} would be "
            f"predicted; it must lie between {1 / length:.3g} and 1"
        )
    if settings.kept_share < 0 or settings.random_share < 0:
        raise ConfigError("task.kept_share and task.random_share must be 0 or more")
    if settings.kept_share + settings.random_share > 1:
        raise ConfigError(
            f"task.kept_share={settings.kept_share} and task.random_share="
            f"{settings.random_share} are shares of the hidden tokens: their sum must be at most 1"
        )
    return number
