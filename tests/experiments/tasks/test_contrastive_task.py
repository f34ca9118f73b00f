"""Contrastive training: the loss of the global batch, locked towers, parts from several sources."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import numpy as np
import pairs
import pytest
import torch
from outsiders import assert_close, losses, rows_of, weights

from experiments import checkpoint, runner
from experiments.build import build
from experiments.config import UserError
from experiments.data.feature_store import FeatureStore
from experiments.data.order import derive, seed_all
from experiments.distributed import World
from experiments.identity import run_id
from experiments.models.contrastive_loss import contrastive_loss
from experiments.models.two_towers import TwoTowers, bounded
from experiments.settings.contrastive import ContrastiveTaskConfig
from experiments.store import read_json
from experiments.sweep.vectorised import groups, run_group
from experiments.tasks import frozen_features
from experiments.tasks.contrastive import Contrastive

ALONE = World(0, 1, torch.device("cpu"))
LOCKED: dict[str, Any] = {"param_groups__frozen": ["image.*"]}
SHORT = {
    "_target_": "experiments.models.text_towers.TransformersTextTower", "vocab_size": 12,
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 3,
}  # fmt: skip
NOWHERE = {
    "_target_": "experiments.data.karpathy.KarpathyCaptions", "name": "x", "root": "/nowhere"
}  # fmt: skip
LACKING = {**NOWHERE, "root": ".", "annotations": "lacking.json"}
COLOURED = {"data": {"_target_": "pairs.coloured"}, "templates": "glyph_templates"}


def reference(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss in float64 and its gradients, from the formulas; no autograd."""
    logits = x @ y.T
    n = len(logits)

    def softmax(z: np.ndarray, axis: int) -> np.ndarray:
        z = np.exp(z - z.max(axis, keepdims=True))
        return z / z.sum(axis, keepdims=True)

    to_texts, to_images = softmax(logits, 1), softmax(logits, 0)
    right = np.arange(n)
    loss = -np.log(to_texts[right, right]).mean() / 2 - np.log(to_images[right, right]).mean() / 2
    d_logits = (to_texts + to_images - 2 * np.eye(n)) / (2 * n)
    return loss, d_logits @ y, d_logits.T @ x


def test_the_loss_and_its_gradients_are_the_formulas() -> None:
    random_state = np.random.RandomState(0)
    x, y = 4 * random_state.randn(7, 3), random_state.randn(7, 3)
    expected = reference(x, y)
    images, texts = (torch.tensor(z, dtype=torch.float32, requires_grad=True) for z in (x, y))
    loss = contrastive_loss(images, texts, ALONE)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(expected[0], rel=1e-5)
    for tensor, grad in ((images, expected[1]), (texts, expected[2])):
        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad.numpy(), grad, rtol=1e-4, atol=1e-6)


def float64_losses(made: Any, steps: int) -> list[float]:
    """SGD with momentum on the whole batch, in float64, with the reference's gradients."""
    task = Contrastive(made.data, made.model)
    seed_all(derive(made.seed, "init"))
    model = task.build_model()
    for parameter in model.image.parameters() if made.param_groups.frozen else ():
        parameter.requires_grad_(False)
    model = model.double()
    trained = [p for p in model.parameters() if p.requires_grad]
    momenta = [torch.zeros_like(p) for p in trained]
    from experiments.data.order import BatchPlan

    plan, found = BatchPlan(made.seed, 96, 32, 32), []
    for (batch,) in task.batches(plan, 0, steps):
        images, tokens = batch
        x = model.image_head(model.image(images.double()))
        y = model.text_head(model.text(tokens))
        x, y = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)
        x = x * model.log_scale.exp()
        loss, dx, dy = reference(x.detach().numpy(), y.detach().numpy())
        found.append(float(loss))
        grads = torch.autograd.grad(
            [x, y], trained, [torch.from_numpy(dx), torch.from_numpy(dy)], allow_unused=True
        )
        with torch.no_grad():
            for parameter, momentum, grad in zip(trained, momenta, grads, strict=True):
                momentum.mul_(0.9).add_(grad)
                parameter.sub_(0.1 * momentum)
    return found


@pytest.mark.parametrize("frozen", [{}, LOCKED], ids=["both", "locked"])
@pytest.mark.parametrize(
    ("num_ranks", "micro"), [(1, None), (1, 8), (2, None), (2, 4)], ids=lambda v: str(v)
)
def test_a_run_is_that_of_the_reference_however_it_is_cut(
    tmp_path: Path, num_ranks: int, micro: int | None, frozen: dict[str, Any]
) -> None:
    made = pairs.config(
        tmp_path, train__micro_batch_size=micro, schedule__name="constant", **frozen
    )
    if num_ranks == 1:
        runner.run(made)
    else:
        assert forked.run_ranks(made, num_ranks) == [0] * num_ranks
    assert losses(made) == pytest.approx(float64_losses(made, 6), rel=1e-4)


def test_evaluations_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    one, two = (pairs.config(tmp_path / name, tmp_path) for name in ("one", "two"))
    runner.run(one)
    assert forked.run_ranks(two, 2) == [0, 0]
    assert_close(one, two)
    names = [f"{way}_recall{depth}" for way in ("i2t", "t2i") for depth in (1, 5, 10)]
    for metric in (*names, "zero_shot_top1", "zero_shot_loss"):
        ours, theirs = rows_of(one, metric), rows_of(two, metric)
        assert ours and len(ours) == len(theirs)
        for row, other in zip(ours, theirs, strict=True):
            assert row["value"] == pytest.approx(other["value"], rel=1e-4)
            assert (row["split"], row["n"]) == (other["split"], other["n"])
            assert row["instrument"] == other["instrument"]


@pytest.mark.parametrize("cached", [False, True])
def test_killed_and_resumed_is_bit_equal(
    tmp_path: Path, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    changes = {**LOCKED, "task__cache_features": cached}
    whole, part = (pairs.config(tmp_path / name, **changes) for name in "ab")
    runner.run(whole)
    encode, calls = Contrastive.encode, iter(range(1, 99))

    def dies(self: Any, *args: Any) -> Any:
        if next(calls) == 5:
            raise RuntimeError("killed")
        return encode(self, *args)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(Contrastive, "encode", dies)
        runner.run(part)
    runner.run(part)
    forked.assert_same_end(whole, part)


def test_two_processes_with_a_tower_that_reads_its_statistics_resume_bit_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step begins with those of the main process, the only ones that are saved."""
    tower = {**pairs.MODEL, "image": {"_target_": "pairs.Remembering"}}
    whole, part = (
        pairs.config(tmp_path / name, model=tower, train__micro_batch_size=8) for name in "ab"
    )
    assert forked.run_ranks(whole, 2) == [0, 0]
    encode, calls = Contrastive.encode, iter(range(1, 99))

    def dies(self: Any, *args: Any) -> Any:
        if next(calls) == 17:  # of the fifth step; each of two micro-batches is met twice
            os._exit(9)
        return encode(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Contrastive, "encode", dies)
        assert forked.run_ranks(part, 2) == [9, 9]
    assert forked.weights(part)["step"] == 3
    assert forked.run_ranks(part, 2) == [0, 0]
    forked.assert_same_end(whole, part)


def test_a_locked_tower_stays_as_it_is_and_costs_nothing(tmp_path: Path) -> None:
    made = pairs.config(tmp_path, model__image__dropout=0.5, **LOCKED)
    runner.run(made)
    task = Contrastive(made.data, made.model)
    seed_all(derive(made.seed, "init"))
    fresh, after = task.build_model().state_dict(), weights(made)
    is_same = {name: torch.equal(tensor, after[name]) for name, tensor in fresh.items()}
    assert {n for n, same in is_same.items() if same} == {
        n for n in fresh if n.startswith("image.")
    }
    path = checkpoint.find_good(tmp_path / run_id(made) / "checkpoints")
    assert path is not None
    trained = sum(not name.startswith("image.") for name in fresh)
    assert len(checkpoint.load(path)["optimizer"]["state"]) == trained
    model = task.build_model()
    for parameter in model.image.parameters():
        parameter.requires_grad_(False)
    images, tokens = (
        tensor[:4] for tensor in (task.source.splits["train"][0], task.source._train_tokens)
    )
    assert not model.image_features(images.requires_grad_()).requires_grad
    assert model(images, tokens)[0].requires_grad  # by the scale


def kept_bytes(model: Any, *inputs: torch.Tensor) -> int:
    """What a forward pass keeps for the backward pass, and the gradients that this leaves."""
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        images, texts = model(*inputs)
    contrastive_loss(images, texts, ALONE).backward()
    return sum(kept) + sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)


def test_a_locked_tower_keeps_as_many_bytes_as_none_at_all() -> None:
    """Measured: as with features that were computed before; a trained tower keeps far more."""
    seed_all(0)
    images, tokens = torch.randn(8, 3, 5, 5), torch.randint(1, 12, (8, 4))
    model = TwoTowers(**{k: v for k, v in pairs.MODEL.items() if k != "_target_"})
    trained = kept_bytes(model, images, tokens)
    model.zero_grad(set_to_none=True)
    for parameter in model.image.parameters():
        parameter.requires_grad_(False)
    locked = kept_bytes(model, images, tokens)
    model.zero_grad(set_to_none=True)
    features = model.image_features(images)
    assert locked == kept_bytes(model, features, tokens)
    weights = sum(p.nbytes for p in model.image.parameters())
    assert trained - locked > weights + images.nbytes


@pytest.mark.parametrize(("num_ranks", "micro"), [(1, None), (1, 8), (2, None), (2, 4)])
def test_cached_features_train_like_the_tower(
    tmp_path: Path, num_ranks: int, micro: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("experiments.data.feature_store.PIECE", 20)
    monkeypatch.setattr(frozen_features, "AT_A_TIME", 7)
    changes = {**LOCKED, "train__micro_batch_size": micro}
    plain = pairs.config(tmp_path / "plain", **changes)
    cached = pairs.config(tmp_path / "cached", task__cache_features=True, **changes)
    runner.run(plain)
    if num_ranks == 1:
        runner.run(cached)
    else:
        assert forked.run_ranks(cached, num_ranks) == [0] * num_ranks
    assert losses(plain) == pytest.approx(losses(cached), rel=2e-5)
    (folder,) = (tmp_path / "cache/lion-experiments/features").iterdir()
    assert len(list(folder.glob("*.npy"))) == 5
    monkeypatch.setattr(pairs.Tower, "forward", None)  # nothing is computed a second time
    task = Contrastive(cached.data, cached.model, cache_features=True)
    seed_all(derive(cached.seed, "init"))
    model = task.build_model()
    for parameter in model.image.parameters():
        parameter.requires_grad_(False)
    assert task._features is not None
    assert task._features.take(model, torch.tensor([95, 0, 20])).shape == (3, 6)
    with torch.no_grad():
        model.image.body[1].bias += 1.0
    task = Contrastive(cached.data, cached.model, cache_features=True)
    assert task._features is not None
    with pytest.raises(TypeError):  # other weights, other features
        task._features.take(model, torch.tensor([0]))


def test_another_tower_of_the_same_weights_has_features_of_its_own(tmp_path: Path) -> None:
    """Pooling and activations have no weights: the hash of these alone took the wrong features."""

    def key(**image: Any) -> str:
        made = pairs.config(tmp_path, task__cache_features=True, **LOCKED)
        task = Contrastive(made.data, {**made.model, "image": {**made.model["image"], **image}},
                           cache_features=True)  # fmt: skip
        assert task._features is not None
        return task._features._key(tower, ALONE.device)

    seed_all(0)
    tower = pairs.Tower()
    assert key() == key(activation_checkpointing=True) != key(dropout=0.5)


def test_pixels_are_shifted_by_the_mean_and_divided_by_the_deviation() -> None:
    task = Contrastive.__new__(Contrastive)
    task.settings = ContrastiveTaskConfig(mean=[0.25], std=[0.5])
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert task._prepared(pixels).flatten().tolist() == [-0.5, 1.5]


def test_images_that_are_prepared_otherwise_have_features_of_their_own() -> None:
    tower, keys = torch.nn.Linear(2, 2), []
    usual = {"crop": "centre", "interpolation": "bicubic", "mean": [0.5], "std": [0.5]}
    other = {"crop": "random", "interpolation": "box", "mean": [0.4], "std": [0.4]}
    changes = [{}, *({key: value} for key, value in other.items())]
    for settings, side, files in (
        *((usual | change, 8, "a") for change in changes), (usual, 9, "a"), (usual, 8, "b")
    ):  # fmt: skip
        images = torch.empty(1, 3, side, side)
        source: Any = SimpleNamespace(fingerprint=files, example_batch=lambda _, x=images: (x,))
        told = SimpleNamespace(horizontal_flip=0.0, **settings)
        features = frozen_features.FrozenFeatures(source, told, lambda x: x, {})
        keys.append(features._key(tower, ALONE.device))
        with torch.autocast("cpu", torch.bfloat16):
            keys.append(features._key(tower, ALONE.device))
    assert len(set(keys)) == len(keys) == 14


def test_a_damaged_piece_is_named(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store", 5)
    store.put(0, [torch.ones(5, 2)])
    (path,) = store.folder.glob("*.npy")
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"000000.npy cannot be read .*: remove it"):
        store.take(torch.tensor([1]))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="set task.cache_features=false"):
        FeatureStore(tmp_path / "file", 5).put(0, [torch.ones(5, 2)])


def test_the_scale_is_bounded_and_comes_back() -> None:
    for value, direction, expected in ((1.0, 1, 1), (1.0, -1, -1), (3.0, 1, 1), (3.0, -1, 0)):
        x = torch.tensor(value, requires_grad=True)
        (direction * bounded(x, 2.0)).backward()
        assert x.grad is not None and float(x.grad) == expected
        assert float(bounded(x, 2.0).detach()) == min(value, 2.0)
    model = TwoTowers(**{k: v for k, v in pairs.MODEL.items() if k != "_target_"})
    with torch.no_grad():
        model.log_scale.fill_(99.0)
    assert float(model.scale.detach()) == pytest.approx(100.0)


def test_one_batch_is_learnt_by_heart_and_every_part_gets_a_gradient(tmp_path: Path) -> None:
    made = pairs.config(tmp_path)
    task = Contrastive(made.data, made.model)
    seed_all(0)
    model = task.build_model()
    images, captions = task.source.splits["train"]
    kinds = [captions.index(caption) for caption in dict.fromkeys(captions)]
    batch = images[kinds], task.source._train_tokens[kinds]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    seen = []
    for _ in range(150):
        loss = task.loss(model, batch, ALONE).mean
        optimizer.zero_grad()
        loss.backward()
        seen.append(float(loss.detach()))
        optimizer.step()
    assert seen[0] == pytest.approx(np.log(20), abs=1.5) and seen[-1] < 0.1
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers")
def test_padding_changes_nothing() -> None:
    seed_all(0)
    model = TwoTowers(**{k: v for k, v in pairs.MODEL.items() if k != "_target_"})
    tokens = torch.tensor([[3, 7, 1]])
    longer = torch.tensor([[3, 7, 1, 0, 0]])
    torch.testing.assert_close(model.encode_text(tokens), model.encode_text(longer))
    bert = build({**SHORT, "max_position_embeddings": 5}, "model.text").eval()
    torch.testing.assert_close(bert(tokens), bert(longer))


def test_runs_are_trained_together(tmp_path: Path) -> None:
    def some(folder: str) -> list[Any]:
        return [pairs.config(tmp_path / folder, optimizer__lr=lr, **LOCKED) for lr in (0.05, 0.1)]

    together, alone = some("a"), some("b")
    assert groups(together) == [[0, 1]]
    assert [entry.state for entry in run_group(together, compile=False)] == ["finished"] * 2
    for one, other in zip(together, alone, strict=True):
        runner.run(other)
        assert losses(one) == pytest.approx(losses(other), rel=1e-4)


def test_each_tower_begins_with_its_own_file(tmp_path: Path) -> None:
    """A ViT for a larger grid than it was trained at, and a text tower from a run of before."""
    image = {
        "_target_": "timm.models.VisionTransformer", "img_size": 4, "patch_size": 2, "embed_dim": 6,
        "depth": 1, "num_heads": 1, "num_classes": 0,
    }  # fmt: skip
    import timm.models

    seed_all(3)
    tower = timm.models.VisionTransformer(**{k: v for k, v in image.items() if k != "_target_"})
    torch.save(tower.state_dict(), tmp_path / "vit.pt")
    before = pairs.config(tmp_path)
    runner.run(before)
    sources = [
        {"source": str(tmp_path / "vit.pt"), "into": "image."},
        {"source": run_id(before), "take": "text.", "into": "text."},
    ]
    larger = {**image, "img_size": 5, "patch_size": 1}
    changes: dict[str, Any] = {"model__image": larger, "start_from": {"source": sources}}
    wrong = pairs.config(tmp_path, **changes)
    with pytest.raises(
        UserError, match=r"image.patch_embed.proj.weight is .* start_from.leave_out"
    ):
        runner.run(wrong)
    sources[0]["leave_out"] = ["image.patch_embed.*"]
    made = pairs.config(tmp_path, optimizer__lr=0.0, **changes)
    runner.run(made)
    found, old = weights(made), weights(before)
    assert torch.equal(found["image.blocks.0.attn.qkv.weight"], tower.blocks[0].attn.qkv.weight)
    assert torch.equal(found["text.embedding.weight"], old["text.embedding.weight"])
    assert not torch.equal(found["text_head.weight"], old["text_head.weight"])
    assert found["image.pos_embed"].shape == (1, 26, 6)
    header = read_json(tmp_path / run_id(made) / "run.json")
    assert "image.pos_embed" in header["start_from"]
    assert header["init_optimizer"] == before.optimizer_name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model__embed_dim": 5}, "gives 6 features, and model.embed_dim=5: set model.image_head="),
        ({"model__text__pad_id": 4}, "model.text.pad_id=4: the tokenizer's padding is 0"),
        ({"model__text__pooling": "first"}, "set model.text.pooling=mean"),
        ({"model__text__pooling": "max"}, "choose one of mean, first"),
        ({"model__text__vocab_size": 9}, "12 tokens and the model 9"),
        pytest.param(
            {"model__text": SHORT},
            r"data\.num_tokens=4: the model has 3 positions",
            marks=pytest.mark.skipif(find_spec("transformers") is None, reason="transformers"),
        ),
        ({"model__scale_init": 200.0}, "scale_init=200.0 must lie above 0 and up to 100.0"),
        ({"task__cache_features": True}, r"set param_groups.frozen=\[image\.\*\]"),
        ({"task__horizontal_flip": 0.5}, "task.horizontal_flip=0.5 does nothing"),
        ({"task__judge": {"zero_shoot": {}}}, "unexpected keyword argument 'zero_shoot'"),
        ({"task__judge": {"retrieval": {"x": {"data": 3}}}}, "must be a mapping"),
        ({"task__judge": {"retrieval": {"x": {"data": NOWHERE}}}}, "/nowhere is not a folder"),
        ({"task__judge": {"retrieval": {"x": {"data": LACKING}}}}, r"x \(test\): 1 of 1 images"),
        ({"task__judge": {"zero_shot": {"x": {**COLOURED, "templates": "/no.txt"}}}}, "/no.txt"),
        (
            {"task__judge": {"zero_shot": {"x": {**COLOURED, "classes": "glyph_scripts"}}}},
            "names 10",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first step; not when it is first evaluated."""
    monkeypatch.chdir(tmp_path)
    image = '{"split": "test", "filename": "no.jpg", "sentences": [{"raw": "a"}]}'
    (tmp_path / "lacking.json").write_text(f'{{"images": [{image}]}}')
    with pytest.raises(UserError, match=said) as caught:
        runner.run(pairs.config(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_run_can_be_judged_by_a_loss(tmp_path: Path) -> None:
    made = pairs.config(tmp_path, tmp_path)
    made.task["judge"] |= {"metric": "zero_shot_loss", "tune": "test", "report": "test"}
    assert runner.run(made).state == "finished"
    headline = json.loads(read_json(tmp_path / run_id(made) / "run.json")["headline"])
    assert (headline["better"], headline["unit"]) == ("lower", "nats")


def test_sets_without_a_root_are_left_out_and_how_a_run_is_judged_does_not_name_it(
    tmp_path: Path,
) -> None:
    bare, judged = pairs.config(tmp_path), pairs.config(tmp_path, tmp_path)
    assert run_id(bare) == run_id(judged)
    judged.task["judge"]["retrieval"] = {"coco": {"data": {"_target_": "x.y", "root": None}}}
    task = Contrastive(judged.data, judged.model, judge=judged.task["judge"])
    assert [e.name for e in task.evaluations()] == ["retrieval", "zero shot colours"]
