"""Kills a search again and again with SIGKILL, and compares its end with an uninterrupted one.

    python scripts/search_kills.py [--kills 20] [--workers 0]

One search runs to its end. The same search is started elsewhere and killed when its log has grown
to a random length; then it is started again, until it has been killed so often and has ended. Both
logs must be equal byte for byte, and so must the hashes of the populations.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

START = (
    "import sys, json; from pathlib import Path; from experiments.jobs.search import start; "
    "sys.exit(start(json.loads(sys.argv[1]), 0, Path(sys.argv[2])))"
)


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if killing has changed nothing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=1200)
    parser.add_argument("--workers", type=int, default=0, help="of the pool; 0: in one process")
    parser.add_argument("--seed", type=int, default=0, help="of the lengths at which it is killed")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        page = page_of(args.candidates, args.workers)
        run(page, whole, None)
        lengths = sorted(random.Random(args.seed).sample(range(args.candidates), args.kills))
        for length in lengths:
            code = run(page, killed, length)
            print(f"killed at {length:>6} lines or more: exit code {code}", flush=True)
        run(page, killed, None)
        return compare(whole, killed)


def page_of(num_candidates: int, num_workers: int) -> dict[str, Any]:
    """The settings: the smoke search, longer."""
    from experiments.jobs.search import read_page

    executor = {"executor": "pool", "num_workers": num_workers} if num_workers else {}
    return {**read_page("smoke"), "num_candidates": num_candidates, **executor}


def run(page: dict[str, Any], root: Path, kill_at: int | None) -> int:
    """Runs the search until its end, or kills it once its log has so many lines."""
    import json

    command = [sys.executable, "-c", START, json.dumps(page), str(root)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if kill_at is not None and num_lines(root) >= kill_at:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    if kill_at is None and process.returncode:
        raise SystemExit(f"the search itself failed with exit code {process.returncode}")
    return process.returncode


def num_lines(root: Path) -> int:
    """Lines of the one log below a folder."""
    return sum(path.read_bytes().count(b"\n") for path in root.glob("*/events.jsonl"))


def compare(whole: Path, killed: Path) -> int:
    """0 if logs and final populations are equal."""
    import json

    logs = [next(root.glob("*/events.jsonl")) for root in (whole, killed)]
    hashes = [json.loads((log.parent / "status.json").read_text())["population"] for log in logs]
    same = logs[0].read_bytes() == logs[1].read_bytes() and hashes[0] == hashes[1]
    print(
        f"uninterrupted {hashes[0][:16]}, killed {hashes[1][:16]}: {'equal' if same else 'DIFFER'}"
    )
    if not same:
        shutil.copytree(killed.parent, Path("search-kills-failed"), dirs_exist_ok=True)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
