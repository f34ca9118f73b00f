"""Exports the weights of a finished run as safetensors, and prints the file's hash.

For a training script of one's own, or as the extractor of features that judges samples:

    python scripts/extractor.py RUN_ID results/extractors/digits_classifier.safetensors

The hash belongs on the pages that use it (task.judge.extractor.sha256, start_from.sha256).
`--without 'head.*'` leaves out what matches, e.g. the classes of a tower that is to be locked.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main(arguments: list[str] | None = None) -> int:
    """Writes the file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="run id below --results")
    parser.add_argument("path", type=Path, help="file to write")
    parser.add_argument("--results", type=Path, default=Path("results/runs"))
    parser.add_argument("--without", default="", help="pattern of names that are left out")
    options = parser.parse_args(arguments)

    from safetensors.torch import save_file

    from experiments import checkpoint

    found = checkpoint.find_good(options.results / options.run / "checkpoints")
    if found is None:
        print(f"{options.results / options.run}: no checkpoint; train first", file=sys.stderr)
        return 2
    whole = checkpoint.load(found)["model"]
    kept = {k: v for k, v in whole.items() if not fnmatchcase(k, options.without)}
    weights = {k: v.clone().contiguous() for k, v in kept.items()}  # tied ones under each name
    options.path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, options.path)
    print(f"{options.path}: sha256 {hashlib.sha256(options.path.read_bytes()).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
