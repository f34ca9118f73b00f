"""A page of LiT, made small by overrides alone, on tiny files in the formats that people have."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_trees import image as png
from data_trees import tar
from outsiders import rows_of, weights
from PIL import Image

import run
from experiments import runner
from experiments.data.tokenizer_training import train_bpe
from experiments.jobs import evaluate
from experiments.store import read_json

SMALL = (
    "model.image._target_=timm.models.VisionTransformer", "~model.image.model_name",
    "+model.image.img_size=16", "+model.image.patch_size=8", "+model.image.embed_dim=12",
    "+model.image.depth=1", "+model.image.num_heads=2", "model.text.vocab_size=300",
    "model.text.hidden_size=8", "model.text.num_hidden_layers=1",
    "model.text.num_attention_heads=2", "model.text.intermediate_size=16", "model.embed_dim=12",
    "data.input_size=16",
    "data.num_workers=0", "data.num_train=12", "data.train_split={00000..00001}.tar",
    "train.steps=2", "train.batch_size=8", "train.micro_batch_size=4", "train.precision=fp32",
    "schedule.warmup_steps=1", "eval.every_steps=null", "eval.batch_size=16",
    "launch.device=cpu", "launch.num_threads=1", "launch.progress=false", "tracking.wandb=disabled",
    "optimizer=lion",
)  # fmt: skip


def pairs(root: Path) -> None:
    for shard in (0, 1):
        keys = [f"{6 * shard + k:09d}" for k in range(6)]
        members = [(f"{key}.jpg", png(20 * int(key))) for key in keys]
        members += [(f"{key}.txt", f"a picture of {int(key)}".encode()) for key in keys]
        tar(root / f"{shard:05d}.tar", members)


def coco(root: Path) -> None:
    images = []
    for k in range(3):
        (root / "val2014").mkdir(parents=True, exist_ok=True)
        (root / "val2014" / f"{k}.jpg").write_bytes(png(50 * k))
        said = [{"raw": f"caption {j} of {k}"} for j in range(5)]
        facts = {"filepath": "val2014", "filename": f"{k}.jpg", "split": "test", "sentences": said}
        images.append(facts)
    (root / "dataset_coco.json").write_text(json.dumps({"images": images}))


def cifar(root: Path) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    data = np.random.RandomState(0).randint(0, 255, (7, 3072)).astype(np.uint8)
    test: dict[bytes, Any] = {b"data": data, b"fine_labels": list(range(7))}
    names = {b"fine_label_names": [f"thing_{k}".encode() for k in range(100)]}
    (folder / "test").write_bytes(pickle.dumps(test, 2))
    (folder / "meta").write_bytes(pickle.dumps(names, 2))


def imagenet(root: Path) -> None:
    """Class folders of the first two classes; all 1,000 are named."""
    from timm.data.imagenet_info import ImageNetInfo

    for wnid in ImageNetInfo("imagenet-1k").label_names():
        for split in ("train", "val"):
            (root / split / wnid).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(file := io.BytesIO(), "PNG")
            (root / split / wnid / "1.png").write_bytes(file.getvalue())


def test_a_page_trains_and_measures_what_it_names(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    import timm.models

    data = tmp_path / "data"
    pairs(data / "pairs"), coco(data / "coco"), cifar(data)
    content = train_bpe(["a picture of a thing", "caption of one"], 300)
    (tmp_path / "tokenizer.json").write_bytes(content)
    vit = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=12, depth=1, num_heads=2, num_classes=5
    )
    torch.save(vit.state_dict(), tmp_path / "vit.pt")
    words = [
        "experiment=lit_b16_b", *SMALL, f"results_dir={tmp_path}/runs",
        f"data.root={data}/pairs", f"data.cache_dir={tmp_path}/cache",
        f"data.tokenizer_file={tmp_path}/tokenizer.json",
        f"data.tokenizer_sha256={hashlib.sha256(content).hexdigest()}",
        f"start_from.source={tmp_path}/vit.pt",
    ]  # fmt: skip
    asked = [
        "task.judge.metric=i2t_recall5", "task.judge.tune=coco", "task.judge.report=coco",
        f"task.judge.retrieval.coco.data.root={data}/coco",
        "+task.judge.retrieval.coco.data.num_workers=0",
        "task.judge.retrieval.coco.data.input_size=16",
        f"task.judge.zero_shot.cifar100.data.root={data}",
        "+task.judge.zero_shot.cifar100.data.num_workers=0",
        "task.judge.zero_shot.cifar100.data.input_size=16",
    ]  # fmt: skip
    made = run.compose([*words, *asked])
    outcome = runner.run(made)
    assert outcome.state == "finished"
    found = {(r["split"], r["metric"]): r for r in outcome.results}
    assert {split for split, _ in found} == {"coco", "cifar100"}
    assert found["coco", "i2t_recall1"]["n"] == 3 and found["coco", "t2i_recall10"]["n"] == 15
    assert found["cifar100", "zero_shot_top1"]["n"] == 7
    assert torch.equal(
        weights(made)["image.blocks.0.mlp.fc1.weight"], vit.state_dict()["blocks.0.mlp.fc1.weight"]
    )
    header = read_json(outcome.folder / "run.json")
    assert "image.pos_embed" in header["start_from"] and header["data"] == "cc12m_for_lit"

    imagenet(tmp_path / "imagenet")
    (tmp_path / "one.txt").write_text("{}\n")
    later = [
        f"task.judge.zero_shot.imagenet.data.root={tmp_path}/imagenet",
        "task.judge.zero_shot.imagenet.data.num_train=1000",
        "+task.judge.zero_shot.imagenet.data.num_workers=0",
        "task.judge.zero_shot.imagenet.data.input_size=16",
        f"task.judge.zero_shot.imagenet.templates={tmp_path}/one.txt",
        "job=evaluate", "evaluation=zero shot imagenet",
    ]  # fmt: skip
    rows = evaluate.measure(run.compose([*words, *later])).rows
    (one,) = [row for row in rows if row["metric"] == "zero_shot_top1"]
    assert (one["split"], one["n"], one["step"]) == ("imagenet_val", 1000, 2)
    assert rows_of(made, "i2t_recall5")[0]["value"] == found["coco", "i2t_recall5"]["value"]
