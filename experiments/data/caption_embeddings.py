"""Embeddings of captions by a frozen text encoder, computed once and kept in pieces.

The encoder is a folder on this machine (config.json, model.safetensors, tokenizer files) that
transformers can read. Captions are kept as long as they are, so a million by T5-XXL take about 160
GB at 20 tokens each, not 1 TB. A piece appears whole or not at all, and the processes of a job
begin at different ones: nothing needs to be agreed on, and one that is killed costs a piece.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from experiments.config import ConfigError, UserError
from experiments.data.transformers_folder import load_part, load_whole
from experiments.files import replacing
from experiments.start_from import checksum

PIECE = 1024
"""Captions in a piece."""
_AT_ONCE = 64  # captions per forward pass
_MANY = 10_000  # captions that are not embedded without a word
_FORMAT = 2


class Texts(Protocol):
    """Captions by number."""

    def __len__(self) -> int: ...

    def texts(self, numbers: Sequence[int] | np.ndarray) -> list[str]:
        """Some of them."""
        ...


@dataclass(frozen=True)
class Embeddings:
    """Of captions, in files that are mapped, not read."""

    folder: Path
    num_captions: int
    num_tokens: int  # L

    @property
    def num_pieces(self) -> int:
        return -(-self.num_captions // PIECE)

    @property
    def width(self) -> int:
        """D, of the encoder."""
        return self._piece(0)[0].shape[1]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each caption, (N,) int64."""
        return np.concatenate([np.load(self.path(k, "lengths")) for k in range(self.num_pieces)])

    def take(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Embeddings (n, L, D) float32 and mask (n, L) bool of some captions."""
        return torch.from_numpy(self[rows]).float(), self.mask(rows)

    def mask(self, rows: np.ndarray) -> Tensor:
        """Which places of the captions have a token, (n, L) bool."""
        return torch.from_numpy(np.arange(self.num_tokens) < self.lengths[rows][:, None])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings of some captions, zero beyond their end, (n, L, D) float16."""
        found = np.zeros((len(rows), self.num_tokens, self.width), np.float16)
        for k, row in enumerate(rows):
            values, starts = self._piece(int(row) // PIECE)
            first, last = starts[int(row) % PIECE : int(row) % PIECE + 2]
            found[k, : last - first] = values[first:last]
        return found

    def _piece(self, piece: int) -> tuple[np.ndarray, np.ndarray]:
        return _opened(str(self.path(piece, "values")), str(self.path(piece, "lengths")))

    def path(self, piece: int, what: str) -> Path:
        """Of a piece's values (tokens of all captions, D) float16, or their lengths."""
        return self.folder / f"{piece:06d}.{what}.npy"

    def missing(self) -> Iterator[int]:
        """Pieces that nobody has made yet, asked for one by one; each process begins elsewhere."""
        rank, size = (int(os.environ.get(*k)) for k in (("RANK", "0"), ("WORLD_SIZE", "1")))
        first = rank * self.num_pieces // size
        for number in range(self.num_pieces):
            piece = (first + number) % self.num_pieces
            if not self.path(piece, "values").exists():  # it is written last
                yield piece


@lru_cache(maxsize=4096)
def _opened(values: str, lengths: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of a piece, and where each caption's begin and end."""
    try:
        found = np.load(values, mmap_mode="r", allow_pickle=False)
        counts = np.load(lengths, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{values} cannot be read ({error}): remove it, it will be made anew"
        ) from error
    return found, np.concatenate([[0], np.cumsum(counts)])


def embed(
    captions: Texts,
    digest: str,
    encoder: str,
    num_tokens: int,
    cache_dir: str | None,
    sha256: str,
) -> Embeddings:
    """The last hidden states of an encoder, for each token of each caption.

    Args:
        captions: N of them.
        digest: That tells them from others.
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
    key = hashlib.sha256(f"{_FORMAT} {found} {num_tokens} {digest}\n".encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parent = Path(cache_dir).expanduser() if cache_dir else Path(base) / "lion-experiments"
    kept = Embeddings(parent / f"captions-{key}", len(captions), num_tokens)
    if any(True for _ in kept.missing()):
        _fill(kept, captions, where)
    return kept


def digest_of(captions: Sequence[str]) -> str:
    """Of all captions; hex."""
    digest = hashlib.sha256()
    for caption in captions:
        digest.update(caption.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()


def _fill(kept: Embeddings, captions: Texts, encoder: Path) -> None:
    if len(captions) > _MANY:
        note = f"embedding {len(captions):,} captions (once; it goes on where it was) ..."
        print(note, file=sys.stderr, flush=True)
    model = load_whole("T5EncoderModel", encoder, "data.encoder", "T5 encoder")
    tokenizer = load_part("AutoTokenizer", encoder, "data.encoder")
    tokenizer.padding_side = "right"  # a row of embeddings begins with the caption
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    for piece in kept.missing():
        numbers = np.arange(piece * PIECE, min((piece + 1) * PIECE, len(captions)))
        _put(kept, piece, _hidden(model, tokenizer, captions.texts(numbers), kept.num_tokens))


@torch.no_grad()
def _hidden(model: Any, tokenizer: Any, texts: list[str], num_tokens: int) -> list[np.ndarray]:
    """Of each text, (its tokens, D) float16."""
    found = []
    for first in range(0, len(texts), _AT_ONCE):
        told: Any = tokenizer(
            texts[first : first + _AT_ONCE],
            padding="longest",
            truncation=True,
            max_length=num_tokens,
            return_tensors="pt",
        ).to(model.device)
        mask = told["attention_mask"]
        with torch.autocast(model.device.type, enabled=False):
            hidden = model(input_ids=told["input_ids"], attention_mask=mask).last_hidden_state
        pairs = zip(hidden.half().cpu().numpy(), mask.sum(1).tolist(), strict=True)
        found += [values[:length] for values, length in pairs]
    return found


def _put(kept: Embeddings, piece: int, embedded: list[np.ndarray]) -> None:
    """Keeps a piece.

    Raises:
        UserError: where the disk does not take it.
    """
    lengths = np.array([len(values) for values in embedded], np.int64)
    try:
        kept.folder.mkdir(parents=True, exist_ok=True)
        for what, array in (("lengths", lengths), ("values", np.concatenate(embedded))):
            with replacing(kept.path(piece, what)) as draft, draft.open("wb") as file:
                np.save(file, array)
    except OSError as error:
        raise UserError(
            f"cannot keep embeddings in {kept.folder} ({error.strerror}): make room there, or set "
            "data.cache_dir"
        ) from error
