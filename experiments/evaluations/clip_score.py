"""How well images fit their captions: the CLIP score, by a model on this machine.

    score = mean over samples k of cos(E_image(x_k), E_text(caption_k))

A fraction, as in the paper: not times 100 or 2.5, and not cut at 0. Nothing is ever downloaded.
Source: arXiv:2104.08718, section 3; arXiv:2205.11487, section 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.config import ConfigError
from experiments.data.transformers_folder import load_part, load_whole
from experiments.start_from import checksum

KEY = "task.judge.clip.path"
_READ = (".json", ".safetensors", ".txt", ".model")
"""Endings of the files that transformers reads; a folder may hold others."""


@dataclass
class Clip:
    """Two encoders of one space, and what prepares their inputs."""

    sha256: str  # of the folder, see `digest_of`
    model: Any
    tokenizer: Any
    processor: Any

    @property
    def facts(self) -> dict[str, Any]:
        """For the rows."""
        settings = self.processor.to_dict()
        shown = {k: _plain(settings.get(k)) for k in ("size", "crop_size", "resample")}
        return {"clip": "mean cosine", "clip_sha256": self.sha256, "resize": shown}

    @torch.no_grad()
    def cosines(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Of each image and its caption, (N,) float32 on the CPU.

        Args:
            images: uint8 (N, 3, H, W).
            captions: N; what exceeds the model's length is cut.
        """
        device = images.device
        length = self.model.config.text_config.max_position_embeddings
        told = self.tokenizer(
            list(captions), padding=True, truncation=True, max_length=length, return_tensors="pt"
        )
        pixels = self.processor(
            images=list(images), return_tensors="pt", input_data_format="channels_first"
        )["pixel_values"]
        self.model.to(device)
        # The paper's optimizers differ by 0.001, less than bfloat16 keeps apart.
        with torch.autocast(device.type, enabled=False):
            found = self.model(
                input_ids=told["input_ids"].to(device),
                attention_mask=told["attention_mask"].to(device),
                pixel_values=pixels.to(device),
            )
            return (found.image_embeds * found.text_embeds).sum(1).float().cpu()


def open_clip(path: str | None, sha256: str | None, num_channels: int = 3) -> Clip:
    """A CLIP model, its tokenizer and its image processor from one folder.

    Args:
        path: Of the folder, as transformers saves it.
        sha256: That it must have; the first call tells it.
        num_channels: Of the images to come.

    Raises:
        ConfigError: where it is not there, is another, or images are not in colour.
    """
    remedy = "or leave the score out: task.judge.clip=null"
    if path is None:
        raise ConfigError(
            f"{KEY} is not set: give a folder with a CLIP model, as transformers saves it "
            f"(config.json, model.safetensors, tokenizer, preprocessor_config.json); {remedy}"
        )
    where = Path(path).expanduser()
    if not (where / "config.json").is_file():
        raise ConfigError(f"{KEY}={path}: there is no config.json in it; {remedy}")
    if num_channels != 3:
        raise ConfigError(
            f"{KEY}: CLIP needs images of 3 channels, these have {num_channels}: choose other "
            f"data, {remedy}"
        )
    found = digest_of(where)
    if found != sha256:
        raise ConfigError(
            f"{KEY}={path}: its sha256 is {found}, not {sha256 or 'given'}: scores by another "
            f"model cannot be compared; set task.judge.clip.sha256={found} if it is the right one"
        )
    model = load_whole("CLIPModel", where, KEY, "CLIP model")
    tokenizer = load_part("AutoTokenizer", where, KEY)
    return Clip(found, model, tokenizer, load_part("CLIPImageProcessor", where, KEY))


def digest_of(folder: Path) -> str:
    """SHA-256 of the names and contents of the files that transformers reads; hex.

    A readme, or the same weights in another format beside them, change nothing.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _READ and path.is_file():
            digest.update(f"{path.name} {checksum(path)}\n".encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """What a processor says of its sizes, as JSON has it."""
    if value is None or isinstance(value, int | float | str):
        return value
    return {str(k): v for k, v in dict(value).items() if v is not None}
