"""Draws samples from a generative model and says how far they are from the training images.

Samples are drawn in chunks; what is drawn is kept, so that an evaluation that was killed goes on
where it was. A chunk's samples depend on their numbers alone, not on which process draws them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.evaluations.evaluation import Context, Measurement
from experiments.evaluations.extractors import Extractor, eight_bit
from experiments.evaluations.frechet import (
    Statistics,
    frechet_distance,
    halves,
    kernel_distance,
    statistics,
)
from experiments.evaluations.reference import in_order
from experiments.files import replacing, share

SPLIT = "samples"


@dataclass(frozen=True)
class TextMatch:
    """How samples are held against the texts that they were asked for."""

    facts: dict[str, Any]  # for the row: sampler, model
    cosines: Callable[[Tensor, list[int]], Tensor]  # uint8 images and their numbers to (N,)


@dataclass(frozen=True)
class Generation:
    """What is to be drawn, and by what it is judged."""

    name: str  # of the sampling, e.g. 5k_ddim50
    num_samples: int
    num_shown: int  # samples in the picture
    extractor: Extractor
    facts: dict[str, Any]  # for the rows: sampler, extractor, reference
    draw: Callable[[list[int]], Tensor]  # numbers of samples to images (N, C, H, W) in [-1, 1]
    asked: Callable[[list[int]], Tensor] | None = None  # numbers to the classes asked for, (N,)
    text: TextMatch | None = None

    @property
    def metric(self) -> str:
        """Name of the Fréchet distance, e.g. fid5k_ddim50."""
        return f"{self.extractor.prefix}{self.name}"


@dataclass
class _Drawn:
    """Samples of one chunk, or of all."""

    features: Tensor  # (N, D) float32
    right: Tensor  # (N,) float32: whether the class that was asked for is seen; NaN: not known
    cosines: Tensor  # (N,) float32: with the text that was asked for; NaN: there is none
    shown: Tensor  # (M, C, H, W) uint8: the first samples


def judge(
    model: nn.Module, generation: Generation, reference: Statistics, context: Context
) -> Iterator[Measurement]:
    """Draws, and measures.

    Yields:
        The Fréchet distance; that of half as many samples, which shows its bias; their
        extrapolation to infinitely many, 2 d(n) - d(n / 2); the unbiased kernel distance; where
        the extractor classifies, the share of samples of the class that was asked for; and, where
        texts were asked for, the CLIP score.
    """
    drawn = draw_all(model, generation, context)
    features = drawn.features.double()
    picture = _keep_picture(generation, drawn.shown, context)
    distance = frechet_distance(statistics(features), reference)
    half = halves(features, reference)
    kernel, error, counted = kernel_distance(features, reference.features)
    kind, number = generation.extractor.prefix, generation.num_samples
    rest = generation.metric.removeprefix(kind)
    found = Measurement(
        SPLIT,
        generation.metric,
        distance,
        "",
        number,
        "lower",
        instrument=json.dumps(generation.facts, sort_keys=True),
    )
    yield replace(found, picture=picture)
    yield replace(found, metric=f"{generation.metric}_half", value=half, n=number // 2)
    yield replace(found, metric=f"{generation.metric}_limit", value=2 * distance - half)
    kid = {"fid": "kid", "fd": "kd"}[kind]
    known = json.dumps({**generation.facts, **_kept_of(reference)}, sort_keys=True)
    yield replace(
        found, metric=f"{kid}{rest}", value=kernel, error=error, n=counted, instrument=known
    )
    if not drawn.right.isnan().any():
        share = float(drawn.right.mean())
        error = 100 * (share * (1 - share) / number) ** 0.5
        asked = replace(found, metric=f"agreement{rest}", value=100 * share, unit="%")
        yield replace(asked, better="higher", error=error)
    if generation.text is not None:
        cosines = drawn.cosines.double()
        yield Measurement(
            SPLIT,
            f"clip_score{rest}",
            float(cosines.mean()),
            "",
            number,
            "higher",
            float(cosines.std()) / number**0.5,
            instrument=json.dumps(generation.text.facts, sort_keys=True),
        )


def _kept_of(reference: Statistics) -> dict[str, str]:
    """What the kernel distance knows of the reference, where that is not all of it."""
    number = len(reference.features)
    return {"features": f"{number} spread"} if number < reference.num_images else {}


def draw_all(model: nn.Module, generation: Generation, context: Context) -> _Drawn:
    """All samples, in the order of their numbers, in every process."""
    world, folder = context.world, context.keep_in(generation.metric)
    key = _key(model, generation, context)
    numbers, parts = [], []
    size = context.batch_size
    for chunk in range(-(-generation.num_samples // size)):
        if chunk % world.size != world.rank:
            continue
        mine = list(range(chunk * size, min((chunk + 1) * size, generation.num_samples)))
        path = folder / f"chunk{chunk:06d}.safetensors" if folder else None
        drawn = _load(path, key) if path else None
        if drawn is None:
            drawn = _draw(generation, mine, world.device)
            if path:
                _save(path, drawn, key)
        numbers.append(torch.tensor(mine))
        parts.append(drawn)
    whole = _together(numbers, parts, generation, context)
    if folder and world.is_main:
        for path in folder.glob("chunk*.safetensors"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
    return whole


def _draw(generation: Generation, numbers: list[int], device: torch.device) -> _Drawn:
    drawn = generation.draw(numbers)
    is_broken = drawn.isnan().flatten(1).any(1)  # it would be black, and as near as black is
    images = eight_bit(drawn.nan_to_num())
    features, logits = generation.extractor.extract(images)
    features = features.masked_fill(is_broken[:, None], float("nan"))
    right = torch.full((len(numbers),), float("nan"))
    if logits is not None and generation.asked is not None:
        right = (logits.argmax(1).cpu() == generation.asked(numbers).cpu()).float()
        right = right * ~is_broken.cpu()
    cosines = torch.full((len(numbers),), float("nan"))
    if generation.text is not None:
        cosines = generation.text.cosines(images, numbers)
        cosines = cosines.masked_fill(is_broken.cpu(), float("nan"))
    shown = images[torch.tensor(numbers, device=device) < generation.num_shown]
    return _Drawn(features.float().cpu(), right, cosines, shown.cpu())


def _together(
    numbers: list[Tensor], parts: list[_Drawn], generation: Generation, context: Context
) -> _Drawn:
    """Rows of all processes; one that drew nothing takes part with none."""
    world = context.world
    order = torch.cat([*numbers, torch.zeros(0, dtype=torch.int64)])

    def gathered(rows: list[Tensor], places: Tensor, like: tuple[int, ...], kind: Any) -> Tensor:
        own = torch.cat([*rows, torch.zeros(0, *like, dtype=kind)])
        return in_order(own.to(world.device), places.to(world.device), world).cpu()

    num_features, shape = generation.facts["num_features"], tuple(generation.facts["shape"])
    return _Drawn(
        gathered([p.features for p in parts], order, (num_features,), torch.float32),
        gathered([p.right for p in parts], order, (), torch.float32),
        gathered([p.cosines for p in parts], order, (), torch.float32),
        gathered([p.shown for p in parts], order[order < generation.num_shown], shape, torch.uint8),
    )


def _key(model: nn.Module, generation: Generation, context: Context) -> str:
    """What drawn samples depend on: weights, seed, and how they are drawn and judged."""
    digest = hashlib.sha256(json.dumps(generation.facts, sort_keys=True).encode())
    digest.update(f"{context.seed} {context.batch_size} {generation.num_shown}".encode())
    if generation.text is not None:
        digest.update(json.dumps(generation.text.facts, sort_keys=True).encode())
    # A model in shards is whole for now. `state_dict` would cut it, and `numpy` keep its memory.
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(name.encode())
        whole = tensor.detach().to("cpu", copy=True).contiguous().flatten()
        digest.update(whole.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load(path: Path, key: str) -> _Drawn | None:
    """A chunk that was drawn before; None where there is none that fits."""
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return _Drawn(**{f.name: file.get_tensor(f.name) for f in fields(_Drawn)})
    except Exception:  # not there, or damaged: it is drawn again
        return None


def _save(path: Path, drawn: _Drawn, key: str) -> None:
    """What cannot be kept costs time only."""
    from safetensors.torch import save_file

    tensors = {k: v.contiguous() for k, v in vars(drawn).items()}
    with contextlib.suppress(Exception):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            save_file(tensors, draft, metadata={"key": key})
            share(draft)


def _keep_picture(generation: Generation, shown: Tensor, context: Context) -> str | None:
    """Writes the first samples side by side; its place below the run's folder."""
    folder = context.keep_in(generation.metric)
    if folder is None or context.folder is None or not len(shown) or not context.world.is_main:
        return None
    from PIL import Image
    from torchvision.utils import make_grid

    zoom = max(1, 32 // shown.shape[-1])
    large = shown.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    columns = 10 if len(shown) % 10 == 0 else max(1, round(len(shown) ** 0.5))
    grid = make_grid(large, nrow=columns, padding=2, pad_value=128)
    path = folder.with_suffix(".png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grid.permute(1, 2, 0).numpy()).save(path)
    except OSError:
        return None
    return str(path.relative_to(context.folder))
