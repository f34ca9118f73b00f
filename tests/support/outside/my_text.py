"""A task of one's own: fill in masked characters. Every line masks another number of them."""

import pydoc_data.topics

import torch
from torch import nn
from torch.nn import functional

from experiments.headline import Headline
from experiments.tasks.task import Evaluation, Loss, Measurement, Task

IGNORED = -100


class Lines:
    """A data set: lines of characters as numbers, (N, length) int64, per split."""

    def __init__(self, topic, length=12):
        text = pydoc_data.topics.topics[topic]
        self.name = f"topic {topic}"
        self.characters = sorted(set(text))
        numbers = torch.tensor([self.characters.index(c) for c in text])
        lines = numbers[: len(numbers) // length * length].view(-1, length)
        self.splits = {"train": lines[0::4], "val": lines[1::4], "test": lines[2::4]}


class Blanks(nn.Module):
    """A model: every place sees the whole line."""

    def __init__(self, length=12, num_characters=128, width=24):
        super().__init__()
        self.embedding = nn.Embedding(num_characters + 1, width)
        self.mix = nn.Linear(length * width, length * width)
        self.head = nn.Linear(width, num_characters)

    def forward(self, lines_BT):
        x_BTD = self.embedding(lines_BT)
        mixed = functional.gelu(self.mix(x_BTD.flatten(1))).view_as(x_BTD)
        return self.head(x_BTD + mixed)


class FillIn(Task):
    """A task. Inheriting gives defaults: no coupling, loss in nats, nothing to adapt."""

    headline = Headline("loss", better="lower", unit="nats", digits=3)

    def __init__(self, data, model, num_characters=128, share=0.3):
        from experiments.build import build

        self.source, self._model = build(data, "data"), model
        self.mask, self.share = num_characters, share
        self.example = f"line of {self.source.splits['train'].shape[1]} characters"

    @property
    def data_name(self):
        return self.source.name

    @property
    def num_train(self):
        return len(self.source.splits["train"])

    def build_model(self):
        from experiments.build import build

        return build(self._model, "model")

    def example_batch(self, size):
        shape = (size, self.source.splits["train"].shape[1])
        return tuple(torch.empty(shape, dtype=torch.int64, device="meta") for _ in range(2))

    def _masked(self, line, generator):
        """The line with blanks, and what stood there; 1 to 2 * share of its characters."""
        most = max(1, round(2 * self.share * len(line)))
        number = int(torch.randint(1, most + 1, (), generator=generator))
        chosen = torch.randperm(len(line), generator=generator)[:number]
        blanks, truth = line.clone(), torch.full_like(line, IGNORED)
        blanks[chosen], truth[chosen] = self.mask, line[chosen]
        return blanks, truth

    def batches(self, plan, start, end):
        """Everything random is a function of the plan's seed and the example's position."""
        lines = self.source.splits["train"]
        for step in range(start, end):
            batch = []
            for indices in plan.micro_batches(step):
                pairs = []
                for index in indices:
                    seed = plan.example_seed(plan.epoch_of(step), int(index))
                    pairs.append(self._masked(lines[index], torch.Generator().manual_seed(seed)))
                batch.append(tuple(torch.stack(column) for column in zip(*pairs, strict=True)))
            yield batch

    def loss(self, model, batch, world):
        """Mean over the blanks; their number is what the micro-batch weighs."""
        blanks, truth = batch
        logits = model(blanks).transpose(1, 2)
        mean = functional.cross_entropy(logits, truth, ignore_index=IGNORED)
        return Loss(mean, weight=(truth != IGNORED).sum())

    def evaluations(self):
        return [Evaluation("fill in", self._measure)]

    def _measure(self, model, context):
        """Each example once over all processes; its blanks are the same at every evaluation."""
        world = context.world
        for split in ("val", "test"):
            lines = self.source.splits[split]
            sums = torch.zeros(3, dtype=torch.float64)
            mine = range(world.rank, len(lines), world.size)
            for first in range(0, len(mine), context.batch_size):
                numbers = mine[first : first + context.batch_size]
                pairs = [self._masked(lines[n], context.generator(n)) for n in numbers]
                blanks, truth = (torch.stack(column) for column in zip(*pairs, strict=True))
                logits = model(blanks).float().transpose(1, 2)
                kept = {"ignore_index": IGNORED, "reduction": "sum"}
                right = (logits.argmax(1) == truth).sum()
                counted = (truth != IGNORED).sum()
                loss = functional.cross_entropy(logits, truth, **kept)
                sums += torch.stack([loss, right, counted]).double()
            loss, right, counted = world.sum(sums).tolist()
            yield Measurement(split, "loss", loss / counted, "nats", int(counted), "lower")
            yield Measurement(
                split, "filled in", 100 * right / counted, "%", int(counted), "higher"
            )
