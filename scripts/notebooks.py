"""Executes the notebooks and writes them back with their outputs, so that they read on GitHub.

    python scripts/notebooks.py                       # all of notebooks/
    python scripts/notebooks.py compare_optimizers    # one
    python scripts/notebooks.py --check               # run them, write nothing

Needs nbclient and ipykernel (requirements-dev.txt, or the extra `notebooks`). Times and counters
that would change with every call are not written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.config import UserError  # noqa: E402
from experiments.packages import need  # noqa: E402

FOLDER = ROOT / "notebooks"
TIMEOUT_SECONDS = 300  # of one cell

if TYPE_CHECKING:
    from nbformat import NotebookNode


def main() -> int:
    """Executes the chosen notebooks; a cell that fails stops it, and nothing is written."""
    there = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(there)}")
    parser.add_argument("--check", action="store_true", help="run them, but write nothing")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(there)):
        print(f"error: no notebook {unknown[0]}; there are {', '.join(there)}", file=sys.stderr)
        return 2
    for name in args.names or there:
        path = FOLDER / f"{name}.ipynb"
        try:
            for package in ("nbformat", "nbclient", "ipykernel"):
                need(package, "running notebooks")
            book = execute(path)
        except (UserError, RuntimeError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        if not args.check:
            write(book, path)
        print(f"{name}: {len(book.cells)} cells, {path.stat().st_size / 1024:.0f} KB")
    return 0


def execute(path: Path) -> NotebookNode:
    """Runs every cell in a fresh kernel of this interpreter, in the notebook's folder.

    Raises:
        RuntimeError: with the cell and the error, where a cell fails.
    """
    import nbformat
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    book = nbformat.read(path, as_version=4)
    manager = AsyncKernelManager()
    # not what "python3" may be elsewhere on this machine: the interpreter that runs this script
    command = [
        sys.executable,
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
        "--log-level=40",
    ]
    manager._kernel_spec = KernelSpec(argv=command, language="python")
    client = NotebookClient(
        book,
        km=manager,
        timeout=TIMEOUT_SECONDS,
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise RuntimeError(f"{path.name}: {error}") from error
    except CellTimeoutError:
        raise RuntimeError(
            f"{path.name}: a cell took more than {TIMEOUT_SECONDS} s; call again when the machine "
            "is less busy"
        ) from None
    return book


def write(book: NotebookNode, path: Path) -> None:
    """Writes a notebook without what changes from call to call."""
    import nbformat

    for cell in book.cells:
        cell.metadata.pop("execution", None)
    book.metadata.language_info = {"name": "python"}  # no version: it says nothing of the content
    nbformat.write(book, path)


if __name__ == "__main__":
    sys.exit(main())
