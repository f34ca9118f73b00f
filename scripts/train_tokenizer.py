"""Makes a tokenizer from text, offline: a SentencePiece model or a byte-level BPE tokenizer.json.

    python scripts/train_tokenizer.py --root /data/mytext --vocab-size 32000 --out my.model
    python scripts/train_tokenizer.py --root /data/c4 --kind bpe --vocab-size 1024 --out my.json
    python scripts/train_tokenizer.py ... --symbol '[MASK]'          for masked language models

The same text gives the same bytes on every run. Prints what the `data` section of a run needs.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.config import UserError
from experiments.data.text_paths import find_files
from experiments.data.text_readers import read_pieces
from experiments.data.tokenizer_training import train_bpe, train_sentencepiece
from experiments.programs import of_place


def texts(root: str, split: str, markers: str, characters: int) -> Iterator[str]:
    """The first so many characters of a split."""
    left = characters
    for path in find_files(root, split):
        for text, _ in read_pieces(path, markers):
            yield text[:left]
            left -= len(text)
            if left <= 0:
                return


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        The exit code: 2 for what the user can mend.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the text, as data.root")
    parser.add_argument("--split", default="train")
    parser.add_argument("--markers", choices=["keep", "strip"], default="keep")
    parser.add_argument(
        "--kind",
        choices=["sentencepiece", "t5", "bpe"],
        default="sentencepiece",
        help="t5: text is normalised (spaces, rare characters), as T5 does",
    )
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--characters", type=int, default=100_000_000, help="to learn from")
    parser.add_argument("--symbol", action="append", default=[], help="token taken whole")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        found = texts(given.root, given.split, given.markers, given.characters)
        if given.kind == "bpe":
            content = train_bpe(found, given.vocab_size, given.symbol)
        else:
            exact = given.kind == "sentencepiece"
            content = train_sentencepiece(
                found, given.vocab_size, exact=exact, symbols=given.symbol
            )
        given.out.write_bytes(content)
    except (UserError, OSError) as error:
        print(f"error: {of_place(error)}", file=sys.stderr)
        return 2
    digest = hashlib.sha256(content).hexdigest()
    print(f"data.tokenizer_file={given.out.resolve()} data.tokenizer_sha256={digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
