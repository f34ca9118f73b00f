"""Embeddings of captions by a frozen text encoder, computed once and kept.

The encoder is a folder on this machine (config.json, model.safetensors, tokenizer files) that
transformers can read; nothing is fetched, and only safetensors are read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.config import ConfigError
from experiments.start_from import checksum

_AT_ONCE = 64  # captions per forward pass


@dataclass(frozen=True)
class Embeddings:
    """Of captions, in a file that is mapped, not read."""

    values: np.ndarray  # (N, L, D) float16
    lengths: np.ndarray  # (N,) int64: tokens of each

    def take(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Embeddings (n, L, D) float32 and mask (n, L) bool of some captions."""
        places = np.arange(self.values.shape[1])
        mask = torch.from_numpy(places < self.lengths[rows][:, None])
        return torch.from_numpy(self.values[rows].astype(np.float32)), mask


def embed(
    captions: Sequence[str], encoder: str, num_tokens: int, cache_dir: str | None, sha256: str
) -> Embeddings:
    """The last hidden states of an encoder, zero beyond a caption's end.

    Args:
        captions: N of them.
        encoder: Folder of a T5 encoder and its tokenizer.
        num_tokens: L; longer captions are cut.
        cache_dir: Where to keep them; None: the user's cache folder.
        sha256: That the encoder must have, of all files of the folder.

    Raises:
        ConfigError: where there is no such encoder.
    """
    where = Path(encoder).expanduser()
    if not (where / "config.json").is_file():
        raise ConfigError(
            f"data.encoder={encoder}: no config.json there; give the folder of a T5 encoder and "
            "its tokenizer, as transformers saves them"
        )
    found = checksum(where)
    if found != sha256:
        raise ConfigError(
            f"data.encoder={encoder}: its sha256 is {found}, not {sha256 or 'given'}: another "
            f"encoder is another run; set data.encoder_sha256={found} if it is the right one"
        )
    digest = hashlib.sha256(f"{found} {num_tokens}\n".encode())
    for caption in captions:
        digest.update(json.dumps(caption).encode())
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache_dir).expanduser() if cache_dir else Path(base) / "lion-experiments"
    path = folder / f"captions-{digest.hexdigest()[:16]}.npy"
    lengths = path.with_suffix(".lengths.npy")
    if not lengths.exists():  # it is written last
        _write(captions, where, num_tokens, path, lengths)
    return Embeddings(np.load(path, mmap_mode="r"), np.load(lengths))


def _write(
    captions: Sequence[str], encoder: Path, num_tokens: int, path: Path, lengths: Path
) -> None:
    model, tokenizer = _load(encoder)
    path.parent.mkdir(parents=True, exist_ok=True)
    drafts = [p.with_name(f"{p.stem}.{os.getpid()}.tmp.npy") for p in (path, lengths)]
    shape = (len(captions), num_tokens, model.config.d_model)
    values = np.lib.format.open_memmap(drafts[0], "w+", np.float16, shape)
    counts = np.zeros(len(captions), np.int64)
    for first in range(0, len(captions), _AT_ONCE):
        some = list(captions[first : first + _AT_ONCE])
        told: Any = tokenizer(
            some,
            padding="max_length",
            truncation=True,
            max_length=num_tokens,
            return_tensors="pt",
        )
        mask = told["attention_mask"]
        with torch.no_grad():
            hidden = model(input_ids=told["input_ids"], attention_mask=mask).last_hidden_state
        values[first : first + len(some)] = (hidden * mask[..., None]).half().numpy()
        counts[first : first + len(some)] = mask.sum(1).numpy()
    values.flush()
    np.save(drafts[1], counts)
    drafts[0].replace(path)
    drafts[1].replace(lengths)


def _load(encoder: Path) -> tuple[Any, Any]:
    try:
        from transformers import AutoTokenizer, T5EncoderModel

        model = T5EncoderModel.from_pretrained(encoder, use_safetensors=True, local_files_only=True)
        return model.eval(), AutoTokenizer.from_pretrained(encoder, local_files_only=True)
    except ImportError as error:
        raise ConfigError(f"data.encoder needs transformers: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(f"data.encoder={encoder}: no T5 encoder ({reason})") from error
