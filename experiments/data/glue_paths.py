"""Where the tasks of GLUE lie: parquet files of the Hugging Face hub, or the original TSV files.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.data.locate import DataMissing
from experiments.data.text_paths import TOKENIZER, check_tokenizer
from experiments.ranges import NAME, PATH, check_all, choice, count, listed, optional

SOURCE = "https://huggingface.co/datasets/nyu-mll/glue or https://gluebenchmark.com/tasks"


@dataclass(frozen=True)
class GlueTask:
    """How a task is stored."""

    folder: str  # of the TSV files
    columns: tuple[str, ...]  # as T5 names them, in T5's order
    tsv_columns: tuple[str, ...]  # the same in the TSV files; numbers as text: without header
    tsv_label: str
    sizes: Mapping[str, int]  # official number of examples


TASKS = {
    "cola": GlueTask("CoLA", ("sentence",), ("3",), "1", {"train": 8_551, "validation": 1_043}),
    "sst2": GlueTask(
        "SST-2", ("sentence",), ("sentence",), "label", {"train": 67_349, "validation": 872}
    ),
    "mrpc": GlueTask(
        "MRPC",
        ("sentence1", "sentence2"),
        ("#1 String", "#2 String"),
        "Quality",
        {"train": 3_668, "validation": 408},
    ),
    "qqp": GlueTask(
        "QQP",
        ("question1", "question2"),
        ("question1", "question2"),
        "is_duplicate",
        {"train": 363_849, "validation": 40_430},
    ),
    "stsb": GlueTask(
        "STS-B",
        ("sentence1", "sentence2"),
        ("sentence1", "sentence2"),
        "score",
        {"train": 5_749, "validation": 1_500},
    ),
    "mnli": GlueTask(
        "MNLI",
        ("hypothesis", "premise"),
        ("sentence2", "sentence1"),
        "gold_label",
        {"train": 392_702, "validation_matched": 9_815, "validation_mismatched": 9_832},
    ),
    "qnli": GlueTask(
        "QNLI",
        ("question", "sentence"),
        ("question", "sentence"),
        "label",
        {"train": 104_743, "validation": 5_463},
    ),
    "rte": GlueTask(
        "RTE",
        ("sentence1", "sentence2"),
        ("sentence1", "sentence2"),
        "label",
        {"train": 2_490, "validation": 277},
    ),
}
"""Sizes: arXiv:1804.07461 and T5's code (glue_utils.py)."""


RANGES = {
    **TOKENIZER,
    "name": NAME,
    "root": optional(PATH),
    "tasks": optional(listed(choice(*TASKS), 1)),
    "max_input": count(2, 10**6),
    "cache_dir": optional(PATH),
    "num_workers": count(0, 1024),
}
"""Settings of `GlueFiles`."""


def check_glue(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for GLUE.

    Raises:
        DataMissing: a task or a tokenizer that is not there.
        ConfigError: a value that cannot be, such as a task that GLUE does not have.
    """
    check_all(section, RANGES, "data")
    try:
        for task in section.get("tasks") or TASKS:
            for split in TASKS[task].sizes:
                find_files(section.get("root"), task, split)
    except DataMissing as error:
        raise DataMissing(
            f"{error}; get GLUE from {SOURCE}, then set data.root=/path/to/glue; or try "
            f"experiment={proxy}, which needs no download"
        ) from None
    check_tokenizer(section)


def find_files(root: str | None, task: str, split: str) -> list[Path]:
    """The files of a split of a task.

    Raises:
        DataMissing: names what was looked for.
    """
    if root is None:
        raise DataMissing("data.root is not set")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataMissing(f"data.root={root} is not a folder")
    if found := sorted((folder / task).glob(f"{split}-*.parquet")):
        return found
    tsv = split.replace("validation", "dev") + ".tsv"
    for name in (TASKS[task].folder, task):
        if (folder / name / tsv).is_file():
            return [folder / name / tsv]
    raise DataMissing(
        f"{folder} has neither {task}/{split}-*.parquet nor {TASKS[task].folder}/{tsv}"
    )
