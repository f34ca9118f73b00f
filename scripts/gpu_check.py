"""One command for any CUDA card: is Lion's step right, how fast is it, does the runner keep up?

    python scripts/gpu_check.py                       # about 8 minutes; results/bench/gpu_CARD.json
    python scripts/gpu_check.py --minutes 4 --only correct step
    python scripts/gpu_check.py --out /tmp/check.json # without a card: a small rehearsal on the CPU

Needs torch, timm and hydra-core; what else is installed (lion-pytorch, bitsandbytes, transformers)
is measured beside it. Each part is a process with a budget of its own, and writes every row at
once: what is cut short leaves what it had. Exit code 1 where a step is wrong or a part failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PARTS = {  # share of the time
    "correct": 0.15,
    "step": 0.3,
    "sync": 0.05,
    "train": 0.3,
    "memory": 0.1,
    "language": 0.1,
}
GRACE_SECONDS = 30.0
"""How long a part may be over its budget: importing and compiling take their time."""


def main() -> int:
    """Runs the parts one after another, and puts their rows together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="default: results/bench/gpu_CARD.json")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        return run_part(args.part, args.rows, 60 * args.minutes)
    facts = _facts()
    out = args.out or ROOT / "results" / "bench" / f"gpu_{_plain(facts['device'])}.json"
    if facts["device"] == "cpu" and args.out is None:
        print("error: no CUDA card is visible; --out FILE makes a rehearsal on the CPU",
              file=sys.stderr)  # fmt: skip
        return 2
    whole = sum(PARTS[name] for name in args.only)
    content: dict[str, Any] = {**facts, "parts": {}, "rows": []}
    for name in args.only:
        state, rows = _in_process(name, args.minutes * PARTS[name] / whole)
        content["parts"][name] = state
        content["rows"] += rows
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=1) + "\n")
    wrong = [row for row in content["rows"] if row.get("bit_equal") is False]
    failed = [name for name, state in content["parts"].items() if state not in ("done", "cut")]
    print(f"{out}: {len(content['rows'])} rows; wrong: {len(wrong)}; parts that failed: {failed}")
    return 1 if wrong or failed else 0


def _in_process(name: str, minutes: float) -> tuple[str, list[dict[str, Any]]]:
    """A part in a process of its own; its state (done, cut, or what went wrong) and its rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, __file__, "--part", name, "--rows", str(path)]
        command += ["--minutes", str(minutes)]
        began = time.monotonic()
        try:
            code = subprocess.run(command, timeout=60 * minutes + GRACE_SECONDS).returncode
            state = "done" if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            state = "cut"
        print(f"{name}: {state} after {time.monotonic() - began:.0f} s", flush=True)
        return state, json.loads(path.read_text()) if path.exists() else []


def run_part(name: str, path: Path, seconds: float) -> int:
    """One part, in this process."""
    sys.path[:0] = [str(HERE), str(ROOT)]
    from gpu_lab import optimizer_step, training
    from gpu_lab.measuring import Rows

    rooms = {"correct": optimizer_step, "step": optimizer_step}
    getattr(rooms.get(name, training), name)(Rows(path, seconds))
    return 0


def _facts() -> dict[str, Any]:
    """What was measured on what."""
    import torch

    is_cuda = torch.cuda.is_available()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return {
        "device": torch.cuda.get_device_name() if is_cuda else "cpu",
        "capability": list(torch.cuda.get_device_capability()) if is_cuda else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
        "is_rehearsal": not is_cuda,
    }


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


if __name__ == "__main__":
    sys.exit(main())
