"""Exports the weights of a run as safetensors, and prints the file's hash.

For a training script of one's own, or as the extractor of features that judges samples:

    python scripts/extractor.py RUN_ID results/extractors/digits_classifier.safetensors
    python scripts/extractor.py RUN_ID vit.safetensors --weights ema
    python scripts/extractor.py RUN_ID folder --transformers      # for from_pretrained("folder")

The hash belongs on the pages that use it (task.judge.extractor.sha256, start_from.sha256).
`--weights ema` takes the averaged weights of a run that has them (train.ema_decay).
`--without 'head.*'` leaves out what matches, e.g. the classes of a tower that is to be locked.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.config import UserError  # noqa: E402
from experiments.explain import exit_code  # noqa: E402
from experiments.files import make_folder, replacing, share  # noqa: E402
from experiments.store import Folder, read_config, read_json, run_meant  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Writes the file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="run id below --results")
    parser.add_argument("path", type=Path, help="file to write, FILE.safetensors, or a folder")
    parser.add_argument("--results", type=Path, default=Path("results/runs"))
    parser.add_argument("--without", default="", help="pattern of names that are left out")
    parser.add_argument("--weights", choices=("raw", "ema"), default="raw", help="ema: averaged")
    parser.add_argument(
        "--transformers", action="store_true", help="write a folder for from_pretrained"
    )
    options = parser.parse_args(arguments)
    return exit_code(lambda: export(options))


def export(options: argparse.Namespace) -> int:
    """Writes what the options say.

    Raises:
        UserError: for a run without such weights, or a file or pattern that cannot be.
    """
    run = Folder(options.results / options.run)
    if options.transformers:
        if options.without:
            raise UserError("--transformers writes a whole model: leave --without")
        save_for_transformers(run, _weights(run, options.weights), options.path)
        return 0
    if options.path.suffix != ".safetensors":  # by which timm and start_from know it
        raise UserError(f"{options.path} must end in .safetensors: give it that suffix")
    _save(_without(_weights(run, options.weights), options.without), options.path)
    print(f"{options.path}: sha256 {hashlib.sha256(options.path.read_bytes()).hexdigest()}")
    return 0


def _weights(run: Folder, kind: str) -> dict[str, Any]:
    """Those of the newest good checkpoint, and a word where they may not be what is meant."""
    from experiments import checkpoint
    from experiments.warm_start import weights_in

    found = checkpoint.find_good(run.checkpoints)
    if found is None:
        known = sorted(path.parent.name for path in run.path.parent.glob("*/run.json"))
        raise UserError(f"{run.path}: no checkpoint; train first{run_meant(run.path.name, known)}")
    content = checkpoint.load(found)
    weights = weights_in(content, kind)
    if weights is None:
        raise UserError(
            f"{run.path}: no {kind} weights; train.ema_decay keeps averages, --weights raw takes "
            "what was trained"
        )
    if kind == "raw" and weights_in(content, "ema") is not None:
        _say(f"{run.path.name} has averaged weights, too: --weights ema takes those")
    state = read_json(run.status).get("state", "finished")
    if state != "finished":
        _say(f"{run.path.name} is {state}: these are the weights of step {content.get('step')}")
    return weights


def _without(weights: dict[str, Any], pattern: str) -> dict[str, Any]:
    kept = {k: v for k, v in weights.items() if not fnmatchcase(k, pattern)}
    if pattern and len(kept) == len(weights):
        raise UserError(f"--without {pattern}: no weight is named so, but {', '.join(weights)}")
    if not kept:
        raise UserError(f"--without {pattern}: nothing is left to write")
    return kept


def _save(weights: dict[str, Any], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    copies = {k: v.clone().contiguous() for k, v in weights.items()}  # tied: under each name
    make_folder(path.parent, "name another file")
    try:
        with replacing(path) as draft:
            save_file(copies, draft)
            share(draft)
    except SafetensorError as error:
        raise UserError(f"{path} cannot be written: {error}") from error


def save_for_transformers(run: Folder, weights: dict[str, Any], path: Path) -> None:
    """Writes the model and, where it is a tokenizer.json, the tokenizer of its data.

    Raises:
        UserError: where its model is another's, or one that transformers would build otherwise.
    """
    from experiments.models.from_transformers import from_config

    config = read_config(run.path)
    section = dict(config["model"])
    if section.pop("_target_") != f"{from_config.__module__}.{from_config.__name__}":
        raise UserError(f"{run.path}: its model is not one of transformers: leave --transformers")
    if section.pop("bidirectional", False):
        raise UserError(
            f"{run.path}: model.bidirectional=true, and what transformers would build of these "
            "weights sees one side alone: leave --transformers"
        )
    if path.is_file():
        raise UserError(f"{path} is a file: name a folder")
    section.pop("activation_checkpointing", None)
    model: Any = from_config(**section)
    model.load_state_dict(weights)
    tokenizer = Path(str(config["data"].get("tokenizer_file") or "")).expanduser()
    if tokenizer.suffix == ".json":
        end = _save_tokenizer(tokenizer, config["data"].get("tokenizer_sha256"), path)
        model.config.eos_token_id = model.generation_config.eos_token_id = end
    if model.config.is_encoder_decoder:  # an answer begins behind padding, as in `TextToText`
        start = model.config.pad_token_id
        model.config.decoder_start_token_id = start
        model.generation_config.decoder_start_token_id = start
    from transformers.utils import logging

    logging.disable_progress_bar()
    make_folder(path, "name another folder")
    model.save_pretrained(path)
    for file in path.glob("*.safetensors"):
        share(file)
    print(f"{path}: {', '.join(sorted(file.name for file in path.iterdir()))}")


def _save_tokenizer(file: Path, sha256: str | None, path: Path) -> int | None:
    """Writes a tokenizer.json, if it is the run's, as transformers reads it; returns its end."""
    from transformers import PreTrainedTokenizerFast

    from experiments.data.tokenizer import open_tokenizer

    end = open_tokenizer(str(file), sha256).eos_id
    found = PreTrainedTokenizerFast(tokenizer_file=str(file))
    if end is not None:
        found.eos_token = found.convert_ids_to_tokens(end)
    found.save_pretrained(path)
    return end


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
