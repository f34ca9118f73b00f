"""What counting gets on the text of the language proxies: the lines in their figures.

    python scripts/text_entropies.py

Cross entropies of unigram, bigram, trigram and four-gram, counted on the training part, on each
held-out part; nats per character. Writes results/studies/lm_proxy/kjv_entropies.csv (2 s).
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

OUT = ROOT / "results/studies/lm_proxy/kjv_entropies.csv"
LONGEST = 4


def table() -> list[dict[str, object]]:
    """One row for each part and length."""
    from experiments.data.bundled_text import kjv
    from experiments.data.entropies import ngram_entropies

    source = kjv("kjv")
    parts = {s: stream.read(0, len(stream)) for s, stream in source.streams.items()}
    rows = []
    for split in source.eval_splits:
        found = ngram_entropies(
            parts["train"], parts[split], source.tokenizer.vocab_size, longest=LONGEST
        )
        for n, entropy in enumerate(found, 1):
            rows.append({"data": "kjv", "split": split, "n": n, "nats": f"{entropy:.4f}"})
    return rows


def main() -> int:
    """Writes the table, and prints it."""
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=form).parse_args()
    rows = table()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(OUT.read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
