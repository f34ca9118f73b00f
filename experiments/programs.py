"""One line in place of a traceback, where a program of this repository runs in the wrong Python.

Standard library only: it is imported before anything that may be missing.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import sys
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
TRACEBACK_VARIABLE = "LION_TRACEBACK"
"""Environment variable; set, what goes wrong keeps its traceback."""
_SHOWN = "experiments.shown"
COMMAND = "lion-experiments"
"""What an installed package has for `run.py`."""
CORE = frozenset(
    {
        *("torch", "timm", "torchvision", "hydra", "omegaconf", "numpy", "pandas", "scipy"),
        *("matplotlib", "PIL", "safetensors", "rich", "yaml", "sympy"),
    }
)
"""What every environment of this suite has, by the names that are imported."""
NOT_ON_WINDOWS = frozenset({"fcntl", "pwd", "resource", "termios"})
"""Of Python's own modules those that Python for Windows lacks."""

NO_PLACE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there, or choose another place"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose another place: see --help"),
    **dict.fromkeys((errno.EFBIG, errno.ENAMETOOLONG), "choose another place: see --help"),
}
"""Errors of a place that cannot be written, and what to do."""
DRAFT = re.compile(r"\.\d+-[0-9a-f]{8}\.tmp$")
"""How the names of drafts end: see `experiments.files.replacing`."""


def explain_missing_packages() -> None:
    """Lets the commands of this suite end with a line where the machine is at fault.

    That is where one of `CORE` is missing, or a place cannot be written; and at Ctrl-C. Other
    programs that import this suite keep the traceback.
    """
    if _is_ours():
        sys.excepthook = _explained
        _show_any_letter()


def _show_any_letter() -> None:
    """Where the terminal's letters are few (LC_ALL=C without UTF-8), `?` stands for the others."""
    codecs.register_error(_SHOWN, _shown)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors=_SHOWN)


def _shown(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of names that are in no encoding stay what they are, as by Python itself."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    end = error.start + 1
    code = ord(error.object[error.start])
    return (bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else "?"), end


def _is_ours() -> bool:
    """Whether this is `run.py`, one of `scripts/`, `lion-experiments` or `-m experiments.NAME`."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    if main is None:  # while Python looks for the module that -m names
        return any(text.removeprefix("-m").startswith("experiments.") for text in sys.orig_argv)
    path = Path(main).resolve()
    return path.parent in (ROOT, ROOT / "scripts") or path.name == COMMAND


def _explained(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    line = "" if os.environ.get(TRACEBACK_VARIABLE) else _line(error)
    if isinstance(error.__cause__ or error, KeyboardInterrupt):  # e.g. while torch is imported
        print("stopped", file=sys.stderr)
    elif line:
        print(f"error: {line}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _line(error: BaseException) -> str:
    """What to say in place of a traceback; "" where that is needed."""
    if type(error).__name__ == "CalledProcessError" and error.cmd[0] == sys.executable:  # pyright: ignore[reportAttributeAccessIssue]
        return f"a process that this one started failed and has said why: {error}"
    if isinstance(error, OSError) and error.errno in NO_PLACE:
        return of_place(error)
    if not isinstance(error, ModuleNotFoundError):
        return ""
    name = (error.name or "").partition(".")[0]
    if name in CORE:
        return f"{sys.executable} has no {name}: {_remedy()}"
    if name in NOT_ON_WINDOWS:
        return "this suite needs Linux or macOS: on Windows, run it within WSL"
    from experiments import packages

    if name not in packages.OPTIONAL:
        return ""
    return f"{sys.executable} has no {name}: {packages.get(name)}"


def of_place(error: BaseException) -> str:
    """What is said of an error, which may be that of a place that cannot be written."""
    if not isinstance(error, OSError) or error.errno not in NO_PLACE:
        return str(error)
    path = DRAFT.sub("", os.fsdecode(error.filename)) if error.filename else "a file"
    return f"{path}: {os.strerror(error.errno)}: {NO_PLACE[error.errno]}"


def _remedy() -> str:
    if not (ROOT / "run.sh").exists():
        return f"pip install {COMMAND} from where it came, but without --no-deps"
    place = ROOT / ".venv"
    if Path(sys.prefix) == place:
        return f"{ROOT}/run.sh setup installs what is lacking"
    if (place / "bin" / "activate").exists():
        return f". {place}/bin/activate, then call this again"
    return f"{ROOT}/run.sh setup and . {place}/bin/activate, or pip install {ROOT} into this Python"
