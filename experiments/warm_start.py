"""Weights from elsewhere into a new model: from a run, or a file of this suite, timm, transformers.

Every tensor of the model must be found, or be left out by name; what does not fit is an error that
names it. What was resized and what was left out goes into the run's header. Nothing is unpickled.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments import checkpoint, start_from
from experiments.config import RunConfig, UserError
from experiments.sharded_state import fill
from experiments.start_from import Source
from experiments.store import Folder, read_config, read_json
from experiments.tasks.task import Task

State = dict[str, Tensor]
Grids = dict[str, tuple[int, int]]
"""Name of an embedding of positions: rows and columns of patches behind it."""
_WRAPPERS = ("module.", "_orig_mod.", "model.module.")
_KEYS = {
    "raw": ("shown", "model", "state_dict", "model_state_dict", "module"),
    "ema": ("average", "state_dict_ema", "model_ema", "ema"),
}
"""Where the files of this suite and of timm hold raw and averaged weights."""
_SHOWN = 5


def load(config: RunConfig, task: Task, model: nn.Module) -> list[dict[str, Any]]:
    """Loads what `start_from` names into a model, in place.

    Returns:
        For each source what the header of the run says: source, sha256, weights, optimizer (that
        trained them, where it is known), step, loaded (number of tensors), resized (name: shapes),
        left_out (names that keep fresh weights).

    Raises:
        UserError: for a source that is missing, unfinished, damaged, or does not fit.
    """
    return [_load(source, config, task, model) for source in start_from.sources(config)]


def _load(source: Source, config: RunConfig, task: Task, model: nn.Module) -> dict[str, Any]:
    folder = start_from.folder_of_run(source, config.results_dir)
    path = Path(source.source).expanduser()
    facts: dict[str, Any] = {"source": source.source, "weights": source.weights}
    if folder is not None:
        path, more = _end_of_run(Folder(folder))
        facts |= more
    facts["sha256"] = start_from.checksum(path)
    if source.sha256 and source.sha256 != facts["sha256"]:
        raise UserError(
            f"start_from: {path} has the SHA-256 {facts['sha256']}, not the one that was asked "
            f"for ({source.sha256}): it is another file"
        )
    found = _renamed(_read(path, source), source)
    grids = _grids(found, source, folder)
    own = {n: t for n, t in model.state_dict().items() if n.startswith(source.into)}
    kept = {n for n in own if _matches(n, source.leave_out)}
    taken = {n: t for n, t in found.items() if not _matches(n, source.leave_out)}
    _check_patterns(source, [*own, *found])
    fitted = task.adapt(_on_known_grids(taken, model, grids), model)
    _check_fit(fitted, own, kept, source)
    _check_values(fitted, own, source)
    for name, tensor in fitted.items():
        fill(own[name], tensor)
    resized = _resized(taken, fitted, model, grids)
    return {**facts, "loaded": len(fitted), "resized": resized, "left_out": sorted(kept)}


def _grids(found: State, source: Source, folder: Path | None) -> Grids:
    """Those that the command says, or the recorded configuration of the run."""
    from experiments.models.position_embeddings import grids_behind

    names = {source.take + n.removeprefix(source.into): n for n in found}
    if not any(name.endswith("pos_embed") for name in names) and not source.grid:
        return {}
    section = {} if folder is None else read_config(folder).get("model")
    grids = grids_behind(names, section, source.grid)
    return {names[name]: grid for name, grid in grids.items()}


def _on_known_grids(taken: State, model: nn.Module, grids: Grids) -> State:
    """With embeddings resampled whose grid is known; tasks do it for others (`Task.adapt`)."""
    if not any(name in taken for name in grids):
        return dict(taken)
    from experiments.models.position_embeddings import resized

    return resized(taken, model, grids)


def _resized(taken: State, fitted: State, model: nn.Module, grids: Grids) -> dict[str, str]:
    """Name of what was resized: from what to what."""
    from experiments.models.position_embeddings import in_words

    return {
        name: in_words(name, taken[name], tensor, model, grids.get(name))
        for name, tensor in fitted.items()
        if name in taken
        and (taken[name].shape != tensor.shape or (name in grids and tensor is not taken[name]))
    }


def in_words(facts: Mapping[str, Any]) -> str:
    """For the log, of one source that `load` gave: what was taken, resized, and left fresh."""
    weights = "averaged weights" if facts["weights"] == "ema" else "weights"
    line = f"begins with {facts['loaded']} {weights} of {facts['source']}"
    if resized := [f"{name} {shapes}" for name, shapes in facts["resized"].items()]:
        line += f"; resized: {_listed(resized)}"
    if facts["left_out"]:
        line += f"; fresh: {_listed(facts['left_out'])}"
    return line


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _end_of_run(folder: Folder) -> tuple[Path, dict[str, Any]]:
    """The last checkpoint of a finished run, and what its header says."""
    state = read_json(folder.status)
    if state.get("state") != "finished":
        said = state.get("state", "unknown")
        raise UserError(
            f"start_from: the run {folder.path.name} is {said}, not finished: train it to its end"
        )
    path = checkpoint.find_good(folder.checkpoints)
    if path is None or checkpoint.step_of(path) != state.get("step"):
        raise UserError(f"start_from: {folder.path.name} has no good checkpoint of its last step")
    header = read_json(folder.header)
    facts = {"optimizer": header.get("optimizer"), "step": checkpoint.step_of(path)}
    return path, {**facts, "source": folder.path.resolve().name}


def _read(path: Path, source: Source) -> State:
    """The state dict in a file or folder, with plain names.

    Raises:
        UserError: for a file that holds none.
    """
    try:
        content = _read_folder(path) if path.is_dir() else _read_file(path)
    except UserError:
        raise
    except pickle.UnpicklingError as error:  # whose many lines name a way round the safety
        raise UserError(
            f"start_from: {path} cannot be read as weights: it is damaged, or would run code; save "
            "its tensors alone, e.g. as safetensors"
        ) from error
    except Exception as error:  # every reader has errors of its own for a damaged file
        reason = str(error).partition("\n")[0]
        raise UserError(f"start_from: {path} cannot be read as weights: {reason}") from error
    found = weights_in(content, source.weights)
    if found is None:
        raise UserError(f"start_from: {path} holds no {source.weights} weights")
    return found


def weights_in(content: dict[str, Any], kind: str) -> State | None:
    """The weights of a checkpoint, of this suite or timm, under plain names.

    Args:
        content: As loaded.
        kind: raw: those to be used; ema: averaged.

    Returns:
        None where it has none of that kind.
    """
    found = next((content[k] for k in _KEYS[kind] if _is_state(content.get(k))), None)
    if found is None and kind == "raw" and _is_state(content):
        found = content
    if found is None:
        return None
    return {_plain(name): tensor for name, tensor in found.items() if name != "n_averaged"}


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(map(torch.is_tensor, value.values()))


def _plain(name: str) -> str:
    """Without the prefixes of DDP, torch.compile and AveragedModel."""
    for prefix in _WRAPPERS:
        name = name.removeprefix(prefix)
    return name


def _read_file(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise UserError(f"start_from: {path} holds no dictionary of tensors")
    return content


def _read_folder(path: Path) -> dict[str, Any]:
    """A folder as transformers saves it, one file or shards with an index; or of our shards."""
    if path.suffix == ".shards":
        return checkpoint.load(path)
    for name in start_from.WEIGHTS:
        if (path / name).exists():
            return _read_file(path / name)
        index = read_json(path / f"{name}.index.json").get("weight_map")
        if index:
            shards = sorted(set(index.values()))
            return {k: v for shard in shards for k, v in _read_file(path / shard).items()}
    raise UserError(
        f"start_from: {path} has neither model.safetensors nor pytorch_model.bin (nor run.json)"
    )


def _renamed(state: State, source: Source) -> State:
    """Names as in the model: below `take` in the source, below `into` here."""
    below = {n: t for n, t in state.items() if n.startswith(source.take)}
    if not below:
        raise UserError(f"start_from: nothing in {source.source} is named {source.take}...")
    return {source.into + n.removeprefix(source.take): t for n, t in below.items()}


def _check_fit(fitted: State, own: State, kept: set[str], source: Source) -> None:
    """That every tensor of the model is found in its shape, and nothing is left over."""
    missing = [n for n in own if n not in fitted and n not in kept]
    foreign = [n for n in fitted if n not in own]
    misfit = [n for n in fitted if n in own and fitted[n].shape != own[n].shape]
    problems = [f"it lacks {_listed(missing)}"] if missing else []
    problems += [f"the model has no {_listed(foreign)}"] if foreign else []
    if not (problems or fitted):
        raise UserError(f"start_from: nothing of {source.source} is left to begin with: leave it")
    problems += [
        f"{n} is {tuple(fitted[n].shape)} there and {tuple(own[n].shape)} here"
        for n in misfit[:_SHOWN]
    ]
    if problems:
        names = [*misfit, *missing, *foreign]
        raise UserError(
            f"start_from: {source.source} does not fit the model: {'; '.join(problems)}; what "
            f"shall keep fresh weights is left out by name, e.g. start_from.leave_out="
            f"{json.dumps(_patterns(names, [*own, *fitted]), separators=(',', ':'))}".replace(
                '"', ""
            )
        )


def _check_patterns(source: Source, names: list[str]) -> None:
    """A pattern that leaves nothing out would only give the same run another id."""
    for pattern in source.leave_out:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"start_from.leave_out={pattern}: no tensor of {source.source} or of the model is "
                "named so: take it out of the list"
            )


def _check_values(fitted: State, own: State, source: Source) -> None:
    """Weights that can be trained on: numbers of the same kind, finite."""
    for name, tensor in fitted.items():
        kind, ours = tensor.dtype, own[name].dtype
        if tensor.is_floating_point() != own[name].is_floating_point():
            raise UserError(f"start_from: {name} of {source.source} is {kind}, and {ours} here")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"start_from: {name} of {source.source} is not finite")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _patterns(names: list[str], all_names: list[str]) -> list[str]:
    """`head.*` for head.weight and head.bias, where it means nothing else; at most a few."""
    found = []
    for name in names:
        below = f"{name.rpartition('.')[0]}." if "." in name else name
        others = {n for n in all_names if n.startswith(below)} - set(names)
        found.append(name if others or "." not in name else f"{below}*")
    return list(dict.fromkeys(found))[:_SHOWN]
