"""What a plan says of each optimizer page against the checkpoint of a real run of two steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from experiments import checkpoint, runner
from experiments.compose import compose
from experiments.config import RunConfig
from experiments.pages import CONF
from experiments.planner import optimizer_state, plan
from experiments.planner.model_facts import num_bytes
from experiments.planner.stand_ins import task_without_data
from experiments.planner.trial import Blank

PAGES = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))
PACKAGE_OF = {"schedulefree": "schedulefree"}  # beside what is always installed
CHANGES = {"schedulefree": ["schedule.name=constant"]}
BYTES_OF_A_COUNT = 8  # averaging counts its steps


def config(page: str, folder: Path, *changes: str) -> RunConfig:
    """Two steps of a ViT with a patch embedding, tokens, matrices, norms and biases."""
    small = ["model.depth=1", "train.epochs=null", "train.steps=2", "train.batch_size=4"]
    small += ["schedule.warmup_fraction=0", f"results_dir={folder}", "launch.progress=false"]
    alike = CHANGES.get(page, [])
    asked = ["experiment=vit_proxy", f"optimizer={page}", "launch.device=cpu"]
    return compose([*asked, *small, *alike, *changes])


def saved(asked: RunConfig) -> dict[str, int]:
    """Bytes of each part of the checkpoint of a run."""
    folder = runner.run(asked).folder / "checkpoints"
    (path,) = checkpoint.good_ones(folder)
    content = checkpoint.load(path)
    parts = ("model", "optimizer", "average", "shown")
    leaves = {part: tree_leaves(content.get(part)) for part in parts}
    return {
        part: num_bytes(leaf for leaf in found if isinstance(leaf, Tensor))
        for part, found in leaves.items()
    }


@pytest.mark.parametrize("page", PAGES)
def test_state_and_checkpoint_of_a_page_are_those_of_a_real_run(page: str, tmp_path: Path) -> None:
    if page in PACKAGE_OF:
        pytest.importorskip(PACKAGE_OF[page])
    asked = config(page, tmp_path)
    blank = Blank(task_without_data(asked), asked, on_gpu=False)
    found = optimizer_state.measure(asked.optimizer, asked, blank)
    real = saved(asked)
    assert found.state == real["optimizer"] > 0
    weights = num_bytes([*blank.plain.parameters(), *blank.plain.buffers()])
    assert weights == real["model"]
    assert (weights if found.shows_others else 0) == real["shown"]


@pytest.mark.parametrize("page, changes", [("schedulefree", ""), ("lion", "train.ema_decay=0.9")])
def test_a_checkpoint_counts_each_copy_of_the_weights(
    page: str, changes: str, tmp_path: Path
) -> None:
    if page in PACKAGE_OF:
        pytest.importorskip(PACKAGE_OF[page])
    asked = config(page, tmp_path, *filter(None, [changes]))
    real = saved(asked)
    assert sum(real.values()) - plan.make(asked)["checkpoint_bytes"] in (0, BYTES_OF_A_COUNT)
    assert sum(part >= real["model"] for part in real.values()) == 3


@pytest.mark.parametrize("page", ["adafactor", "lion", "muon", "nadam", "schedulefree"])
def test_state_of_16_bit_weights_is_counted(page: str, tmp_path: Path) -> None:
    if page in PACKAGE_OF:
        pytest.importorskip(PACKAGE_OF[page])
    low = ["train.param_dtype=bfloat16", "train.precision=bf16"]
    asked = config(page, tmp_path, *low)
    blank = Blank(task_without_data(asked), asked, on_gpu=False)
    assert blank.plain.get_parameter("head.weight").dtype == torch.bfloat16
    found = optimizer_state.measure(asked.optimizer, asked, blank)
    assert found.state == saved(asked)["optimizer"] > 0
