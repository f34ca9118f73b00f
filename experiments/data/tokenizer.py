"""Text to numbers and back: a user's SentencePiece model or tokenizer.json, or single characters.

Nothing is fetched by name. A tokenizer file is known by the SHA-256 of its content, which is part
of which run this is; where the file lies is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from experiments.config import ConfigError, UserError
from experiments.packages import get
from experiments.pages import script

_NAMES = {
    "eos": ("</s>", "<|endoftext|>", "<eos>", "[SEP]", "<|end_of_text|>"),
    "mask": ("[MASK]", "<mask>"),
    "pad": ("<pad>", "[PAD]"),
    "start": ("[CLS]", "<s>", "<bos>"),
}
"""Under which names tokenizers have their special tokens; the first that is there is taken."""
UNKNOWN = " \u2047 "
"""What stands in a text for an id that the tokenizer does not have, as SentencePiece writes it."""


class Tokenizer(Protocol):
    """What the tasks need of a tokenizer."""

    sha256: str  # of what defines it
    vocab_size: int  # ids are below it
    eos_id: int | None  # ends a document
    mask_id: int | None
    pad_id: int | None
    start_id: int | None  # begins a text whose first place describes it

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of each text, (n,) int64, without any special token."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids; the special tokens above are left out.

        An id that it does not have, such as a sentinel of T5 beside a model of 32,000 pieces, is
        no word that may be passed over: the text has a mark there.
        """
        ...


class CharacterTokenizer:
    """One id for each character of an alphabet; then one for all others, and the mask.

    Args:
        alphabet: Characters; their order gives the ids.
    """

    def __init__(self, alphabet: Sequence[str]) -> None:
        self.eos_id: int | None = None
        self.pad_id: int | None = None
        self.start_id: int | None = None
        self.alphabet = "".join(alphabet)
        self.unknown_id = len(self.alphabet)
        self.mask_id: int | None = len(self.alphabet) + 1
        self.vocab_size = len(self.alphabet) + 2
        self.sha256 = hashlib.sha256(self.alphabet.encode()).hexdigest()
        codes = np.array([ord(c) for c in self.alphabet])
        self._ids = np.full(max(codes, default=0) + 2, self.unknown_id, np.int64)
        self._ids[codes] = np.arange(len(codes))

    def ids_of(self, text: str) -> np.ndarray:
        """Ids of a text, (n,) int64."""
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        return self._ids[np.minimum(codes, len(self._ids) - 1)]

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self.ids_of(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._shown(int(i)) for i in ids if i != self.mask_id)

    def _shown(self, number: int) -> str:
        return self.alphabet[number] if number < len(self.alphabet) else UNKNOWN.strip()


class WordTokenizer:
    """One id for each word of a list, in small letters; one for all others, none for spaces.

    Args:
        words: Their order gives the ids, behind padding 0, end 1 and unknown 2.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.pad_id: int | None = 0
        self.eos_id: int | None = 1
        self.unknown_id = 2
        self.mask_id: int | None = None
        self.start_id: int | None = None
        self.words = [word.lower() for word in words]
        self.vocab_size = len(self.words) + 3
        self.sha256 = hashlib.sha256("\n".join(self.words).encode()).hexdigest()
        self._ids = {word: number for number, word in enumerate(self.words, 3)}

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [
            np.array([self._ids.get(w, self.unknown_id) for w in text.lower().split()], np.int64)
            for text in texts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self._shown(int(i)) for i in ids if i not in (self.pad_id, self.eos_id))

    def _shown(self, number: int) -> str:
        is_word = 3 <= number < self.vocab_size
        return self.words[number - 3] if is_word else UNKNOWN.strip()


class SentencePieceTokenizer:
    """A SentencePiece model, as of T5 or of `scripts/train_tokenizer.py`.

    Args:
        content: Bytes of the model file.
        num_threads: That encode.
    """

    def __init__(self, content: bytes, num_threads: int = 1) -> None:
        import sentencepiece

        self.sha256 = hashlib.sha256(content).hexdigest()
        self._model: Any = sentencepiece.SentencePieceProcessor(model_proto=content)
        self._unknown = self._model.unk_id()
        self._num_threads = num_threads
        self.vocab_size = self._model.get_piece_size()
        known = {name: self._model.piece_to_id(name) for names in _NAMES.values() for name in names}
        named = _special({name: i for name, i in known.items() if i != self._unknown})
        self.eos_id = self._model.eos_id() if self._model.eos_id() >= 0 else named["eos"]
        self.pad_id = self._model.pad_id() if self._model.pad_id() >= 0 else named["pad"]
        self.mask_id, self.start_id = named["mask"], named["start"]

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = self._model.encode(list(texts), num_threads=self._num_threads)
        return [np.asarray(ids, np.int64) for ids in found]

    def decode(self, ids: Sequence[int]) -> str:
        return self._model.decode([int(i) if i < self.vocab_size else self._unknown for i in ids])


class JsonTokenizer:
    """A tokenizer.json of the package tokenizers.

    Args:
        content: Bytes of the file.
    """

    def __init__(self, content: bytes) -> None:
        import tokenizers

        self.sha256 = hashlib.sha256(content).hexdigest()
        self._tokenizer: Any = tokenizers.Tokenizer.from_str(content.decode())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values()) + 1
        named = _special(vocabulary)
        self.eos_id, self.mask_id, self.pad_id = named["eos"], named["mask"], named["pad"]
        self.start_id = named["start"]

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(one.ids, np.int64) for one in found]

    def decode(self, ids: Sequence[int]) -> str:
        own = {self.eos_id, self.mask_id, self.pad_id, self.start_id}
        parts: list[list[int]] = [[]]
        for number in map(int, ids):
            if number >= self.vocab_size:
                parts.append([])
            elif number not in own:
                parts[-1].append(number)
        said = (self._tokenizer.decode(part, skip_special_tokens=False) for part in parts)
        return UNKNOWN.join(said)


def _special(vocabulary: dict[str, int]) -> dict[str, int | None]:
    return {
        kind: next((vocabulary[name] for name in names if name in vocabulary), None)
        for kind, names in _NAMES.items()
    }


def open_tokenizer(file: str, sha256: str | None, num_threads: int = 1) -> Tokenizer:
    """The tokenizer of a file.

    Args:
        file: Path of a SentencePiece model or a tokenizer.json.
        sha256: Of its content.
        num_threads: That encode.

    Raises:
        ConfigError: where the content is not what the hash says, or no hash is given.
        UserError: where the file cannot be read as a tokenizer.
    """
    try:
        content = Path(file).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"data.tokenizer_file={file}: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if not sha256:
        raise ConfigError(
            f"data.tokenizer_sha256 is not set, and it is part of which run this is: {file} has "
            f"data.tokenizer_sha256={found}"
        )
    if found != sha256:
        raise ConfigError(
            f"data.tokenizer_file={file} is another tokenizer than the run's: its sha256 is "
            f"{found}, data.tokenizer_sha256 says {sha256}"
        )
    try:
        if content.lstrip()[:1] == b"{":
            return JsonTokenizer(content)
        return SentencePieceTokenizer(content, num_threads)
    except ImportError as error:
        raise UserError(f"{error}: {get('tokenizers', 'sentencepiece')}") from error
    except Exception as error:  # both packages raise plain exceptions of many kinds
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise UserError(
            f"data.tokenizer_file={file} is neither a SentencePiece model nor a tokenizer.json "
            f"({reason[0]})"
        ) from error


def check_fits(tokenizer: Tokenizer, vocab_size: int, needs: Sequence[str] = ()) -> None:
    """Refuses a tokenizer that does not go with a model.

    Args:
        tokenizer: Of the data.
        vocab_size: Rows of the model's embedding.
        needs: Of `eos`, `mask`, `pad`: special tokens that the task uses.

    Raises:
        ConfigError: names both sizes, or the missing token.
    """
    if tokenizer.vocab_size > vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens and the model {vocab_size:,} "
            "embeddings: choose the model's own tokenizer, or set the model's vocab_size"
        )
    for kind in needs:
        if getattr(tokenizer, f"{kind}_id") is None:
            names = " or ".join(_NAMES[kind])
            raise ConfigError(
                f"the tokenizer has no {kind} token ({names}): add it, e.g. with "
                f"{script('train_tokenizer')} --symbol '{_NAMES[kind][0]}'"
            )
