"""Image-text contrastive training: CLIP, LiT (the image tower is locked), BASIC.

Which tower is locked says `param_groups.frozen`, e.g. [image.*]; where its weights come from says
`start_from`, e.g. start_from={source: vit.safetensors, into: image., leave_out: [text.*, ...]}.

Source: arXiv:2302.06675, section 4.2; arXiv:2111.07991 (LiT).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.build import build
from experiments.config import ConfigError
from experiments.data.captioned_sets import CaptionedSet, PairSource
from experiments.data.honours import refuse_ignored, refuse_last_groups
from experiments.data.locate import check_section
from experiments.data.normalising import normalised
from experiments.data.order import BatchPlan
from experiments.data.tokenizer import check_fits
from experiments.distributed import World
from experiments.evaluations.alike import captions_in_words, classes_in_words
from experiments.evaluations.prompts import read_prompts
from experiments.evaluations.retrieval import retrieve
from experiments.evaluations.zero_shot import zero_shot
from experiments.headline import Headline
from experiments.models.contrastive_loss import contrastive_loss
from experiments.models.position_embeddings import resized
from experiments.models.text_length import check_length
from experiments.settings.contrastive import (
    ContrastiveTaskConfig,
    JudgeConfig,
    RetrievalConfig,
    ZeroShotConfig,
    judge_of,
)
from experiments.tasks.frozen_features import FrozenFeatures
from experiments.tasks.task import Batch, Context, Evaluation, Loss, Measurement, Task


class Contrastive(Task):
    """Which text belongs to which image, among those of the whole global batch?

    The model is a `models.two_towers.TwoTowers`, or gives what it gives: called with images and
    tokens, embeddings whose products are logits; `encode_image`, `encode_text`, `embed_dim` and
    `scale` for evaluations.
    """

    example = "image-text pair"
    coupling = "global batch"

    def __init__(self, data: dict[str, Any], model: dict[str, Any], **settings: Any) -> None:
        judge = judge_of(settings.pop("judge", None) or {})
        self.settings = ContrastiveTaskConfig(**settings)
        self.judge: JudgeConfig = judge
        self.source: PairSource = build(data, "data")
        honours = getattr(self.source, "honours", None)
        refuse_ignored(
            self.settings, honours, self.source.name, own=("cache_features", "judge", *_PIXELS)
        )
        self._model = model
        is_loss = judge.metric.endswith("loss")
        self.headline = Headline(
            judge.metric,
            "lower" if is_loss else "higher",
            self.loss_unit if is_loss else "%",
            tune=judge.tune,
            report=judge.report,
            digits=3 if is_loss else 2,
        )
        self._opened: dict[str, Any] = {}  # further sets, by their sections
        self._looked_at: set[str] = set()  # sets whose texts were compared with each other
        self._check_sets()
        self._features: FrozenFeatures | None = None
        if self.settings.cache_features:
            self._features = FrozenFeatures(self.source, self.settings, self._prepared, self._model)
            self.why_not_stacked = "features are read from the disk (task.cache_features)"
            self.why_not_sharded = "one tower runs by itself (task.cache_features=true)"

    def _check_sets(self) -> None:
        """Now, and not at the first evaluation, hours later."""
        for asked in self.judge.retrieval.values():
            if _is_there(asked.data):
                _check_files(self._built(asked.data))
        for asked in self.judge.zero_shot.values():
            if _is_there(asked.data):
                source = self._built(asked.data)
                refuse_last_groups(source)
                _check_files(source)
                number = source.num_classes
                unread = None if asked.classes else [f"class {k}" for k in range(number)]
                read_prompts(asked.classes, asked.templates, number, unread)

    @property
    def data_name(self) -> str:
        return self.source.name

    @property
    def num_train(self) -> int:
        return self.source.num_train

    def build_model(self) -> nn.Module:
        model: Any = build(self._model, "model")
        text, tokenizer = getattr(model, "text", None), self.source.tokens.tokenizer
        if (size := getattr(text, "vocab_size", None)) is not None:
            check_fits(tokenizer, size, ("pad",))
        if text is not None:
            check_length(text, self.source.tokens.num_tokens, "data.num_tokens")
        if (pad := getattr(text, "pad_id", None)) not in (None, tokenizer.pad_id):
            raise ConfigError(
                f"model.text.pad_id={pad}: the tokenizer's padding is {tokenizer.pad_id}; set it so"
            )
        if getattr(text, "pooling", "") == "first" and tokenizer.start_id is None:
            raise ConfigError(
                "model.text.pooling=first: the tokenizer has no start token ([CLS] or <s>), so the "
                "first place is a word: set model.text.pooling=mean"
            )
        return model

    def adapt(self, state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        return resized(state, model)

    def example_batch(self, size: int) -> Batch:
        images, tokens = self.source.example_batch(size)
        if self._features is not None:
            images = torch.empty(size, dtype=torch.int64, device="meta")
        return images, tokens

    def batches(self, plan: BatchPlan, start: int, end: int) -> Iterator[list[Batch]]:
        if self._features is not None:
            self._features.begin_at(plan)
        with_images = self._features is None
        yield from self.source.train_batches(plan, start, end, self.settings, with_images)

    def encode(self, model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
        """Embeddings of images, times the scale of the logits, and of texts; float32."""
        images, tokens = batch
        if self._features is not None:
            return model(self._features.take(model, images), tokens)
        return model(self._prepared(images), tokens)

    def couple(self, model: nn.Module, encoded: tuple[Tensor, ...], world: World) -> Loss:
        images, texts = encoded
        return Loss(contrastive_loss(images, texts, world))

    def loss(self, model: nn.Module, batch: Batch, world: World) -> Loss:
        return self.couple(model, self.encode(model, batch), world)

    def _prepared(self, images: Tensor) -> Tensor:
        return normalised(images, self.settings.mean, self.settings.std)

    def evaluations(self) -> Sequence[Evaluation]:
        found = []
        if self.source.eval_sets:
            found.append(Evaluation("retrieval", self._retrieve_splits))
        for name, asked in self.judge.retrieval.items():
            if _is_there(asked.data):
                measure = partial(self._retrieve_in, name, asked)
                found.append(Evaluation(f"retrieval {name}", measure, asked.when))
        for name, asked in self.judge.zero_shot.items():
            if _is_there(asked.data):
                measure = partial(self._classify, asked)
                found.append(Evaluation(f"zero shot {name}", measure, asked.when))
        return found

    def _retrieve_splits(self, model: nn.Module, context: Context) -> Iterator[Measurement]:
        for split, captioned in self.source.eval_sets.items():
            yield from self._retrieve(model, captioned, split, context)

    def _retrieve_in(
        self, name: str, asked: RetrievalConfig, model: nn.Module, context: Context
    ) -> Iterator[Measurement]:
        yield from self._retrieve(model, self._built(asked.data), name, context)

    def _retrieve(
        self, model: nn.Module, captioned: CaptionedSet, split: str, context: Context
    ) -> Iterator[Measurement]:
        def images(batches: Sequence[np.ndarray]) -> Iterator[Tensor]:
            for shown in captioned.images(batches, self.settings):
                yield self._prepared(shown.to(context.world.device))

        if context.world.is_main and split not in self._looked_at:
            self._looked_at.add(split)
            said = captioned.captions, captioned.image_of
            _say(captions_in_words(split, *said, self.source.tokens))
        tokens = partial(self._tokens, context.world)
        yield from retrieve(model, captioned, split, context, tokens, images)

    def _classify(
        self, asked: ZeroShotConfig, model: nn.Module, context: Context
    ) -> Iterator[Measurement]:
        source, world = self._built(asked.data), context.world
        own_names = getattr(source, "class_names", None)
        prompts = read_prompts(asked.classes, asked.templates, source.num_classes, own_names)
        if world.is_main and repr(asked) not in self._looked_at:
            self._looked_at.add(repr(asked))
            _say(classes_in_words(prompts, self.source.tokens))
        for group in source.eval_groups:
            batches = (
                (self._prepared(images.to(world.device)), labels)
                for images, labels in source.eval_batches(
                    group, context.batch_size, world.rank, world.size, self.settings
                )
            )
            visible = {split: source.visible_classes(split) for split in group}
            tokens = partial(self._tokens, world)
            yield from zero_shot(model, prompts, context, tokens, batches, visible)

    def _built(self, section: dict[str, Any]) -> Any:
        """A further set; opened once."""
        key = repr(section)
        if key not in self._opened:
            check_section(section)
            self._opened[key] = build(section, "task.judge data")
        return self._opened[key]

    def _tokens(self, world: World, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(self.source.tokens(texts)).to(world.device)


_PIXELS = ("mean", "std")


def _check_files(source: Any) -> None:
    """A set that can tell whether its files are there does so now."""
    if (check := getattr(source, "check_files", None)) is not None:
        check()


def _say(notice: str) -> None:
    if notice:
        warnings.warn(notice, stacklevel=3)


def _is_there(section: dict[str, Any]) -> bool:
    """Whether a set is to be measured: one whose root is null is left out."""
    return section.get("root", "") is not None
