"""One command for any CUDA card: is Lion's step right, how fast is it, does the runner keep up?

    python scripts/gpu_check.py                       # about 8 minutes; results/bench/gpu_CARD.json
    python scripts/gpu_check.py --minutes 4 --only correct step
    python scripts/gpu_check.py --out /tmp/check.json # without a card: a small rehearsal on the CPU

Needs torch, timm and hydra-core; what else is installed (lion-pytorch, bitsandbytes, transformers)
is measured beside it. Each part is a process with a budget of its own, and writes every row at
once: what is cut short leaves what it had, and what a part does not need the next ones get. A model
too large for the card is tried with fewer images at a time, then left out. Exit code 1 where a step
is wrong, the Triton kernel does not work on a card that it is for, or a part failed.
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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PARTS = {  # share of the time, and the file in gpu_lab
    "correct": (0.2, "correctness"),
    "step": (0.25, "optimizer_step"),
    "sync": (0.08, "observing"),
    "train": (0.27, "training"),
    "memory": (0.1, "observing"),
    "language": (0.1, "language"),
}
FACTS = "facts"
"""What is asked first, in a process of its own: this one must not hold a part of the card."""
FACTS_SECONDS = 180.0
GRACE_SECONDS = 30.0
"""How long a part may be over its budget before it is ended."""
CUT = 75
"""Exit code of a part that has left something out for want of time."""
PACKAGES = ("torch", "triton", "timm", "lion-pytorch", "bitsandbytes", "transformers")


def main() -> int:
    """Runs the parts one after another, and puts their rows together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="default: results/bench/gpu_CARD.json")
    parser.add_argument("--part", choices=[FACTS, *PARTS], help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ends", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        return run_part(args.part, args.rows, args.ends - time.time())
    ends = time.time() + 60 * args.minutes
    state, found = _in_process(FACTS, FACTS_SECONDS)
    if not found or state != "done":
        print(f"error: torch cannot look at the card ({state})", file=sys.stderr)
        return 2
    facts = found[0]
    out = args.out or ROOT / "results" / "bench" / f"gpu_{_plain(facts['device'])}.json"
    if facts["device"] == "cpu" and args.out is None:
        print("error: no CUDA card is visible; --out FILE makes a rehearsal on the CPU",
              file=sys.stderr)  # fmt: skip
        return 2
    content: dict[str, Any] = {**facts, "parts": {}, "rows": []}
    names = list(dict.fromkeys(args.only))
    for number, name in enumerate(names):
        whole = sum(PARTS[other][0] for other in names[number:])
        state, rows = _in_process(name, (ends - time.time()) * PARTS[name][0] / whole)
        content["parts"][name] = state
        content["rows"] += rows
        _write(out, content)
        if state == "interrupted":
            break
    return _judged(out, content)


def _judged(out: Path, content: dict[str, Any]) -> int:
    """Says what was found; the exit code."""
    rows, parts = content["rows"], content["parts"]
    wrong = [r for r in rows if r.get("bit_equal") is False or r.get("as_expected") is False]
    errors = [row for row in rows if "error" in row]
    ours = [r for r in errors if r["part"] != "step" or r.get("what", "").startswith("Lion")]
    failed = [name for name, state in parts.items() if state not in ("done", "cut")]
    cut = [name for name, state in parts.items() if state == "cut"]
    for row in [*wrong, *(row for row in errors if row not in wrong)]:
        print(f"{'wrong' if row in wrong else 'error'}: {json.dumps(row)}")
    print(
        f"{out}: {len(rows)} rows; wrong: {len(wrong)}; errors: {len(errors)}; "
        f"parts that failed: {failed}, that were cut short: {cut}"
    )
    return 1 if wrong or failed or ours else 0


def _write(out: Path, content: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    draft.replace(out)


def _in_process(name: str, seconds: float) -> tuple[str, list[dict[str, Any]]]:
    """A part in a process of its own; its state (done, cut, or what went wrong) and its rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, __file__, "--part", name, "--rows", str(path)]
        command += ["--ends", str(time.time() + seconds)]
        began = time.monotonic()
        try:
            code = subprocess.run(command, timeout=max(seconds, 0) + GRACE_SECONDS).returncode
            state = {0: "done", CUT: "cut"}.get(code, f"exit code {code}")
        except subprocess.TimeoutExpired:
            state = "cut"
        except KeyboardInterrupt:
            state = "interrupted"
        print(f"{name}: {state} after {time.monotonic() - began:.0f} s", flush=True)
        return state, json.loads(path.read_text()) if path.exists() else []


def run_part(name: str, path: Path, seconds: float) -> int:
    """One part, in this process."""
    sys.path[:0] = [str(HERE), str(ROOT)]
    import importlib

    began = time.monotonic()
    from gpu_lab.measuring import Rows

    if name == FACTS:
        Rows(path, seconds).add(**_facts())
        return 0
    room = importlib.import_module(f"gpu_lab.{PARTS[name][1]}")
    rows = Rows(path, seconds - (time.monotonic() - began))  # importing is part of it
    try:
        getattr(room, name)(rows)
    except Exception as error:
        rows.add(part=name, what="the part failed", error=f"{type(error).__name__}: {error}"[:400])
        raise
    return CUT if rows.is_cut else 0


def _facts() -> dict[str, Any]:
    """What was measured on what."""
    import torch

    from experiments.surroundings import commit

    is_cuda = torch.cuda.is_available()
    card = torch.cuda.get_device_properties(0) if is_cuda else None
    return {
        "device": card.name if card else "cpu",
        "capability": [card.major, card.minor] if card else None,
        "memory_mebibytes": card.total_memory >> 20 if card else None,
        "multiprocessors": card.multi_processor_count if card else None,
        "cards": torch.cuda.device_count() if is_cuda else 0,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "commit": commit(ROOT),
        "date": time.strftime("%Y-%m-%d"),
        "is_rehearsal": not is_cuda,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


if __name__ == "__main__":
    sys.exit(main())
