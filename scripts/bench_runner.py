"""Measures what the runner costs over a bare PyTorch loop, and how quickly it starts.

    python scripts/bench_runner.py [--case NAME] [--json] [--memory]

Throughput: the same model, batches and optimizer, once in the runner and once in the shortest loop
that trains, in one process, in turns; medians over turns, and their ratio. Start-up: medians over
fresh processes. Memory: live tensors and resident size over some thousand steps.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench_runner_cases import CASES, CLASSIFY, VIT  # noqa: E402

from experiments.surroundings import measured_on  # noqa: E402


def images(name: str, size: int, number: int) -> Any:
    """Random images in memory; the data of the benchmark."""
    import torch

    from experiments.data.in_memory import InMemoryImages

    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(number, 3, size, size, generator=generator)
    labels = torch.randint(0, 10, (number,), generator=generator)
    splits = {"train": (pixels, labels), "val": (pixels[:1], labels[:1])}
    return InMemoryImages(name, splits, num_classes=10)


def tokens(name: str, length: int, vocab: int, number: int) -> Any:
    """Windows of random tokens in memory."""
    import numpy as np

    from experiments.data.token_windows import ArrayStream, TokenWindows
    from experiments.data.tokenizer import CharacterTokenizer

    row = np.random.RandomState(0).randint(0, vocab, number * length + 1).astype(np.uint16)
    streams = {"train": ArrayStream(row), "val": ArrayStream(row[: length + 1])}
    return TokenWindows(name, streams, length, CharacterTokenizer("a"))


def sections(case: dict[str, Any]) -> dict[str, Any]:
    """The sections `task` and `data` of a case."""
    if "tokens" in case:
        data = {"length": case["tokens"], "vocab": case["vocab"], "number": 4 * case["batch"]}
        return {
            "task": {"_target_": "experiments.tasks.causal_language.CausalLanguage"},
            "data": {"_target_": "bench_runner.tokens", "name": "bench", **data},
        }
    return {
        "task": case.get("task", CLASSIFY),
        "data": {
            "_target_": "bench_runner.images",
            "name": "bench",
            "size": case["size"],
            "number": 4 * case["batch"],
        },
    }


def configure(case: dict[str, Any], folder: Path, steps: int, seed: int) -> Any:
    """The run of a case: no evaluation or checkpoint in the middle."""
    from experiments.config import from_dict

    return from_dict(
        {
            "experiment": "bench",
            "optimizer_name": "adamw",
            "seed": seed,
            **sections(case),
            "model": case["model"],
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-4, "fused": True},
            "train": {"steps": steps, "batch_size": case["batch"]},
            "launch": {"device": "cpu", "progress": False},
            "checkpoint": {"every_seconds": None},
            "results_dir": str(folder),
        }
    )


def runner_seconds(case: dict[str, Any], folder: Path, seed: int) -> float:
    """Training time per step as the runner itself records it, first step left out."""
    from experiments import runner, store

    times = []
    for steps in (1, 1 + case["steps"]):
        outcome = runner.run(configure(case, folder, steps, seed))
        rows = store.read_rows(outcome.folder / "metrics.jsonl")
        times += [r["value"] for r in rows if r["metric"] == "train_seconds"]
    return (times[1] - times[0]) / case["steps"]


def bare_seconds(case: dict[str, Any]) -> float:
    """Time per step of the shortest loop: gather, forward, backward, step."""
    import torch

    from experiments.build import build

    torch.manual_seed(0)
    gather = bare_batches(case)
    model = build(case["model"], "model")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    start = 0.0
    for step in range(1 + case["steps"]):
        if step == 1:
            start = time.perf_counter()
        inputs, labels = gather(torch.randint(0, 4 * case["batch"], (case["batch"],)))
        loss_of = _denoise if "task" in case else _classify
        loss_of(model, inputs, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.perf_counter() - start) / case["steps"]


def _classify(model: Any, images: Any, labels: Any) -> Any:
    import torch

    output = model(images)
    logits = output if isinstance(output, torch.Tensor) else output.logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def _denoise(model: Any, images: Any, labels: Any) -> Any:
    """The simple loss of a diffusion model, with noise of the global generator."""
    import torch

    times = torch.randint(0, 1000, (len(images),))
    share = torch.linspace(1.0, 0.0, 1000)[times][:, None, None, None]
    noise = torch.randn_like(images)
    noisy = share.sqrt() * images + (1 - share).sqrt() * noise
    return (model(noisy, times, labels) - noise).square().mean()


def bare_batches(case: dict[str, Any]) -> Any:
    """A function from example numbers to inputs and targets, on tensors in memory."""
    import numpy

    if "tokens" in case:
        length = case["tokens"]
        source = tokens("bench", length, case["vocab"], 4 * case["batch"])
        whole = source.read("train", numpy.arange(4 * case["batch"]), 1)
        return lambda chosen: (whole[chosen, :-1], whole[chosen, 1:])
    pixels, labels = images("bench", case["size"], 4 * case["batch"]).splits["train"]
    return lambda chosen: (pixels[chosen], labels[chosen])


def throughput(name: str, turns: int) -> dict[str, Any]:
    """Runner and bare loop in turns; medians in milliseconds, and the ratio of speeds."""
    case = CASES[name]
    runner_ms, bare_ms = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            bare_ms.append(1e3 * bare_seconds(case))
            runner_ms.append(1e3 * runner_seconds(case, Path(folder), seed=turn))
    ratios = [b / r for b, r in zip(bare_ms, runner_ms, strict=True)]
    return {
        "case": name,
        "about": case["about"],
        "bare_ms": round(statistics.median(bare_ms), 2),
        "runner_ms": round(statistics.median(runner_ms), 2),
        "ratio": round(statistics.median(ratios), 3),
        "goal": case["goal"],
        "turns": turns,
    }


STARTS = {
    "bare python": ["-c", "pass"],
    "import hydra": ["-c", "import hydra"],
    "run.py --help": ["run.py", "--help"],
    "run.py --cfg job": ["run.py", "--cfg", "job"],
    "import torch, timm": ["-c", "import torch, timm.models, torch._dynamo"],
    "first step of the default proxy": [
        "run.py",
        "train.epochs=null",
        "train.steps=1",
        "schedule.warmup_fraction=0",
        "launch.progress=false",
    ],
}


def start_up(turns: int) -> dict[str, float]:
    """Median seconds of fresh processes, in turns."""
    times: dict[str, list[float]] = {name: [] for name in STARTS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns + 1):  # the first turn warms the file cache
            for name, arguments in STARTS.items():
                extra = [f"results_dir={folder}/{turn}"] if "train.steps=1" in arguments else []
                began = time.perf_counter()
                command = [sys.executable, *arguments, *extra]
                subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
                if turn:
                    times[name].append(time.perf_counter() - began)
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


def memory_growth(steps: int) -> dict[str, float]:
    """Resident megabytes and live tensors, early and late in one long run of a tiny model."""
    from experiments import runner
    from experiments.tasks import image

    model = {**VIT, "img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    case = {"model": model, "size": 8, "batch": 8}
    seen: dict[int, tuple[float, int]] = {}
    calls = iter(range(1, steps + 1))
    loss = image.ImageClassification.loss

    def counted(self: Any, *args: Any) -> Any:
        number = next(calls)
        if number in (steps // 10, steps):
            seen[number] = _resident_megabytes(), _live_tensors()
        return loss(self, *args)

    with tempfile.TemporaryDirectory() as folder, _replaced(image.ImageClassification, counted):
        runner.run(configure(case, Path(folder), steps, seed=0))
    early, late = seen[steps // 10], seen[steps]
    return {
        "steps": steps,
        "megabytes_grown": round(late[0] - early[0], 2),
        "tensors_grown": late[1] - early[1],
    }


@contextlib.contextmanager
def _replaced(owner: Any, loss: Any) -> Iterator[None]:
    before, owner.loss = owner.loss, loss
    try:
        yield
    finally:
        owner.loss = before


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _live_tensors() -> int:
    import torch

    gc.collect()
    return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())


def main() -> int:
    """Runs what was asked for, and prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", choices=[*CASES, "all", "none"], default="all")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None, help="torch threads")
    parser.add_argument("--no-start-up", action="store_true")
    parser.add_argument("--memory", type=int, default=0, metavar="STEPS")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    args = parser.parse_args()
    import hydra  # noqa: F401, the processes of start_up need it
    import torch

    report: dict[str, Any] = {}
    if not args.no_start_up:
        report["start_up_seconds"] = start_up(args.turns)
    if args.threads:
        torch.set_num_threads(args.threads)
    report |= {**measured_on(), "threads": torch.get_num_threads()}
    sys.modules["bench_runner"] = sys.modules["__main__"]
    names = {"all": list(CASES), "none": []}.get(args.case, [args.case])
    report["throughput"] = [throughput(name, args.turns) for name in names]
    if args.memory:
        report["memory"] = memory_growth(args.memory)
    print(json.dumps(report, indent=2) if args.json else _as_table(report))
    return 0


def _as_table(report: dict[str, Any]) -> str:
    lines = [f"torch {report['torch']}, {report['threads']} threads, {report['cpu']}"]
    for name, seconds in report.get("start_up_seconds", {}).items():
        lines.append(f"  {name:<34} {seconds:7.3f} s")
    for row in report["throughput"]:
        lines.append(
            f"  {row['case']:<9} bare {row['bare_ms']:8.2f} ms, runner {row['runner_ms']:8.2f} ms, "
            f"ratio {row['ratio']:.3f} (goal {row['goal']})   {row['about']}"
        )
    if "memory" in report:
        lines.append(f"  memory over {report['memory']['steps']} steps: {report['memory']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
