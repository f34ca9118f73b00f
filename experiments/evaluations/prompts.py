"""Names of classes and templates of sentences, as text files: one to a line, # begins a comment."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.config import ConfigError, UserError

FOLDER = Path(__file__).parent / "prompt_files"
_WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Prompts:
    """What a zero-shot classifier is told."""

    classes: list[str]
    templates: list[str]

    def of_class(self, number: int) -> list[str]:
        """The sentences of one class."""
        return [template.replace("{}", self.classes[number]) for template in self.templates]

    @property
    def digests(self) -> dict[str, str]:
        """Short hashes of the two lists."""
        return {"classes": _digest(self.classes), "templates": _digest(self.templates)}


def read_prompts(
    classes: str, templates: str, num_classes: int, own_names: Sequence[str] | None = None
) -> Prompts:
    """Reads both files.

    Args:
        classes: A path, or the name of a file in the folder of this suite; empty: `own_names`.
        templates: A path or a name; each line holds {} where the class belongs.
        num_classes: Of the data.
        own_names: What the data call their classes, if anything.

    Raises:
        UserError: for a file that is not there.
        ConfigError: for a number of classes that is not the data's, two of one name (but for
            capitals, which many tokenizers do not see), the data's own in another order, numbers of
            WordNet in place of names, or a template without {}.
    """
    if not classes and not own_names:
        raise ConfigError("the data do not name their classes: set task.judge.zero_shot.*.classes")
    names = _lines(classes) if classes else [name.replace("_", " ") for name in own_names or ()]
    prompts = Prompts(names, _lines(templates))
    if len(prompts.classes) != num_classes:
        raise ConfigError(
            f"{classes or 'the data'} names {len(prompts.classes)} classes, and the data has "
            f"{num_classes}: give one line for each class, in the order of their numbers"
        )
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if (first := seen.setdefault(name.lower(), number)) != number:
            raise ConfigError(
                f"{classes or 'the data'}: the classes {first} and {number} are both called "
                f"{name!r}, so one of them could never be right: tell them apart"
            )
    if classes and own_names:
        _check_order(classes, names, own_names)
    elif all(_WORDNET_ID.fullmatch(name) for name in names):
        raise ConfigError(
            f"the data call their classes by numbers of WordNet ({names[0]}), which say nothing: "
            "set task.judge.zero_shot.*.classes"
        )
    for template in prompts.templates:
        if "{}" not in template:
            raise ConfigError(f"{templates}: {template!r} has no {{}} for the name of the class")
    return prompts


def _check_order(classes: str, names: Sequence[str], own_names: Sequence[str]) -> None:
    """Refuses names that are the data's own for the most part, but at other places."""
    places = {_plain(name): number for number, name in enumerate(own_names)}
    known = [(n, k) for n, name in enumerate(names) if (k := places.get(_plain(name))) is not None]
    wrong = [(n, k) for n, k in known if n != k]
    if 2 * len(wrong) > len(known):
        number, own = wrong[0]
        raise ConfigError(
            f"{classes} names class {number} {names[number]!r}, which is class {own} of the data: "
            f"write the names in the order of its classes ({', '.join(list(own_names)[:3])}, ...)"
        )


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().lower()


def _lines(name: str) -> list[str]:
    own = FOLDER / f"{name}.txt"
    path = own if own.is_file() else Path(name).expanduser()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        there = ", ".join(sorted(p.stem for p in FOLDER.glob("*.txt")))
        raise UserError(
            f"cannot read {path} ({getattr(error, 'strerror', None) or error}): give the path of a "
            f"text file, or one of {there}"
        ) from error
    found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not found:
        raise ConfigError(f"{path} is empty: write one entry to a line")
    return found


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
