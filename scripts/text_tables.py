"""Writes the numbers of the texts (README.md, RESULTS.md, ...) anew from the committed tables.

    python scripts/text_tables.py            # after results/ has changed
    python scripts/text_tables.py --check    # exit code 1 where a text is not as its tables

The sentences around the blocks are typed: read them again when the numbers move.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.config import UserError  # noqa: E402
from experiments.programs import of_place  # noqa: E402
from experiments.store import write_text  # noqa: E402

TEXTS = ("README.md", "RESULTS.md", "results/bench/README.md", "results/studies/README.md")


def main(arguments: list[str] | None = None) -> int:
    """Fills the blocks of the texts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help="with results/ and the texts")
    args = parser.parse_args(arguments)
    from experiments.analysis.text_tables import fill

    old = []
    try:
        for name in TEXTS:
            path = args.root / name
            text = path.read_text()
            new = fill(text, args.root / "results")
            if new != text:
                old.append(name)
                if not args.check:
                    write_text(path, new)
    except (UserError, OSError, ValueError) as error:
        print(f"error: {of_place(error)}", file=sys.stderr)
        return 2
    for name in old:
        print(f"{name}: " + ("not as its tables; run scripts/text_tables.py" if args.check
                             else "written"))  # fmt: skip
    return 1 if old and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
