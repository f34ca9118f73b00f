"""GLUE as text to text: a task's sentences behind their names, and its label in words.

Source: arXiv:1910.10683, appendix D: the form of the inputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.config import UserError
from experiments.data.glue_answers import LABELS, number, similarity
from experiments.data.glue_paths import TASKS, find_files
from experiments.data.text_files import cache_folder
from experiments.data.text_pairs import Exam, JoinedPairs, StoredPairs, TextPairs
from experiments.data.text_readers import Piece, UnreadableText, parquet_rows
from experiments.data.token_store import StoredTokens, plan_of
from experiments.data.tokenising import tokenise
from experiments.data.tokenizer import Tokenizer, check_fits, open_tokenizer
from experiments.pages import script

VERSION = 2
"""To be raised whenever the texts change: it is part of a cache's name."""
MAX_ANSWER = 16


class GlueFiles(TextPairs):
    """The training sets of some tasks as one mixture, and their validation sets as exams.

    Args:
        name: For the ledger's `data` column.
        root: Folder with a folder for each task.
        tokenizer_file: Path of a SentencePiece model or a tokenizer.json.
        tokenizer_sha256: Of that file.
        tasks: Some of cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte; null: all.
        max_input: Tokens of an input; longer ones are cut.
        cache_dir: Where tokens are kept; null: `~/.cache/lion-experiments/tokens`.
        num_workers: Threads that read ahead while training.

    Raises:
        UserError: for files or a tokenizer that are not there, damaged or foreign, and for hidden
            labels.
    """

    def __init__(
        self,
        name: str,
        root: str | None = None,
        tokenizer_file: str | None = None,
        tokenizer_sha256: str | None = None,
        tasks: Sequence[str] | None = None,
        *,
        max_input: int = 512,
        cache_dir: str | None = None,
        num_workers: int = 0,
    ) -> None:
        opened = open_tokenizer(str(tokenizer_file), tokenizer_sha256, max(1, num_workers))
        check_fits(opened, opened.vocab_size, needs=["eos", "pad"])
        check_answers(opened, tasks or TASKS)
        folder = Path(root or ".").expanduser()
        train, exams, keys = [], [], []
        for task in tasks or TASKS:
            for split in TASKS[task].sizes:
                files = find_files(root, task, split)
                read = partial(_read, task, split)
                cache = cache_folder(cache_dir)
                settings = f"glue {VERSION} {task} {split}"
                plan = plan_of(
                    f"{name}-{task}-{split}", files, folder, read, opened, cache, settings
                )
                tokenise(plan)
                keys.append(plan.folder.name)
                pairs = StoredPairs(StoredTokens(plan))
                _check_size(task, split, len(pairs))
                if split == "train":
                    train.append(pairs)
                else:
                    label = {"validation_matched": "mnli_m", "validation_mismatched": "mnli_mm"}
                    exams.append(Exam("val", pairs, task, label.get(split, task)))
        super().__init__(
            name,
            JoinedPairs(train),
            exams,
            opened,
            max_input=max_input,
            max_answer=MAX_ANSWER,
            average=True,
            num_workers=num_workers,
            fingerprint=" ".join(keys),
        )


def check_answers(tokenizer: Tokenizer, tasks: Iterable[str]) -> None:
    """Refuses a tokenizer that does not give every answer back as it was.

    The true answers would be no labels then, and any nonsense would be as right as they.

    Raises:
        UserError: names the first such answer, and what becomes of it.
    """
    for task in tasks:
        answers = LABELS[task] or [similarity(fifths / 5) for fifths in range(26)]
        for answer, ids in zip(answers, tokenizer.encode(answers), strict=True):
            if (back := tokenizer.decode(ids.tolist())) != answer:
                raise UserError(
                    f"data.tokenizer_file: the answer {answer!r} of {task} comes back as {back!r}, "
                    "so answers could not be graded: take T5's spiece.model, or one that "
                    f"{script('train_tokenizer')} makes"
                )


def _read(task: str, split: str, path: Path) -> Iterator[Piece]:
    """Input and answer of each example, in turns."""
    rows = _parquet(task, path) if path.suffix == ".parquet" else _tsv(task, path)
    for place, (sentences, label) in enumerate(rows, 1):
        where = f"{path}, example {place}"
        named = zip(TASKS[task].columns, sentences, strict=True)
        if lost := [column for column, text in named if not isinstance(text, str)]:
            raise UnreadableText(f"{where}: its {lost[0]} is missing, or no text: get it again")
        yield input_text(task, sentences), True
        yield answer_text(task, label, where), True


def input_text(task: str, sentences: Sequence[str]) -> str:
    """As T5 reads an example: `rte sentence1: ... sentence2: ...`."""
    named = zip(TASKS[task].columns, sentences, strict=True)
    return " ".join([task, *(f"{name}: {text}" for name, text in named)])


def answer_text(task: str, label: Any, where: str) -> str:
    """The label in words.

    Raises:
        UserError: for a hidden label of a test set, or one that the task does not have.
    """
    if str(label) in ("-1", "-1.0"):
        raise UserError(f"{where}: its label is hidden; a test set of GLUE cannot be scored here")
    if task == "stsb":
        value = number(str(label))
        if not 0 <= value <= 5:
            raise UnreadableText(f"{where}: {label!r} is no similarity from 0 to 5")
        return similarity(value)
    words = LABELS[task]
    if str(label) in words:
        return str(label)
    if str(label).isdecimal() and int(label) < len(words):
        return words[int(label)]
    raise UnreadableText(f"{where}: {label!r} is none of the labels {', '.join(words)}")


def _parquet(task: str, path: Path) -> Iterator[tuple[list[str], Any]]:
    columns = TASKS[task].columns
    for row in parquet_rows(path, [*columns, "label"]):
        yield [row[column] for column in columns], row["label"]


def _tsv(task: str, path: Path) -> Iterator[tuple[list[str], str]]:
    """Rows of a TSV file, in which only a tab and the end of a line mean something.

    One that is not whole is refused at the end, and left out and said elsewhere (the training file
    of QQP has three rows without a label).
    """
    facts = TASKS[task]
    has_header = not facts.tsv_label.isdecimal()
    missing, num_left_out = False, 0
    try:
        # MRPC's begin with a mark of byte order.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            lines = (line.rstrip("\r\n").split("\t") for line in file if line.strip("\r\n"))
            names = next(lines, []) if has_header else [str(place) for place in range(4)]
            if absent := [n for n in (*facts.tsv_columns, facts.tsv_label) if n not in names]:
                raise UnreadableText(
                    f"{path} has no column '{absent[0]}': is it {facts.folder}, with labels?"
                )
            places = [names.index(name) for name in facts.tsv_columns]
            label = names.index(facts.tsv_label)
            for line in lines:
                missing = len(line) <= max(label, *places)
                num_left_out += missing
                if not missing:
                    yield [line[place] for place in places], line[label]
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableText(f"{path} is damaged ({error}): get it again") from error
    if missing:
        raise UnreadableText(f"{path} is cut: its last line has too few columns; get it again")
    if num_left_out:
        warnings.warn(f"{path}: {num_left_out} lines are left out: too few columns", stacklevel=2)


def _check_size(task: str, split: str, num_examples: int) -> None:
    """Refuses a split without any example; copies differ by the three rows of QQP without a label.

    Raises:
        UserError: for an empty one.
    """
    official = TASKS[task].sizes[split]
    if not num_examples:
        raise UserError(f"GLUE, {task}, {split}: the file has no example: get it again")
    if abs(num_examples - official) > 3:
        warnings.warn(
            f"GLUE, {task}, {split}: {num_examples:,} examples, {official:,} in the original: "
            "scores are not comparable with published numbers",
            stacklevel=3,
        )
