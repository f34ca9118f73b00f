"""One command for any CUDA card: is Lion's step right, how fast is it, does the runner keep up?

    python scripts/gpu_check.py                       # about 8 minutes; results/bench/gpu_CARD.json
    python scripts/gpu_check.py --minutes 4 --only correct step
    python scripts/gpu_check.py --out /tmp/check.json # without a card: a small rehearsal on the CPU

Needs torch and timm; what else is installed (hydra-core, lion-pytorch, bitsandbytes, transformers)
is used or measured beside it. Each part is a process with a budget of its own, and each row is on
the disk at once: what is cut short leaves what it had, what a part does not need the next ones get,
and all together end within `--minutes`. A model too large for the card is tried with fewer images
at a time, then left out. Exit code 1 where a step is wrong, the Triton kernel does not work on a
card that it is for, or a part failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PARTS = {  # share of the time, and the file in gpu_lab; in the order of what they are worth
    "correct": (0.2, "correctness"),
    "runs": (0.15, "whole_runs"),
    "step": (0.2, "optimizer_step"),
    "sync": (0.07, "observing"),
    "train": (0.22, "training"),
    "memory": (0.08, "observing"),
    "language": (0.08, "language"),
}
FACTS = "facts"
"""What is asked first, in a process of its own: this one must not hold a part of the card."""
FACTS_SECONDS = 240.0
"""Of a machine that reads torch from a cold disk; whatever it leaves is the parts'."""
GRACE_SECONDS = 30.0
"""How long a part may be over its budget before it is ended, while there is time at all."""
END_SECONDS = 5.0
"""How long the last part may be over the whole time."""
LEAST_SECONDS = 5.0
"""Below it a part is not begun: importing torch takes as much."""
POLL_SECONDS = 0.5
CACHES = "gpu-check-caches"
"""Of compilers, where the home has no room; gone in the end."""
CUT = 75
"""Exit code of a part that has left something out for want of time."""
NODES = ("/dev/nvidiactl", "/dev/dxg")
"""There where a machine has an NVIDIA card, or one under WSL."""
NO_NATIVE_CODE = {"CXX": "false"}
"""With this compiler Lion goes without, see `lion.native`."""

Rows = list[dict[str, Any]]


def main() -> int:
    """Runs the parts one after another, and puts their rows together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="a file or a folder; default: results/bench")
    parser.add_argument("--part", choices=[FACTS, *PARTS], help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        return run_part(args.part, args.rows, args.seconds)
    if find_spec("torch") is None:
        return _refused(f"{sys.executable} has no torch: call this with the Python that has it")
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _interrupt)
    ends = time.monotonic() + 60 * args.minutes  # a fresh machine may set its clock meanwhile
    folder = _folder(args.out)
    if problem := _why_not_written(folder):
        return _refused(f"cannot write to {folder} ({problem}): give another --out FILE")
    state, found = _in_process(FACTS, min(FACTS_SECONDS, ends - time.monotonic()), ends, folder)
    if not found:
        return _refused(f"torch cannot look at the card ({state})")
    facts = found[0]
    if problem := _why_no_card(facts, args.out is not None):
        return _refused(problem)
    out = folder / f"gpu_{_plain(facts['device'])}.json"
    if args.out and args.out != folder:
        out = args.out
    content: dict[str, Any] = {**facts, "parts": {}, "rows": []}
    try:
        _run_all(list(dict.fromkeys(args.only)), ends, out, content)
    finally:
        shutil.rmtree(folder / CACHES, ignore_errors=True)
    return _judged(out, content)


def _folder(out: Path | None) -> Path:
    """For the results: `out` itself where it is one."""
    if out is None:
        return ROOT / "results" / "bench"
    return out if out.is_dir() else out.parent


def _run_all(names: list[str], ends: float, out: Path, content: dict[str, Any]) -> None:
    """Each part with its share of the time that is left; whatever it finds is written at once."""
    before: Rows = []
    extra: dict[str, str] = {}

    def write(rows: Rows) -> None:
        content["rows"] = [*before, *rows]
        _write(out, content)

    def run(name: str) -> tuple[str, Rows]:
        whole = sum(PARTS[other][0] for other in names[names.index(name) :])
        seconds = (ends - time.monotonic()) * PARTS[name][0] / whole
        return _in_process(name, seconds, ends, out.parent, write, extra)

    for name in names:
        content["parts"][name] = "running"
        state, rows = run(name)
        if _has_crashed(state) and not extra:  # perhaps by native code, which all parts share
            extra |= NO_NATIVE_CODE
            content["without_native_code"] = f"since {name}: {state}"
            before += [*rows, {"part": name, "what": "crashed", "error": state}]
            state, rows = run(name)
        content["parts"][name] = state
        write(rows)
        before += rows
        if state == "interrupted":
            break


def _has_crashed(state: str) -> bool:
    """Whether a signal has ended a part that we have not ended."""
    return state.startswith("exit code -")


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


def _refused(problem: str) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return 2


def _why_not_written(folder: Path) -> str:
    """What is wrong with a folder, now and not after minutes of measuring; "" where nothing is."""
    probe = folder / f"gpu-check-{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("a row\n")
        probe.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _why_no_card(facts: dict[str, Any], may_rehearse: bool) -> str:
    """Why not to go on without a card; "" where there is one, or a rehearsal is wanted.

    A machine that has one, which torch does not see, would pass a rehearsal for a check.
    """
    if facts["device"] != "cpu":
        return ""
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not is_hidden and any(Path(node).exists() for node in NODES):
        said = facts.get("why_no_card") or "it says nothing"
        return (
            f"this machine has a card, and torch {facts.get('torch')} sees none ({said}): mend "
            'that, or rehearse on the CPU with CUDA_VISIBLE_DEVICES=""'
        )
    if may_rehearse:
        return ""
    return "no CUDA card is visible; --out FILE makes a rehearsal on the CPU"


def _write(out: Path, content: dict[str, Any]) -> None:
    draft = out.with_name(f"{out.name}.draft")
    try:
        draft.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        draft.replace(out)
    except OSError as error:  # a disk may have room again later; and the rows are printed, too
        print(f"error: {out} is not written: {error.strerror or error}", file=sys.stderr)


def _in_process(
    name: str,
    seconds: float,
    ends: float,
    folder: Path,
    on_rows: Callable[[Rows], None] = lambda rows: None,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, Rows]:
    """A part in a process of its own.

    Args:
        name: Of the part.
        seconds: Its budget.
        ends: When all parts must be over.
        folder: For its rows, while it runs.
        on_rows: Told of all of them, each time that there are more.
        extra: Of its environment.

    Returns:
        Its state (done, cut, or what went wrong) and its rows.
    """
    if seconds < LEAST_SECONDS:
        return "cut", []
    path = folder / f"gpu-check-{name}-{os.getpid()}.tmp"
    command = [sys.executable, __file__, "--part", name, "--rows", str(path)]
    command += ["--seconds", str(seconds)]
    began = time.monotonic()
    stop = max(began, min(began + seconds + GRACE_SECONDS, ends + END_SECONDS))
    environment = {**_environment(folder), **extra}
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    rows: Rows = []
    try:
        while process.poll() is None and time.monotonic() < stop:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
            if len(more := _read(path)) > len(rows):
                on_rows(rows := more)
        code = process.poll()
        state = {0: "done", CUT: "cut", None: "cut"}.get(code, f"exit code {code}")
    except KeyboardInterrupt:
        state = "interrupted"
    finally:
        _end(process)
    rows = _read(path) or rows
    for file in (path, path.with_suffix(".draft")):
        file.unlink(missing_ok=True)
    print(f"{name}: {state} after {time.monotonic() - began:.0f} s", flush=True)
    return state, rows


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a part and what it has started, compilers above all."""
    with contextlib.suppress(OSError):  # nothing of it is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment(folder: Path) -> dict[str, str]:
    """Of a part. Compilers want room to write, which a home or /tmp may not have."""
    found = dict(os.environ)
    home = Path(found.get("HOME") or "/")
    if not os.access(home, os.W_OK):
        found.setdefault("TRITON_CACHE_DIR", str(folder / CACHES / "triton"))
        found.setdefault("LION_CACHE_DIR", str(folder / CACHES / "lion"))
    return found


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _read(path: Path) -> Rows:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):  # none yet
        return []


def run_part(name: str, path: Path, seconds: float) -> int:
    """One part, in this process."""
    sys.path[:0] = [str(HERE), str(ROOT)]
    import importlib

    began = time.monotonic()
    from gpu_lab.measuring import Rows, in_a_line

    rows = Rows(path, seconds - (time.monotonic() - began))  # importing is part of it
    try:
        room = importlib.import_module(f"gpu_lab.{PARTS[name][1] if name in PARTS else FACTS}")
        getattr(room, name)(rows)
    except Exception as error:
        rows.add(part=name, what="the part failed", error=in_a_line(error))
        raise
    return CUT if rows.is_cut else 0


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


if __name__ == "__main__":
    sys.exit(main())
