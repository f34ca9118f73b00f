"""Zero-shot classification: a class is what its name says in some sentences.

Source: arXiv:2103.00020, section 3.1.4 (prompt ensembles).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from experiments.evaluations.classification import classify
from experiments.evaluations.evaluation import Context, Measurement
from experiments.evaluations.gathering import gathered, share_of
from experiments.evaluations.prompts import Prompts

NAMES = {"top1": "zero_shot_top1", "loss": "zero_shot_loss"}


def class_embeddings(
    model: Any, prompts: Prompts, context: Context, tokens: Callable[[Sequence[str]], Tensor]
) -> Tensor:
    """Of each class: unit vectors of its sentences, their mean, of unit length again.

    Args:
        model: With `encode_text` and `embed_dim`.
        prompts: Classes and templates.
        context: Of the evaluation.
        tokens: Texts to what `encode_text` takes.

    Returns:
        (number of classes, embed_dim) float32.
    """
    world, number = context.world, len(prompts.templates)
    at_a_time = max(1, context.batch_size // number)
    parts = []
    for classes in share_of(len(prompts.classes), at_a_time, world):
        sentences = [text for k in classes for text in prompts.of_class(int(k))]
        parts.append(
            model.encode_text(tokens(sentences)).float().unflatten(0, (-1, number)).mean(1)
        )
    mean = gathered(parts, len(prompts.classes), model.embed_dim, world)
    return functional.normalize(mean, dim=1)


def zero_shot(
    model: Any,
    prompts: Prompts,
    context: Context,
    tokens: Callable[[Sequence[str]], Tensor],
    batches: Iterable[tuple[Tensor, Mapping[str, Tensor]]],
    visible: Mapping[str, Tensor | None],
) -> Iterator[Measurement]:
    """Top-1 accuracy, and the cross entropy of the scaled cosines, of each split.

    Args:
        model: With `encode_image`, `encode_text`, `embed_dim` and `scale`.
        prompts: Classes and templates.
        context: Of the evaluation.
        tokens: Texts to what `encode_text` takes.
        batches: Images as `encode_image` takes them, and labels; see `classification.classify`.
        visible: By split: classes that may be predicted there; None: all.
    """
    classes = class_embeddings(model, prompts, context, tokens)

    def predict(images: Tensor) -> Tensor:
        found = model.encode_image(images).float() * model.scale.float()
        with torch.autocast(found.device.type, enabled=False):
            return found @ classes.T

    instrument = json.dumps(prompts.digests, sort_keys=True)
    for one in classify(predict, batches, visible, context.world):
        yield replace(one, metric=NAMES[one.metric], instrument=instrument)
