"""Text to text: an encoder reads an input, a decoder writes the answer, as T5.

Source: arXiv:2302.06675, section 4.4; arXiv:1910.10683.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiments.build import build
from experiments.data.glue_answers import LABELS
from experiments.data.order import BatchPlan
from experiments.data.text_pairs import Exam, TextPairs
from experiments.data.token_windows import ahead
from experiments.data.tokenizer import check_fits
from experiments.distributed import World
from experiments.evaluations import glue
from experiments.evaluations.perplexity import TokenTally
from experiments.headline import Headline
from experiments.models.tied_weights import under_all_names
from experiments.models.token_loss import (
    IGNORED,
    chunked_token_loss,
    defer_output,
    deferred,
    logits_of,
    mean_token_loss,
    token_losses,
)
from experiments.settings.text_to_text import TextToTextConfig
from experiments.tasks.causal_language import num_embeddings
from experiments.tasks.task import Batch, Context, Evaluation, Loss, Measurement, Task

AVERAGE = "average"


class TextToText(Task):
    """Cross entropy of the answer's tokens; what answers are worth is up to each exam.

    Micro-batches and processes weigh as many as the tokens of their answers.
    """

    loss_unit = "nats per token"
    example = "pair of texts"
    why_not_stacked = "its loss weighs micro-batches by their tokens"

    def __init__(self, data: dict[str, Any], model: dict[str, Any], **settings: Any) -> None:
        self.settings = TextToTextConfig(**settings)
        self.source: TextPairs = build(data, "data")
        self._model = model
        self.headline = _headline(self.source, self.settings.judge_by)

    @property
    def data_name(self) -> str:
        return self.source.name

    @property
    def num_train(self) -> int:
        return len(self.source.train)

    def build_model(self) -> nn.Module:
        model = build(self._model, "model")
        check_fits(self.source.tokenizer, num_embeddings(model), needs=["eos", "pad"])
        return defer_output(model) if self.settings.loss_chunk else model

    def example_batch(self, size: int) -> Batch:
        length, answer = self.source.max_input, self.source.max_answer
        return (
            torch.empty((size, length), dtype=torch.int64, device="meta"),
            torch.empty((size, length), dtype=torch.bool, device="meta"),
            torch.empty((size, answer), dtype=torch.int64, device="meta"),
        )

    def batches(self, plan: BatchPlan, start: int, end: int) -> Iterator[list[Batch]]:
        def make(step: int) -> list[Batch]:
            numbers = plan.micro_batches(step)
            return [self.source.batch(self.source.train, chosen.tolist()) for chosen in numbers]

        yield from ahead(make, range(start, end), self.source.num_workers)

    def loss(self, model: nn.Module, batch: Batch, world: World) -> Loss:
        answers, chunk = batch[2], self.settings.loss_chunk
        weight = (answers != IGNORED).sum()
        if chunk is None:
            return Loss(mean_token_loss(self._logits(model, batch), answers), weight)
        with deferred(model) as head:
            hidden = self._logits(model, batch)
        return Loss(chunked_token_loss(hidden, head, answers, chunk), weight)

    def _logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """The decoder sees the answer one token late, behind the padding token, as T5."""
        inputs, is_real, answers = batch
        pad = self.source.tokenizer.pad_id or 0
        shown = answers.masked_fill(answers == IGNORED, pad).roll(1, 1)
        shown[:, 0] = pad
        output = model(input_ids=inputs, attention_mask=is_real, decoder_input_ids=shown)
        return logits_of(output)

    def adapt(self, state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        return under_all_names(state, model)

    def evaluations(self) -> Sequence[Evaluation]:
        return [Evaluation("answers", self._measure)]

    def _measure(self, model: nn.Module, context: Context) -> Iterator[Measurement]:
        scores: dict[str, list[float]] = {}
        counts: dict[str, int] = {}  # of examples, by which a step of the mean is told
        for exam in self.source.exams:
            for found in self._sit(exam, model, context):
                yield found
                if found.better == "higher":
                    scores.setdefault(exam.split, []).append(found.value)
            counts[exam.split] = counts.get(exam.split, 0) + len(exam.pairs) * exam.is_written
        if self.source.average:
            for split, values in scores.items():
                mean = sum(values) / len(values)
                yield Measurement(split, AVERAGE, mean, "%", counts[split], "higher")

    def _sit(self, exam: Exam, model: nn.Module, context: Context) -> Iterator[Measurement]:
        world, prefix = context.world, f"{exam.task}_" if exam.task else ""
        tally = TokenTally(world)
        numbers, written = [], []
        for start in range(world.rank, len(exam.pairs), world.size * context.batch_size):
            stop = start + world.size * context.batch_size
            chosen = range(start, min(stop, len(exam.pairs)), world.size)
            batch = tuple(t.to(world.device) for t in self.source.batch(exam.pairs, chosen))
            losses = token_losses(self._logits(model, batch), batch[2])
            tally.add(losses, batch[2] != IGNORED)
            numbers.append(torch.tensor(list(chosen), device=world.device))
            if exam.is_written:
                written.append(write(model, batch[0], batch[1], self.source, exam.max_answer))
        for found in tally.measurements(exam.split):
            if found.metric == "loss":
                yield Measurement(**{**vars(found), "metric": f"{prefix}loss"})
        if exam.is_written:
            width = exam.max_answer or self.source.max_answer
            given = _of_all(numbers, written, world, width)
            yield from self._graded(exam, given, prefix)

    def _graded(self, exam: Exam, given: Tensor, prefix: str) -> Iterator[Measurement]:
        decode, pairs = self.source.tokenizer.decode, exam.pairs
        end = self.source.tokenizer.eos_id
        answers = [decode(_until(row, end)) for row in given.tolist()]
        truth = [decode(_until(pairs.pair(n)[1].tolist(), end)) for n in range(len(pairs))]
        if exam.grading in LABELS:
            scores = glue.scores(exam.grading, truth, answers)
        else:
            scores = glue.accuracy(truth, answers)
        for metric, value in scores.items():
            better = None if metric == "valid" else "higher"
            yield Measurement(exam.split, f"{prefix}{metric}", value, "%", len(pairs), better)


@torch.no_grad()
def write(
    model: Any, inputs: Tensor, is_real: Tensor, source: TextPairs, longest: int | None = None
) -> Tensor:
    """What a model answers: at each place the likeliest token.

    Args:
        model: An encoder and decoder of transformers.
        inputs: (n, S) int64.
        is_real: (n, S) bool.
        source: Says what ends an answer.
        longest: Tokens that an answer may have; None: as the source says.

    Returns:
        (n, longest) int64, filled up with the padding token.
    """
    pad, end = source.tokenizer.pad_id or 0, source.tokenizer.eos_id
    encoded = model.get_encoder()(input_ids=inputs, attention_mask=is_real)
    longest = longest or source.max_answer
    written = torch.full((len(inputs), longest + 1), pad, device=inputs.device)
    is_over = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    for place in range(longest):  # answers are short: what is written is read again
        output = model(
            encoder_outputs=encoded,
            attention_mask=is_real,
            decoder_input_ids=written[:, : place + 1],
        )
        token = output.logits[:, -1].argmax(-1).masked_fill(is_over, pad)
        written[:, place + 1] = token
        is_over |= token == end
        if is_over.all():
            break
    return written[:, 1:]


def _of_all(numbers: list[Tensor], rows: list[Tensor], world: World, width: int) -> Tensor:
    """The rows of all processes in the order of their numbers."""
    mine = torch.cat(numbers) if numbers else torch.zeros(0, dtype=torch.int64)
    own = torch.cat(rows) if rows else torch.zeros((0, width), dtype=torch.int64)
    mine, own = mine.to(world.device), own.to(world.device)
    return world.gather(own)[world.gather(mine).argsort()]


def _until(row: list[int], end: int | None) -> list[int]:
    """What stands before the end token."""
    return row[: row.index(end)] if end in row else row


def _headline(source: TextPairs, metric: str) -> Headline:
    splits = [exam.split for exam in source.exams]
    report = "test" if "test" in splits else "val"
    if metric.endswith("loss"):
        return Headline(metric, "lower", "nats per token", report=report, digits=3)
    return Headline(metric, "higher", "%", report=report)
