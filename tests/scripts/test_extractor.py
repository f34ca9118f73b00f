"""scripts/extractor.py: the weights of a run under the names of its model."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
import yaml
from card_lab import SCRIPTS
from safetensors.torch import load_file

from experiments import checkpoint
from experiments.models.from_transformers import from_config

TINY = {"model_name": "GPT2LMHeadModel", "vocab_size": 7, "n_positions": 8, "n_embd": 4}
TINY |= {"n_layer": 1, "n_head": 2}


def call(*words: object) -> int:
    return runpy.run_path(str(SCRIPTS / "extractor.py"))["main"]([str(word) for word in words])


def saved(folder: Path, content: dict[str, object], **model: object) -> list[str]:
    """A run with a checkpoint; returns the options that name it."""
    checkpoint.save(folder / "a/checkpoints", 1, content, keep=1)
    section = {"_target_": "experiments.models.from_transformers.from_config", **TINY, **model}
    (folder / "a/config.yaml").write_text(yaml.safe_dump({"model": section, "data": {}}))
    return ["--results", str(folder)]


def test_tied_weights_are_written_under_each_of_their_names(tmp_path: Path) -> None:
    tied = torch.arange(6.0).view(3, 2).T  # not contiguous, and shared: safetensors refuses both
    model = {"embed": tied, "head": tied, "bias": torch.ones(2)}
    checkpoint.save(tmp_path / "runs/a/checkpoints", 1, {"model": model}, keep=1)
    out = tmp_path / "a.safetensors"
    assert call("a", out, "--results", tmp_path / "runs") == 0
    read = load_file(out)
    assert read.keys() == model.keys()
    assert all(torch.equal(read[name], model[name]) for name in model)


def test_averaged_weights_and_those_shown_by_schedule_free_have_plain_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"model": {"w": torch.zeros(1)}, "shown": {"w": torch.ones(1)}}
    content["average"] = {"n_averaged": torch.tensor(3), "module.w": torch.full((1,), 2.0)}
    where, out = saved(tmp_path / "runs", content), tmp_path / "a.safetensors"
    for weights, value in (("raw", 1.0), ("ema", 2.0)):  # raw: those that were evaluated
        assert call("a", out, *where, "--weights", weights) == 0
        assert {name: one.item() for name, one in load_file(out).items()} == {"w": value}
    where = saved(tmp_path / "others", {"model": content["model"]})
    assert call("a", tmp_path / "b", *where, "--weights", "ema") == 2
    assert "holds no ema weights" in capsys.readouterr().err and not (tmp_path / "b").exists()
    assert call("no", tmp_path / "b", *where) == 2
    assert (
        capsys.readouterr().err == f"error: {tmp_path / 'others/no'}: no checkpoint; train first\n"
    )


def test_transformers_reads_the_folder_as_the_same_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = from_config(**TINY, activation_checkpointing=True).eval()
    content = {"model": model.state_dict()}
    where, out = saved(tmp_path / "runs", content, activation_checkpointing=True), tmp_path / "out"
    assert call("a", out, *where, "--transformers") == 0
    read = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert read.config.use_cache
    tokens = torch.arange(6)[None]
    assert torch.equal(read(tokens).logits, model(tokens).logits)

    where = saved(tmp_path / "both", content, bidirectional=True)
    assert call("a", tmp_path / "b", *where, "--transformers") == 2
    assert "sees one side alone" in capsys.readouterr().err
    where = saved(tmp_path / "ours", content, _target_="torch.nn.Linear")
    assert call("a", tmp_path / "b", *where, "--transformers") == 2
    assert "its model is not one of transformers" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
