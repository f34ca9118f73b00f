"""The paper's own pages on tiny data in files: pre-trained, then fine-tuned, from end to end."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import runner
from experiments.config import RunConfig
from experiments.store import read_json, read_rows
from run import compose

TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2, "activation_checkpointing": False}
SHORT = ["launch.device=cpu", "launch.num_threads=1", "launch.progress=false"]
SHORT += ["train.precision=fp32", "train.micro_batch_size=null", "tracking.wandb=disabled"]
SHORT += ["data.num_workers=0", "data.real_labels=false", "eval.every_steps=null"]


def images(root: Path, splits: dict[str, list[str]], number: int) -> None:
    """Class folders; each class has a brightness of its own."""
    for split, names in splits.items():
        for place, name in enumerate(names):
            for index in range(number):
                value = 40 * place + index
                pixels = np.full((40, 48, 3), value, dtype=np.uint8)
                Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
                path = root / split / name / f"{name}_{split}_{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.getvalue())


def tiny(page: str, optimizer: str, px: int, root: Path, *changes: str) -> RunConfig:
    given = [f"data.root={root}", f"data.cache_dir={root.parent}/cache", f"data.input_size={px}"]
    place = [f"results_dir={root.parent}/runs", "train.batch_size=8", "schedule.warmup_steps=1"]
    made = compose(
        [f"experiment={page}", f"optimizer={optimizer}", *SHORT, *given, *place, *changes]
    )
    made.model |= {**TINY, "img_size": px}
    return made


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("vit_b16_jft300m", "vit_l16_512_from_jft300m"),  # class token; averaged
        ("vit_giant14_jft3b", "vit_giant14_518_from_jft3b"),  # pooling by attention, rsqrt
    ],
)
def test_a_page_of_pretraining_and_one_of_fine_tuning_run_one_after_the_other(
    before: str, after: str, tmp_path: Path
) -> None:
    many, few = tmp_path / "many", tmp_path / "few"
    images(many, {".": ["ant", "bee", "cat", "dog"]}, 5)
    images(few, {"train": ["x", "y"], "val": ["x", "y"]}, 6)
    labels = tmp_path / "more.tsv"
    labels.write_text("".join(f"ant_._{n}.png\tdog\n" for n in range(5)))
    digest = hashlib.sha256(labels.read_bytes()).hexdigest()
    patch = 14 if "14" in before else 16
    cooldown = ["schedule.cooldown_steps=2"] if "jft3b" in before else []
    first = tiny(
        before, "lion", 2 * patch, many, "data.num_classes=4", "data.num_train=20", "train.steps=4",
        "data.num_holdout=4", f"data.more_labels={labels}", f"data.more_labels_sha256={digest}",
        *cooldown,
    )  # fmt: skip
    outcome = runner.run(first)
    assert outcome.state == "finished"
    curve = [
        r["value"] for r in outcome.results if (r["split"], r["metric"]) == ("minival", "loss")
    ]
    assert len(curve) == 1 and 0 < curve[0] < 15  # each of one or two yes costs 10 at first

    second = tiny(
        after, "sgd", 3 * patch, few, "data.num_classes=2", "data.num_train=12", "train.steps=3",
        f"start_from.source={outcome.run_id}", "model.num_classes=2",
    )  # fmt: skip
    tuned = runner.run(second)
    header: dict[str, Any] = read_json(tuned.folder / "run.json")
    (said,) = json.loads(header["start_from"])
    assert header["init_optimizer"] == said["optimizer"] == "lion"
    assert said["left_out"] == ["head.bias", "head.weight"] and list(said["resized"]) == [
        "pos_embed"
    ]
    rows = read_rows(tuned.folder / "metrics.jsonl")
    found = {(r["split"], r["weights"]) for r in rows if r["metric"] == "top1"}
    assert found == {("imagenet_val", "raw"), ("imagenet_val", "ema")}
    headline = header["headline"]
    headline = json.loads(headline) if isinstance(headline, str) else headline
    assert headline["weights"] == "ema"
