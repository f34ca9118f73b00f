"""Tiny text in every format that is read, and tokenizers for it."""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import cache
from pathlib import Path

DOCUMENTS = [
    "The first document.\nIt has two lines,  and two spaces.",
    "A second one: caf\u00e9, \u4f60\u597d.",
    "",
    "Third.\n\nIts last paragraph ends here.\n",
]
ARTICLE = (
    "\n_START_ARTICLE_\nA Title\n_START_SECTION_\nHistory\n_START_PARAGRAPH_\n"
    "One line._NEWLINE_Another line."
)


@cache
def bpe() -> bytes:
    """A byte-level BPE of 300 tokens."""
    from experiments.data.tokenizer_training import train_bpe

    return train_bpe(DOCUMENTS * 4, 300)


@cache
def sentencepiece(exact: bool = True) -> bytes:
    """A SentencePiece model of 300 or 60 pieces."""
    from experiments.data.tokenizer_training import train_sentencepiece

    size, symbols = (300, ["[MASK]"]) if exact else (60, [])
    return train_sentencepiece(DOCUMENTS * 4, size, exact=exact, symbols=symbols)


def save(content: bytes, folder: Path) -> dict[str, str]:
    """Writes a tokenizer; what a `data` section says of it."""
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest[:8]}.tokenizer"
    path.write_bytes(content)
    return {"tokenizer_file": str(path), "tokenizer_sha256": digest}


def write(folder: Path, split: str, suffix: str, documents: list[str] = DOCUMENTS) -> Path:
    """Documents as one file of a split; as one file each for `.txt`."""
    if suffix == ".txt":
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number, text in enumerate(documents):
            (folder / split / f"{number}.txt").write_text(text, encoding="utf-8", newline="")
        return folder / split / "0.txt"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"c4-{split}.00000-of-00001{suffix}"
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({"text": documents, "url": ["x"] * len(documents)})
        pyarrow.parquet.write_table(table, path, row_group_size=2)
        return path
    lines = "".join(json.dumps({"text": text, "url": "x"}) + "\n" for text in documents)
    content = lines.encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    return path
