"""Diffusion: what every task must hold, and what sampling adds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import numpy as np
import pytest
import torch
from PIL import Image

from experiments import compose, runner
from experiments.build import build
from experiments.config import ConfigError, RunConfig
from experiments.data.in_memory import InMemoryImages
from experiments.data.order import BatchPlan, seed_all
from experiments.diffusion.model_fit import check_signed
from experiments.distributed import World
from experiments.evaluations import extractors, generation
from experiments.evaluations.evaluation import Context
from experiments.evaluations.extractors import Extractor
from experiments.identity import run_id
from experiments.jobs import evaluate
from experiments.models.feature_classifier import FeatureClassifier
from experiments.store import read_rows
from experiments.sweep.grouping import why_alone
from experiments.tasks.diffusion import Diffusion

ALONE = World(0, 1, torch.device("cpu"))
SMALL = (
    *("train.steps=6", "train.batch_size=16", "schedule.warmup_steps=2", "eval.every_steps=6"),
    *("task.num_time_steps=100", "task.judge.num_draws=1", "task.judge.num_shown=20"),
    *("task.judge.sampling.quick.num_steps=2", "task.judge.sampling.quick.num_samples=40"),
    *("model.block_out_channels=[8,16]", "launch.progress=false", "launch.log_every_steps=1"),
    *("checkpoint.every_steps=3", "eval.batch_size=16"),
    *("task.judge.sampling.paper.num_steps=4", "task.judge.sampling.paper.num_samples=40"),
)
SGD = ("optimizer=sgd", "optimizer.lr=0.05", "optimizer.momentum=0.9")
DRAWN = "fd40_ddim2"


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    made = config(tmp_path_factory.mktemp("finished"), *SGD)
    with pytest.MonkeyPatch.context() as patch:  # before the function's own cache is set
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        runner.run(made)
    return made


def config(root: Path, *changes: str) -> RunConfig:
    words = ["experiment=diffusion_proxy", f"results_dir={root}", *SMALL]
    return compose.compose([*words, *changes])


def task_of(made: RunConfig) -> Diffusion:
    return build(made.task, "task", data=made.data, model=made.model)


def rows_of(made: RunConfig, metric: str) -> list[dict[str, Any]]:
    path = Path(made.results_dir) / run_id(made) / "metrics.jsonl"
    return [row for row in read_rows(path) if row["metric"] == metric]


def losses(made: RunConfig) -> list[float]:
    return [row["value"] for row in rows_of(made, "loss") if row["split"] == "train"]


def test_first_loss_is_one_and_every_parameter_is_trained(tmp_path: Path) -> None:
    """The model begins by predicting no noise; after a step everything has a gradient."""
    made = config(tmp_path, "task.learned_variance=true", "model.out_channels=2")
    task = task_of(made)
    seed_all(0)
    model = task.build_model()
    plan = BatchPlan(0, task.num_train, 64, 64)
    batch = next(iter(task.batches(plan, 0, 1)))[0]
    images, noise, times, *_ = batch
    noisy = task.objective.schedule.add_noise(images, noise, times)
    assert not model(noisy, times, batch[3]).any()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        task.loss(model, batch, ALONE).mean.backward()
        optimizer.step()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    simple = task_of(config(tmp_path))
    first = simple.loss(simple.build_model(), batch, ALONE).mean
    assert float(first.detach()) == pytest.approx(1.0, abs=0.05)


def test_one_batch_is_learnt_by_heart(tmp_path: Path) -> None:
    task = task_of(config(tmp_path))
    seed_all(0)
    model = task.build_model()
    batch = next(iter(task.batches(BatchPlan(0, task.num_train, 8, 8), 0, 1)))[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(60):
        optimizer.zero_grad()
        loss = task.loss(model, batch, ALONE).mean
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3


def test_example_batch_is_like_a_real_one(tmp_path: Path) -> None:
    task = task_of(config(tmp_path))
    real = next(iter(task.batches(BatchPlan(0, task.num_train, 8, 8), 0, 1)))[0]
    shapes = [(x.shape, x.dtype) for x in task.example_batch(8)]
    assert shapes == [(x.shape, x.dtype) for x in real]


def test_killed_and_resumed_is_bit_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in the middle of the training, once in the middle of drawing samples."""
    whole, part = (config(tmp_path / name) for name in "ab")
    runner.run(whole)
    loss, calls = Diffusion.loss, iter(range(1, 99))

    def dies(self: Any, *args: Any) -> Any:
        if next(calls) == 5:
            raise RuntimeError("killed")
        return loss(self, *args)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(Diffusion, "loss", dies)
        runner.run(part)
    draw, drawn = generation._draw, []

    def dies_drawing(made: Any, numbers: list[int], device: Any) -> Any:
        drawn.append(numbers[0])
        if len(drawn) == 5:
            raise RuntimeError("killed while drawing")
        return draw(made, numbers, device)

    monkeypatch.setattr(generation, "_draw", dies_drawing)
    with pytest.raises((RuntimeError, ConfigError), match="killed while drawing"):
        runner.run(part)
    assert drawn == [0, 16, 32, 0, 16]  # of the raw weights, then of the averaged ones
    runner.run(part)
    assert drawn[5:] == [0, 16, 32, 16, 32]  # finished weights draw anew, kept chunks do not
    forked.assert_same_end(whole, part)
    folder = Path(part.results_dir) / run_id(part) / "evaluations" / DRAWN
    assert sorted(p.name for p in folder.iterdir()) == ["step6_ema.png", "step6_raw.png"]


def test_micro_batches_and_two_processes_train_like_one(
    tmp_path: Path, finished: RunConfig
) -> None:
    cut = config(tmp_path / "cut", *SGD, "train.micro_batch_size=4")
    two = config(
        tmp_path / "two", *SGD, "train.micro_batch_size=4", "task.judge.sampling.quick=null"
    )
    runner.run(cut)
    assert forked.run_ranks(two, 2) == [0, 0]
    for other in (cut, two):
        assert losses(finished) == pytest.approx(losses(other), rel=2e-5)
        ours, theirs = (forked.weights(made)["model"] for made in (finished, other))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
    ours, theirs = (rows_of(made, "eps_loss") for made in (finished, two))
    assert [row["n"] for row in ours] == [row["n"] for row in theirs] == [287, 359, 287, 359]
    assert [r["value"] for r in ours] == pytest.approx([r["value"] for r in theirs], rel=1e-4)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_draw_the_same_images(
    finished: RunConfig, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """Three chunks: the model is whole in the process that draws two, whatever the other does."""
    before = _measured(finished)
    launch = replace(finished.launch, strategy=strategy)
    job = replace(finished, job="evaluate", launch=launch)
    monkeypatch.setattr(runner, "run", lambda made: SimpleNamespace(exit_code=evaluate.main(made)))
    assert forked.run_ranks(job, 2) == [0, 0]
    after = _measured(finished)  # of a measurement made twice, the last counts
    assert len(after) == len(before) == 14
    for one, two in zip(before, after, strict=True):
        assert one["value"] == pytest.approx(two["value"], rel=1e-6, abs=1e-12)
        assert (one["metric"], one["weights"], one["n"]) == (
            two["metric"],
            two["weights"],
            two["n"],
        )


@pytest.mark.parametrize("fingerprint", ["", "abc"])
def test_a_reference_of_images_that_nothing_tells_from_others_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, fingerprint: str
) -> None:
    place = "experiments.tasks.diffusion"
    monkeypatch.setattr(f"{place}.reference", lambda facts, *_: f"kept as {facts['data']}")
    monkeypatch.setattr(f"{place}.measured", lambda *_: "measured anew")
    task: Any = SimpleNamespace(
        source=SimpleNamespace(fingerprint=fingerprint), extractor=None, shape=(1, 8, 8)
    )
    task.judge, task.reference_split = SimpleNamespace(cache_dir=None), "train"
    task._judged_by, task._reference_images = {"data": f"mine {fingerprint}"}, lambda context: []
    found = Diffusion._reference(task, Context(ALONE, 0, 1, 1))
    assert found == ("kept as mine abc" if fingerprint else "measured anew")


def test_an_evaluation_later_is_that_of_the_training_and_another_adds_rows(
    finished: RunConfig,
) -> None:
    before = {(r["metric"], r["split"], r["weights"]): r["value"] for r in _measured(finished)}
    later = evaluate.measure(replace(finished, job="evaluate")).rows
    found = {(r["metric"], r["split"], r["weights"]): r["value"] for r in later}
    assert found == pytest.approx(before, rel=1e-6)
    root = Path(finished.results_dir)
    asked = config(root, *SGD, "job=evaluate", "task.judge.sampling.quick.num_steps=5")
    assert run_id(asked) == run_id(finished)  # how it is judged does not make it another run
    for name in ("fd40_ddim5", "fd40_ddpm4"):
        asked.evaluation = name
        evaluate.main(asked)
    (row,) = [r for r in rows_of(finished, "fd40_ddpm4") if r["weights"] == "ema"]
    instrument = json.loads(row["instrument"])
    assert [instrument[k] for k in ("sampler", "steps", "num_samples")] == ["ddpm", 4, 40]
    assert instrument["sha256"].startswith("136feb38") and instrument["resize"] == "none"
    assert (row["better"], row["n"], row["split"]) == ("lower", 40, "samples")
    assert len(rows_of(finished, "fd40_ddim5")) == 2


def _measured(made: RunConfig) -> list[dict[str, Any]]:
    path = Path(made.results_dir) / run_id(made) / "metrics.jsonl"
    return [r for r in read_rows(path) if r["split"] not in ("train", "run")]


def test_the_picture_shows_the_first_samples(finished: RunConfig) -> None:
    row = next(r for r in rows_of(finished, DRAWN) if r["weights"] == "ema")
    picture = Image.open(Path(finished.results_dir) / run_id(finished) / row["picture"])
    assert picture.size == (10 * 34 + 2, 2 * 34 + 2)


def test_the_reference_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.evaluations import reference

    calls: list[int] = []
    measured = reference.measured

    def counted(*args: Any) -> Any:
        calls.append(1)
        return measured(*args)

    monkeypatch.setattr(reference, "measured", counted)
    made = config(tmp_path)
    runner.run(made)
    first = rows_of(made, DRAWN)[0]["value"]
    assert len(calls) == 1
    (file,) = (tmp_path / "cache/lion-experiments").glob("reference-*.npz")
    file.write_bytes(b"damaged")
    assert evaluate.measure(replace(made, job="evaluate")).rows[2]["value"] == first
    assert len(calls) == 2


class _Means(Extractor):
    def _extract(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
        return images.float().mean((2, 3)), None


def test_images_that_are_resized_otherwise_are_another_reference(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    for name in ("train/ant", "train/bee", "val/ant", "val/bee"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(3):
            pixels = random.randint(0, 256, (29, 23, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    data = {
        "_target_": "experiments.data.image_files.ImageFiles", "name": "noise", "num_classes": 2,
        "num_train": 6, "root": str(tmp_path), "val_split": "val", "input_size": 16,
        "num_workers": 0,
    }  # fmt: skip
    made, told = [], []
    for read, drawn in (({}, {}), ({}, {"interpolation": "box"}), ({"decoder": "tensor"}, {})):
        task = Diffusion({**data, **read}, {}, horizontal_flip=0.0, **drawn)
        task.__dict__["extractor"] = _Means("fd", "Means", "0", "none", 3, torch.nn.Identity())
        made.append(task._reference(Context(ALONE, 0, 4, 1)).mean)
        told.append({key: task._judged_by.get(key) for key in ("interpolation", "decoder")})
    nothing = dict.fromkeys(told[0])
    assert told == [nothing, nothing | {"interpolation": "box"}, nothing | {"decoder": "tensor"}]
    for one, other in ((0, 1), (0, 2)):
        assert not torch.equal(made[one], made[other]), told[other]


@pytest.mark.filterwarnings("ignore:.*byte for byte", "ignore:.*are in train, too")
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_image_of_the_right_size_is_learnt_whole_and_turned_as_told(
    tmp_path: Path, share: float
) -> None:
    """Nothing is cut off, neither of what is learnt nor of what samples are held against."""
    pixels = np.random.RandomState(0).randint(0, 256, (16, 16, 3), np.uint8)
    for name in ("train/ant", "train/bee", "val/ant", "val/bee"):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / name / "0.png")
    data = {
        "_target_": "experiments.data.image_files.ImageFiles", "name": "noise", "num_classes": 2,
        "num_train": 2, "root": str(tmp_path), "val_split": "val", "input_size": 16,
        "num_workers": 0,
    }  # fmt: skip
    task = Diffusion(data, {}, horizontal_flip=share)
    whole = torch.from_numpy(pixels).permute(2, 0, 1)
    ((learnt, *_),) = next(task.batches(BatchPlan(0, 2, 1, 1), 0, 1))
    assert torch.equal(learnt[0], whole.flip(-1) if share else whole)
    (known,) = task._reference_images(Context(ALONE, 0, 4, 1))
    ((measured, _),) = task._eval_batches(["noise_val"], Context(ALONE, 0, 4, 1))
    assert torch.equal(known[0], whole) and torch.equal(measured[0], whole)
    torch.testing.assert_close(task._signed(whole), whole.float() / 127.5 - 1)


def test_the_headline_asks_for_averaged_weights_where_there_are_any(
    tmp_path: Path, finished: RunConfig
) -> None:
    from experiments.store import read_json

    none = ("train.steps=1", "schedule.warmup_steps=0", "task.judge.sampling.quick=null")
    plain = config(tmp_path, "train.ema_decay=null", *none)
    runner.run(plain)
    for one, weights in ((finished, "ema"), (plain, "raw")):
        header = read_json(Path(one.results_dir) / run_id(one) / "run.json")
        headline = json.loads(header["headline"])
        assert (headline["metric"], headline["weights"]) == ("eps_loss", weights)
        assert (headline["better"], headline["tune"], headline["report"]) == (
            "lower",
            "val",
            "test",
        )


def test_conditions_are_dropped_and_guidance_uses_that(tmp_path: Path) -> None:
    changes = ("task.condition_dropout=0.5", "model.num_class_embeds=11")
    guided = config(tmp_path, *changes, "task.judge.sampling.quick.guidance=2.0")
    task = task_of(guided)
    labels = torch.cat(
        [b[3] for step in task.batches(BatchPlan(0, 1151, 64, 64), 0, 5) for b in step]
    )
    assert 0.4 < float((labels == 10).float().mean()) < 0.6
    runner.run(guided)
    assert len(rows_of(guided, "fd40_ddim2_g2")) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["task.judge.sampling.quick.num_steps=30"], "num_steps=30: must divide the 100 time"),
        (["task.judge.sampling.quick.guidance=3"], "guidance=3.*needs a model.*condition_dropout"),
        (["task.judge.extractor.sha256=abc"], "its sha256 is 136feb38c04f..., not abc"),
        (["model.in_channels=3"], "in_channels=3, but the images of digits_signed have 1: choose"),
        (["task.judge.sampling.quick.num_steps=0"], "num_steps=0: must divide the 100 time"),
        (["task.condition_dropout=0.1"], "model.num_class_embeds=10.*need 11"),
        (["task.learned_variance=true"], "gives 1 channels.*set model.out_channels=2"),
        (["model.sample_size=16"], "sample_size=16, but the images .* 8 x 8: set .*sample_size=8"),
        (
            ["model.num_class_embeds=null", "task.condition_dropout=0.1"],
            "condition_dropout=0.1: a model .* no class: leave it at 0.0, or set .*embeds=11",
        ),
        (["task.noise_schedule=sqrt"], "noise_schedule=sqrt: must be one of cosine, linear"),
        (["model.block_out_channels=[8,16,16,16,16]"], "cannot be halved 4 times"),
        (
            ["data.pixels=standardised"],
            r"pixels of digits_signed lie from -0.8118 to 1.848, .* in \[-1, 1\]: what is beyond",
        ),
        (
            ["data.pixels=rgb", "train.steps=7"],
            "data.pixels=rgb: choose one of standardised, signed",
        ),
    ],
)
def test_bad_settings_end_with_one_line(tmp_path: Path, changes: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        runner.run(config(tmp_path, *changes))
    assert "\n" not in str(error.value)


def test_the_objective_is_that_of_the_settings(tmp_path: Path) -> None:
    changes = ("noise_schedule=linear", "bound_weight=0.25", "learned_variance=true")
    found = task_of(config(tmp_path, *(f"task.{change}" for change in changes))).objective
    assert (found.schedule.name, found.schedule.num_steps) == ("linear", 100)
    assert (found.learned_variance, found.bound_weight, found.num_levels) == (True, 0.25, 17)


def test_pixels_from_black_as_0_are_said() -> None:
    """Shares of white would train and sample without a word, half of the range unused."""
    pixels, labels = torch.rand(3, 1, 4, 4), torch.zeros(3, dtype=torch.int64)
    with pytest.warns(UserWarning, match=r"mine lie from 0\..* to 0\..*: if they are shares"):
        check_signed(InMemoryImages("mine", {"train": (pixels, labels)}, 1))
    check_signed(InMemoryImages("mine", {"train": (2 * pixels - 1, labels)}, 1))


def test_grey_images_do_not_go_into_inception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = extractors.Extractor("fid", "inception", "0" * 64, "none", 3, torch.nn.Identity())
    monkeypatch.setattr(extractors, "classifier", lambda **_: rgb)
    with pytest.raises(
        ConfigError, match=r"inception needs images of 3 channel\(s\), these have 1"
    ):
        runner.run(config(tmp_path))


def test_an_extractor_of_other_sizes_is_refused_before_the_training() -> None:
    model = FeatureClassifier(side=8)
    extractor = extractors._Classifier("fd", "FeatureClassifier", "0" * 64, "none", 1, model)
    extractor.check_fits((1, 8, 8))
    with pytest.raises(ConfigError, match="does not take images of 14 x 14: export a classifier"):
        extractor.check_fits((1, 14, 14))


def test_images_of_several_labels_are_refused(tmp_path: Path) -> None:
    task, labels = task_of(config(tmp_path)), torch.empty(1, 2, dtype=torch.int64, device="meta")
    images = task.source.example_batch(1)[0]
    task.source.example_batch = lambda _: (images, labels)
    with pytest.raises(ConfigError, match="data.more_labels: a model is told one class an image"):
        task.build_model()


@pytest.mark.parametrize(
    ("has_classes", "num_classes", "is_asked"), [(True, 10, True), (True, 3, False), (False, 10, 0)]
)
def test_samples_agree_with_classes_that_model_and_extractor_know(
    tmp_path: Path, has_classes: bool, num_classes: int, is_asked: bool
) -> None:
    known = 10 if has_classes else "null"
    task = task_of(config(tmp_path, f"model.num_class_embeds={known}"))
    task.build_model()
    model = FeatureClassifier(num_classes=num_classes)
    found = extractors._Classifier("fd", "FeatureClassifier", "0" * 64, "none", 1, model)
    task.__dict__["extractor"] = found
    assert task._asks_for_known_classes() == is_asked


def test_it_is_said_why_runs_are_trained_alone(tmp_path: Path) -> None:
    assert "averaged" in why_alone(config(tmp_path))
    assert why_alone(config(tmp_path, "train.ema_decay=null")) == ""


def test_two_seeds_of_noise_are_two_runs(tmp_path: Path) -> None:
    task = task_of(config(tmp_path))
    batches = [
        next(iter(task.batches(BatchPlan(seed, task.num_train, 8, 8), 0, 1)))[0] for seed in (0, 1)
    ]
    assert not torch.equal(batches[0][1], batches[1][1])
