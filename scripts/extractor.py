"""Exports the weights of a run as safetensors, and prints the file's hash.

For a training script of one's own, or as the extractor of features that judges samples:

    python scripts/extractor.py RUN_ID results/extractors/digits_classifier.safetensors
    python scripts/extractor.py RUN_ID averaged.safetensors --weights ema
    python scripts/extractor.py RUN_ID folder --transformers      # for from_pretrained("folder")

The hash belongs on the pages that use it (task.judge.extractor.sha256, start_from.sha256).
`--without 'head.*'` leaves out what matches, e.g. the classes of a tower that is to be locked.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main(arguments: list[str] | None = None) -> int:
    """Writes the file or folder; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="run id below --results")
    parser.add_argument("path", type=Path, help="file to write, or folder with --transformers")
    parser.add_argument("--results", type=Path, default=Path("results/runs"))
    parser.add_argument("--weights", choices=["raw", "ema"], default="raw", help="ema: averaged")
    parser.add_argument("--without", default="", help="pattern of names that are left out")
    parser.add_argument(
        "--transformers", action="store_true", help="a folder for from_pretrained: all weights"
    )
    options = parser.parse_args(arguments)
    if options.transformers and options.without:
        parser.error("--transformers writes whole models: leave --without")

    from experiments.explain import exit_code

    return exit_code(lambda: export(options))


def export(options: argparse.Namespace) -> int:
    """Writes what the options say.

    Raises:
        UserError: for a run without a checkpoint or such weights; with `--transformers` where its
            model is another's, or one that transformers would build otherwise.
    """
    from experiments import checkpoint, warm_start
    from experiments.config import UserError
    from experiments.start_from import Source

    folder = options.results / options.run
    found = checkpoint.find_good(folder / "checkpoints")
    if found is None:
        raise UserError(f"{folder}: no checkpoint; train first")
    try:
        state = warm_start.read(found, Source(str(folder), options.weights))
    except UserError as error:
        raise UserError(str(error).removeprefix("start_from: ")) from error
    if options.transformers:
        return save_for_transformers(folder, state, options.path)

    from safetensors.torch import save_file

    kept = {k: v for k, v in state.items() if not fnmatchcase(k, options.without)}
    weights = {k: v.clone().contiguous() for k, v in kept.items()}  # tied ones under each name
    options.path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, options.path)
    print(f"{options.path}: sha256 {hashlib.sha256(options.path.read_bytes()).hexdigest()}")
    return 0


def save_for_transformers(folder: Path, state: dict[str, Tensor], path: Path) -> int:
    """Writes the model and, where it is a tokenizer.json, the tokenizer of its data."""
    from transformers.utils import logging

    from experiments import store
    from experiments.config import UserError
    from experiments.models.from_transformers import from_config

    config = store.read_config(folder)
    section = dict(config["model"])
    if section.pop("_target_") != f"{from_config.__module__}.{from_config.__name__}":
        raise UserError(f"{folder}: its model is not one of transformers: leave --transformers")
    if section.pop("bidirectional", False):
        raise UserError(
            f"{folder}: model.bidirectional=true, and what transformers would build of these "
            "weights sees one side alone: leave --transformers"
        )
    if path.is_file():
        raise UserError(f"{path} is a file: name a folder")
    section.pop("activation_checkpointing", None)
    logging.disable_progress_bar()
    model: Any = from_config(**section)
    model.load_state_dict(state)
    tokenizer = Path(str(config["data"].get("tokenizer_file") or "")).expanduser()
    if tokenizer.suffix == ".json":
        end = save_tokenizer(tokenizer, config["data"].get("tokenizer_sha256"), path)
        model.config.eos_token_id = model.generation_config.eos_token_id = end
    model.save_pretrained(path)
    print(f"{path}: {', '.join(sorted(file.name for file in path.iterdir()))}")
    return 0


def save_tokenizer(file: Path, sha256: str | None, path: Path) -> int | None:
    """Writes a tokenizer.json, if it is the run's, as transformers reads it; returns its end."""
    from transformers import PreTrainedTokenizerFast

    from experiments.data.tokenizer import open_tokenizer

    end = open_tokenizer(str(file), sha256).eos_id
    found = PreTrainedTokenizerFast(tokenizer_file=str(file))
    if end is not None:
        found.eos_token = found.convert_ids_to_tokens(end)
    found.save_pretrained(path)
    return end


if __name__ == "__main__":
    sys.exit(main())
