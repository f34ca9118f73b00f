"""A worker of a search on a shared folder: python -m experiments.search.executors.worker FOLDER."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="results/searches/NAME/queue")
    parser.add_argument("--no-wait", action="store_true", help="leave when there is no batch")
    args = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not args.folder.is_dir():
        print(f"error: {args.folder}: no queue there; start the search first", file=sys.stderr)
        return 2
    from experiments.search.executors.queue import QueueWorker

    QueueWorker(args.folder).work(wait=not args.no_wait)
    return 0


if __name__ == "__main__":
    sys.exit(main())
