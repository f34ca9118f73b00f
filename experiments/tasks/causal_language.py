"""Next-token prediction on windows of text.

Source: arXiv:2302.06675, section 4.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiments.build import build
from experiments.data.order import BatchPlan
from experiments.data.token_windows import TokenWindows, ahead
from experiments.data.tokenizer import check_fits
from experiments.distributed import World
from experiments.evaluations.one_shot import measure_one_shot
from experiments.evaluations.perplexity import TokenTally
from experiments.headline import Headline, usual_splits
from experiments.models.looking_ahead import check_causal
from experiments.models.text_length import check_length
from experiments.models.tied_weights import under_all_names
from experiments.models.token_loss import (
    chunked_token_loss,
    defer_output,
    deferred,
    logits_of,
    mean_token_loss,
    token_losses,
)
from experiments.settings.causal_language import CausalLanguageConfig, one_shot
from experiments.tasks.task import Batch, Context, Evaluation, Loss, Measurement, Task

TARGET = 1
"""Tokens that a window reads into the next one: the target of its last."""


class CausalLanguage(Task):
    """Cross entropy of the next token; perplexity on every held-out split.

    Windows follow each other, and each token of a split is the target of one window (but the very
    first token of text that begins without a separator): a token sees what stands before it in its
    window, across the ends of documents.
    """

    loss_unit = "nats per token"

    def __init__(self, data: dict[str, Any], model: dict[str, Any], **settings: Any) -> None:
        self.settings = CausalLanguageConfig(**settings)
        self.one_shot = one_shot(self.settings.one_shot)
        self.source: TokenWindows = build(data, "data")
        self._model = model
        self.example = f"sequence of {self.source.length:,} tokens"
        self.headline = language_headline(self.source, self.settings.per_word)
        if self.settings.loss_chunk:
            self.why_not_stacked = "the logits are made in chunks (task.loss_chunk)"

    @property
    def data_name(self) -> str:
        return self.source.name

    @property
    def num_train(self) -> int:
        return self.source.num_windows("train", TARGET)

    def build_model(self) -> nn.Module:
        model = build(self._model, "model")
        check_fits(self.source.tokenizer, num_embeddings(model))
        check_length(model, self.source.length, "data.length")
        check_causal(model, self.source.tokenizer.vocab_size)
        return defer_output(model) if self.settings.loss_chunk else model

    def example_batch(self, size: int) -> Batch:
        shape = (size, self.source.length + TARGET)
        return (torch.empty(shape, dtype=torch.int64, device="meta"),)

    def batches(self, plan: BatchPlan, start: int, end: int) -> Iterator[list[Batch]]:
        def make(step: int) -> list[Batch]:
            numbers = plan.micro_batches(step)
            return [(self.source.read("train", chosen, TARGET),) for chosen in numbers]

        yield from ahead(make, range(start, end), self.source.num_workers)

    def loss(self, model: nn.Module, batch: Batch, world: World) -> Loss:
        inputs, targets = batch[0][:, :-1], batch[0][:, 1:]
        if self.settings.loss_chunk is None:
            return Loss(mean_token_loss(logits_of(model(inputs)), targets))
        with deferred(model) as head:
            hidden = logits_of(model(inputs))
        return Loss(chunked_token_loss(hidden, head, targets, self.settings.loss_chunk))

    def adapt(self, state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        return under_all_names(state, model)

    def evaluations(self) -> Sequence[Evaluation]:
        return [
            Evaluation("perplexity", self._measure),
            Evaluation("one_shot", self._measure_one_shot, when="asked"),
        ]

    def _measure_one_shot(self, model: nn.Module, context: Context) -> Iterator[Measurement]:
        yield from measure_one_shot(
            model, context, self.source.tokenizer, self.one_shot, self.source.length
        )

    def _measure(self, model: nn.Module, context: Context) -> Iterator[Measurement]:
        world = context.world
        for split in self.source.eval_splits:
            tally = TokenTally(world)
            is_whole = self.source.is_measured_whole(split, TARGET)
            for tokens in self._eval_tokens(split, is_whole, context):
                inputs, targets = tokens[:, :-1], tokens[:, 1:]
                losses = token_losses(logits_of(model(inputs)), targets)
                tally.add(losses, torch.ones_like(targets, dtype=torch.bool))
            words = self.source.streams[split].num_words if is_whole else None
            yield from tally.measurements(split, words)

    def _eval_tokens(self, split: str, is_whole: bool, context: Context) -> Iterator[Tensor]:
        """Windows of this process; where none is left out, the last, shorter one, too."""
        world = context.world
        batches = self.source.eval_batches(
            split, TARGET, context.batch_size, world.rank, world.size
        )
        for _, tokens in batches:
            yield tokens.to(world.device, non_blocking=True)
        rest = self.source.rest(split, TARGET) if is_whole and world.is_main else None
        if rest is not None:
            yield rest.to(world.device)


def language_headline(source: TokenWindows, per_word: bool = False) -> Headline:
    """Nats decide, fewer are better: tuned on "val", reported on "test" where there is one."""
    metric, unit = ("loss_per_word", "nats per word") if per_word else ("loss", "nats per token")
    tune, report = usual_splits(source.eval_splits)
    return Headline(metric, "lower", unit, tune=tune, report=report, digits=3)


def num_embeddings(model: nn.Module) -> int:
    """Rows of a model's token embedding, as it says itself; else of its largest embedding."""
    find = getattr(model, "get_input_embeddings", None)
    if find is not None:
        return find().num_embeddings
    return max(
        (m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)), default=0
    )
