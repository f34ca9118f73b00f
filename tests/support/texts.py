"""Tiny text in every format that is read, and tokenizers for it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.text_pairs import ArrayPairs, Exam, TextPairs
from experiments.data.token_windows import ArrayStream, TokenWindows
from experiments.data.tokenizer import CharacterTokenizer
from experiments.tasks.causal_language import CausalLanguage
from experiments.tasks.masked_language import MaskedLanguage
from experiments.tasks.text_to_text import TextToText

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


class Killed:
    """Kills its process without warning in the n-th call of `loss`, if told so; for `tiny`."""

    calls = 0

    def loss(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.calls == int(os.environ.get("TINY_KILL_AT_CALL", "0")):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(*arguments)  # type: ignore[misc]


class Causal(Killed, CausalLanguage):
    """Next-token prediction."""


class Masked(Killed, MaskedLanguage):
    """Prediction of hidden tokens."""


class Answers(Killed, TextToText):
    """Text to text."""


def windows(length: int = 12, vocab: int = 23) -> TokenWindows:
    """Tokens with a pattern: each is the one before it plus 1, 2 or 3."""
    steps = np.random.RandomState(0).randint(1, 4, 3000)
    tokens = (np.cumsum(steps) % (vocab - 2)).astype(np.uint16)
    parts = {"train": tokens[:2200], "val": tokens[2200:2600], "test": tokens[2600:]}
    tokenizer = CharacterTokenizer("abcdefghijklmnopqrstuvwxyz"[: vocab - 2])
    streams = {split: ArrayStream(part, len(part) // 4) for split, part in parts.items()}
    return TokenWindows("pattern", streams, length, tokenizer)


def pairs(num_train: int = 96) -> TextPairs:
    """Inputs of 3 to 9 letters; the answer is the first one, or it and the one before."""
    random = np.random.RandomState(0)
    tokenizer = CharacterTokenizer("~.abcdefghijklmnopqrst")
    tokenizer.pad_id, tokenizer.eos_id = 0, 1

    def rows(number: int) -> ArrayPairs:
        inputs = [random.randint(2, 22, random.randint(3, 10)) for _ in range(number)]
        answers = [
            np.array([row[0], row[0] - 1, 1])[[0, 1, 2] if row[0] % 2 else [0, 2]] for row in inputs
        ]
        return ArrayPairs([np.append(row, 1) for row in inputs], answers)

    exams = [Exam("val", rows(37)), Exam("test", rows(41))]
    return TextPairs("letters", rows(num_train), exams, tokenizer, max_input=12, max_answer=4)


TRANSFORMERS = "experiments.models.from_transformers.from_config"
OWN = {
    "_target_": "experiments.models.rotary_transformer.RotaryTransformer",
    "vocab_size": 23,
    "width": 16,
    "num_heads": 2,
}
T5 = {
    "_target_": TRANSFORMERS,
    "model_name": "T5ForConditionalGeneration",
    "vocab_size": 24,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 1,
    "num_heads": 2,
    "dropout_rate": 0.0,
}
GPT2 = {
    "_target_": TRANSFORMERS,
    "model_name": "GPT2LMHeadModel",
    "vocab_size": 23,
    "n_positions": 12,
    "n_embd": 16,
    "n_layer": 1,
    "n_head": 2,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
NEMOTRON = {
    "_target_": TRANSFORMERS,
    "model_name": "NemotronForCausalLM",
    "vocab_size": 23,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 12,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
    },
    "bos_token_id": 1,
    "eos_token_id": 1,
}
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "causal": ("Causal", "windows", OWN, {}),
    "causal gpt2": ("Causal", "windows", GPT2, {}),
    "causal nemotron, in chunks": ("Causal", "windows", NEMOTRON, {"loss_chunk": 7}),
    "masked": ("Masked", "windows", {**OWN, "causal": False}, {"masked_share": 0.3}),
    "masked gpt2": ("Masked", "windows", {**GPT2, "bidirectional": True}, {"masked_share": 0.3}),
    "text to text": ("Answers", "pairs", T5, {}),
}
"""Task, data, model and settings of each kind."""
if find_spec("transformers") is None:
    CASES = {case: found for case, found in CASES.items() if found[2]["_target_"] != TRANSFORMERS}


def sections(case: str) -> dict[str, dict[str, Any]]:
    """The sections `task`, `data` and `model` of a tiny run."""
    task, data, model, settings = CASES[case]
    return {
        "task": {"_target_": f"texts.{task}", **settings},
        "data": {"_target_": f"texts.{data}"},
        "model": model,
    }


def build_task(case: str) -> Any:
    """The task of a tiny run."""
    from experiments.build import build

    found = sections(case)
    return build(found["task"], "task", data=found["data"], model=found["model"])
