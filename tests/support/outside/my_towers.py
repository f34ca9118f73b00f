"""A task whose examples meet in the loss: which lower half belongs to which upper half?"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from experiments.build import build
from experiments.headline import Headline
from experiments.tasks.task import Evaluation, Loss, Measurement, Task


class Halves:
    """A data set: real digits, cut into an upper and a lower half, (N, 32) float32 each."""

    def __init__(self, num_train=384):
        pixels = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
        halves = pixels[:, :32], pixels[:, 32:]
        cuts = {"train": (0, num_train), "val": (1000, 1128), "test": (1200, 1328)}
        self.name = "halves of digits"
        self.splits = {s: tuple(h[a:b] for h in halves) for s, (a, b) in cuts.items()}


class Towers(nn.Module):
    """A model: both halves into one space. `spare` is never used; `dropout` draws numbers."""

    def __init__(self, width=24, dropout=0.1, spare=False):
        super().__init__()
        self.upper = nn.Sequential(nn.Linear(32, width), nn.GELU(), nn.Dropout(dropout))
        self.lower = nn.Sequential(nn.Linear(32, width), nn.GELU(), nn.Dropout(dropout))
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        self.spare = nn.Linear(2, 2) if spare else None

    def forward(self, upper, lower):
        upper = functional.normalize(self.upper(upper), dim=1) * self.log_scale.exp()
        return upper, functional.normalize(self.lower(lower), dim=1)


class MatchHalves(Task):
    """Contrastive over the global batch, at any number of processes and micro-batches."""

    headline = Headline("recall", better="higher", unit="%", digits=1)
    example = "pair of halves"
    coupling = "global batch"

    def __init__(self, data, model):
        self.source, self._model = build(data, "data"), model

    @property
    def data_name(self):
        return self.source.name

    @property
    def num_train(self):
        return len(self.source.splits["train"][0])

    def build_model(self):
        return build(self._model, "model")

    def example_batch(self, size):
        return tuple(torch.empty(size, 32, device="meta") for _ in range(2))

    def batches(self, plan, start, end):
        halves = self.source.splits["train"]
        for step in range(start, end):
            yield [tuple(h[i] for h in halves) for i in map(torch.tensor, plan.micro_batches(step))]

    def encode(self, model, batch):
        return model(*batch)

    def couple(self, model, encoded, world):
        """This process's rows against those of all; the mean over the processes is the loss."""
        upper, lower = encoded
        right = torch.arange(len(upper)) + world.rank * len(upper)
        down = functional.cross_entropy(upper @ world.gather(lower).T, right)
        up = functional.cross_entropy(lower @ world.gather(upper).T, right)
        return Loss((down + up) / 2)

    def loss(self, model, batch, world):
        return self.couple(model, self.encode(model, batch), world)

    def evaluations(self):
        return [Evaluation("matching", self._measure), Evaluation("train", self._fit, "asked")]

    def _measure(self, model, context, splits=("val", "test")):
        for split in splits:
            upper, lower = model(*self.source.splits[split])  # small: every process takes all
            right = (upper @ lower.T).argmax(1) == torch.arange(len(upper))
            value = 100 * float(right.double().mean())
            yield Measurement(split, "recall", value, "%", len(upper), "higher")

    def _fit(self, model, context):
        return self._measure(model, context, ["train"])
