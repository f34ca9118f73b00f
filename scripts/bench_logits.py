"""Measures the memory and time of cross entropy over a big vocabulary, whole and in chunks.

    python scripts/bench_logits.py [--tokens 2048] [--vocab 256000] [--width 512]

Each way runs in a fresh process: forward and backward through the output layer and the loss; peak
resident memory above what the inputs, weights and their gradients take. Writes
results/bench/logits.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.surroundings import measured_on  # noqa: E402

OUT = ROOT / "results/bench/logits.json"
CHUNKS = (0, 1024, 512, 128)
"""Tokens of a chunk; 0: all at once, with a float32 copy under autocast as in training."""


def measure(tokens: int, vocab: int, width: int, chunk: int) -> dict[str, float]:
    """Peak megabytes above the inputs, and seconds, of one forward and backward pass."""
    import torch

    from experiments.models.token_loss import DeferredLinear, chunked_token_loss, mean_token_loss

    torch.manual_seed(0)
    head = DeferredLinear(width, vocab, bias=False)
    head.weight.grad = torch.zeros_like(head.weight)
    hidden = torch.randn(1, tokens, width, requires_grad=True)
    hidden.grad = torch.zeros_like(hidden)
    targets = torch.randint(0, vocab, (1, tokens))
    before = _peak()
    began = time.perf_counter()
    loss = (
        chunked_token_loss(hidden, head, targets, chunk)
        if chunk
        else mean_token_loss(head(hidden), targets)
    )
    loss.backward()
    seconds = time.perf_counter() - began
    return {
        "chunk": chunk,
        "megabytes": round(_peak() - before),
        "seconds": round(seconds, 2),
        "loss": loss.item(),
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Runs all ways, each in a process of its own, and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=256_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=None, help="one way only, printed")
    given = parser.parse_args()
    if given.chunk is not None:
        print(json.dumps(measure(given.tokens, given.vocab, given.width, given.chunk)))
        return 0
    rows = []
    for chunk in CHUNKS:
        command = [sys.executable, __file__, "--chunk", str(chunk)]
        for key in ("tokens", "vocab", "width"):
            command += [f"--{key}", str(getattr(given, key))]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout))
        print(rows[-1], flush=True)
    facts = {"tokens": given.tokens, "vocab": given.vocab, "width": given.width}
    facts |= {**measured_on(), "ways": rows}
    OUT.write_text(json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
