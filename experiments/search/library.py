"""Known programs, texts in `programs/`: what searches start from, and proofs are tried on."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from experiments.config import UserError
from experiments.pages import shipped
from experiments.search import types
from experiments.search.language import LanguageError, Program, parse

FOLDER = Path(__file__).parent / "programs"


def names() -> tuple[str, ...]:
    """The names of all programs of the library, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.txt")))


def text(name: str) -> str:
    """The text of a program of the library, with its comments.

    Raises:
        UserError: there is no such program; names the nearest.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names())}"
        raise UserError(f"{name}: no such program in the library; {hint}")
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


@cache
def load(name: str) -> Program:
    """A program of the library.

    Raises:
        UserError: there is no such program.
    """
    return parse(text(name))


def read_file(path: Path | str) -> Program:
    """A valid program from a file; or one of the library, if there is no such file.

    Raises:
        UserError: no such file, no readable text, or no valid program; one line with the place.
    """
    path = Path(shipped(str(path)))
    if not path.is_file() and path.name == str(path) and path.name in names():
        return load(path.name)
    if path.exists() and not path.is_dir() and not path.is_file():
        raise UserError(f"{path}: is a device; a program is a text file")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; name a file with a program's text, or one of the library: "
            f"{', '.join(names())}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise UserError(f"{path}: {reason}; a program is a text file") from error
    try:
        program = parse(content)
        types.check(program)
    except LanguageError as error:
        raise LanguageError(f"{path}: {error}") from error
    return program
