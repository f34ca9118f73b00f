"""scripts/extractor.py: the weights of a run under the names of its model."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch
from card_lab import SCRIPTS
from safetensors.torch import load_file

from experiments import checkpoint


def test_tied_weights_are_written_under_each_of_their_names(tmp_path: Path) -> None:
    tied = torch.arange(6.0).view(3, 2).T  # not contiguous, and shared: safetensors refuses both
    model = {"embed": tied, "head": tied, "bias": torch.ones(2)}
    checkpoint.save(tmp_path / "runs/a/checkpoints", 1, {"model": model}, keep=1)
    main = runpy.run_path(str(SCRIPTS / "extractor.py"))["main"]
    out = tmp_path / "a.safetensors"
    assert main(["a", str(out), "--results", str(tmp_path / "runs")]) == 0
    read = load_file(out)
    assert read.keys() == model.keys()
    assert all(torch.equal(read[name], model[name]) for name in model)
