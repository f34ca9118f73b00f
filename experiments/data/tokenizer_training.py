"""Makes tokenizers from text, offline; the same text gives the same bytes on every run.

SentencePiece keeps that promise only with one thread, and only where it writes to memory: a file's
own path would stand in the file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from experiments.config import ConfigError, UserError
from experiments.packages import need

MAX_SENTENCE = 4_192
"""Characters of a line that SentencePiece learns from."""


def train_sentencepiece(
    texts: Iterable[str], vocab_size: int, *, exact: bool = True, symbols: Sequence[str] = ()
) -> bytes:
    """A unigram model with the ids of T5: padding 0, end 1, unknown 2.

    Args:
        texts: To learn from.
        vocab_size: Pieces.
        exact: Whether any text comes back as it was (spaces, ends of lines, rare characters as
            bytes), as language models need it; else it is normalised, as T5 does.
        symbols: Pieces that are taken whole, e.g. [MASK].

    Raises:
        UserError: where the text is too little for so many pieces.
    """
    need("sentencepiece", "a SentencePiece model")
    import sentencepiece

    settings: dict[str, Any] = {"user_defined_symbols": list(symbols)}
    if exact:
        settings = {
            "user_defined_symbols": ["\n", *symbols],
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "byte_fallback": True,
        }
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts),
            model_writer=model,
            vocab_size=vocab_size,
            num_threads=1,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            max_sentence_length=4 * MAX_SENTENCE,
            minloglevel=2,
            **settings,
        )
    except (RuntimeError, OSError) as error:
        reason = _in_words(str(error))
        raise UserError(f"no tokenizer of {vocab_size} pieces from this text: {reason}") from error
    return model.getvalue()


def _in_words(said: str) -> str:
    """What SentencePiece said, without its places in C++ and its own options."""
    if most := re.search(r"set it to a value <= (\d+)", said):
        return f"its letters and words give {most[1]} at most, so take that or less"
    if least := re.search(r"smaller than required_chars. \d+ vs (\d+)", said):
        return f"its letters alone need {least[1]}, so take more"
    return said.strip().splitlines()[-1] if said.strip() else "no text"


def _lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for line in text.splitlines():
            for start in range(0, len(line), MAX_SENTENCE):
                yield line[start : start + MAX_SENTENCE]


def train_bpe(texts: Iterable[str], vocab_size: int, symbols: Sequence[str] = ()) -> bytes:
    """A byte-level BPE tokenizer.json, which gives any text back as it was.

    Args:
        texts: To learn from.
        vocab_size: Tokens: at least the 256 bytes and the symbols.
        symbols: Tokens that are taken whole; padding, end and mask are always among them.

    Raises:
        ConfigError: for fewer tokens than that.
    """
    need("tokenizers", "a tokenizer.json")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special = list(dict.fromkeys(["<pad>", "</s>", "[MASK]", *symbols]))
    if vocab_size < 256 + len(special):
        raise ConfigError(
            f"a vocabulary of {vocab_size} is less than bytes and symbols take: 256 "
            f"+ {len(special)}"
        )
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return (tokenizer.to_str(pretty=True) + "\n").encode()
