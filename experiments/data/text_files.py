"""Text of one's own, or of Wiki-40B, PG-19 and C4: files, tokenised once, read by windows."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from experiments.data import text_readers
from experiments.data.text_paths import check_apart, find_files, wanted_splits
from experiments.data.text_readers import Piece, read_pieces
from experiments.data.text_remarks import remarks
from experiments.data.token_store import Plan, StoredTokens, plan_of
from experiments.data.token_windows import TokenWindows
from experiments.data.tokenising import tokenise
from experiments.data.tokenizer import Tokenizer, check_fits, open_tokenizer

PG19_WORDS = {"train": 1_973_136_207, "validation": 3_007_061, "test": 6_966_499}
"""Words of PG-19 as its authors give them; perplexity per word divides by these.

Source: github.com/google-deepmind/pg19, table of statistics.
"""
WORDS_TOLERANCE = 1e-3


class TextFiles(TokenWindows):
    """Splits of text in files.

    Args:
        name: For the ledger's `data` column.
        root: Folder; see `text_paths.find_files` for what it may hold.
        tokenizer_file: Path of a SentencePiece model or a tokenizer.json.
        tokenizer_sha256: Of that file.
        length: Tokens of a window.
        format: wiki40b | pg19 | c4 | text: which source it is; the readers go by the files' names.
        markers: keep | strip: the markers of Wiki-40B, which count as tokens.
        train_split: Name of the split on the disk.
        val_split: The same; null: none.
        test_split: The same.
        max_eval_windows: Windows of each evaluation split that are measured, the first ones; null:
            all. What is left out is said.
        cache_dir: Where tokens are kept; null: `~/.cache/lion-experiments/tokens`.
        num_workers: Threads that read ahead while training; each tokeniser uses as many.

    Raises:
        UserError: for files or a tokenizer that are not there, damaged or foreign.
    """

    def __init__(
        self,
        name: str,
        root: str | None = None,
        tokenizer_file: str | None = None,
        tokenizer_sha256: str | None = None,
        length: int = 512,
        *,
        format: str = "text",
        markers: str = "keep",
        train_split: str = "train",
        val_split: str | None = "validation",
        test_split: str | None = None,
        max_eval_windows: int | None = None,
        cache_dir: str | None = None,
        num_workers: int = 0,
    ) -> None:
        opened = open_tokenizer(str(tokenizer_file), tokenizer_sha256, max(1, num_workers))
        check_fits(opened, opened.vocab_size, needs=["eos"])
        section = {"train_split": train_split, "val_split": val_split, "test_split": test_split}
        streams, keys = {}, []
        check_apart(root, section)
        for ours, theirs in wanted_splits(section).items():
            plan = _plan(f"{name}-{ours}", root, theirs, markers, opened, cache_dir)
            tokenise(plan)
            streams[ours] = StoredTokens(plan)
            keys.append(plan.folder.name)
            if format == "pg19":
                _check_words(streams[ours], theirs)
        for said in remarks(root, section):
            warnings.warn(f"{name}, {said}", stacklevel=2)
        super().__init__(
            name,
            streams,
            length,
            opened,
            max_eval_windows=max_eval_windows,
            num_workers=num_workers,
            fingerprint=" ".join(keys),
        )
        for said in self._not_measured():
            warnings.warn(f"{name}, {said}", stacklevel=2)

    def _not_measured(self) -> Iterator[str]:
        """Held-out parts of which the last windows are left out, by the number that is set."""
        for split in self.eval_splits:
            there, measured = self.num_windows(split, 1), self.num_eval(split, 1)
            if measured < there:
                yield (
                    f"{split}: the first {measured:,} of {there:,} windows are measured (of all "
                    "with data.max_eval_windows=null)"
                )


def _plan(
    name: str,
    root: str | None,
    split: str,
    markers: str,
    tokenizer: Tokenizer,
    cache_dir: str | None,
) -> Plan:
    folder = Path(root or ".").expanduser()
    read = partial(_read, markers)
    files = find_files(root, split)
    settings = f"{text_readers.version_of(files)} {markers}"
    return plan_of(name, files, folder, read, tokenizer, cache_folder(cache_dir), settings)


def _read(markers: str, path: Path) -> Iterator[Piece]:
    return read_pieces(path, markers)


def cache_folder(cache_dir: str | None) -> Path:
    """Where tokens are kept."""
    if cache_dir:
        return Path(cache_dir).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lion-experiments" / "tokens"


def _check_words(stream: StoredTokens, split: str) -> None:
    """Perplexity per word divides by the authors' count where the copy has as many words."""
    official = PG19_WORDS.get(split)
    if official is None:
        return
    if abs(stream.num_words - official) <= WORDS_TOLERANCE * official:
        stream.num_words = official
    else:
        warnings.warn(
            f"PG-19, {split}: this copy has {stream.num_words:,} words, its authors counted "
            f"{official:,}: perplexity per word is not comparable with published numbers",
            stacklevel=2,
        )
