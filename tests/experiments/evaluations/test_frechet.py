"""Distances against torch-fidelity, closed forms, and what is known of their bias."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from experiments.config import ConfigError
from experiments.distributed import World
from experiments.evaluations import extractors, frechet, generation, reference
from experiments.evaluations.evaluation import Context
from experiments.evaluations.extractors import eight_bit

CLASSIFIER = {
    "path": "results/extractors/digits_classifier.safetensors",
    "model": {"_target_": "experiments.models.feature_classifier.FeatureClassifier"},
}


def normal(number: int, width: int, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(9)) / width**0.5
    return torch.randn(number, width, generator=generator) @ mix + shift


def test_distance_is_that_of_torch_fidelity() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    ours, theirs = normal(300, 64), normal(400, 64, 0.3, seed=1)
    stats = [fid_features_to_statistics(x.double()) for x in (ours, theirs)]
    expected = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    found = frechet.frechet_distance(frechet.statistics(ours), frechet.statistics(theirs))
    assert found == pytest.approx(expected, abs=1e-6)


def test_distance_of_independent_features_is_the_closed_form() -> None:
    """|m1 - m2|^2 + sum (s1 - s2)^2 where the covariances are diagonal."""
    mean, other_mean = (
        torch.tensor([0.0, 1.0, 2.0]).double(),
        torch.tensor([1.0, 1.0, 0.0]).double(),
    )
    scale, other_scale = (
        torch.tensor([1.0, 2.0, 0.5]).double(),
        torch.tensor([2.0, 2.0, 1.5]).double(),
    )
    none = torch.zeros(0, 3)
    one = frechet.Statistics(mean, scale.square().diag(), 10, none)
    other = frechet.Statistics(other_mean, other_scale.square().diag(), 10, none)
    assert frechet.frechet_distance(one, other) == pytest.approx(5 + 1 + 1, abs=1e-9)


def test_kernel_distance_is_that_of_torch_fidelity_and_has_no_bias() -> None:
    from torch_fidelity.metric_kid import kernel_mmd

    ours, theirs = normal(200, 16).double(), normal(200, 16, 0.2, seed=1).double()
    found, error, number = frechet.kernel_distance(ours, theirs)
    kernels = {
        "kid_kernel": "poly",
        "kid_kernel_poly_degree": 3,
        "kid_kernel_poly_gamma": None,
        "kid_kernel_poly_coef0": 1.0,
        "verbose": False,
    }
    assert found == pytest.approx(
        float(kernel_mmd(theirs.numpy(), ours.numpy(), **kernels)), abs=1e-9
    )
    assert (error, number) == (None, 200)
    same = [
        frechet.kernel_distance(normal(40, 16, seed=2 * k), normal(40, 16, seed=2 * k + 1))[0]
        for k in range(60)
    ]
    spread = np.std(same) / len(same) ** 0.5
    assert abs(np.mean(same)) < 3 * spread
    biased = [
        frechet.frechet_distance(
            frechet.statistics(normal(40, 16, seed=2 * k)),
            frechet.statistics(normal(40, 16, seed=2 * k + 1)),
        )
        for k in range(8)
    ]
    assert min(biased) > 0.5  # the same distribution, and far from 0


class _Classes(extractors.Extractor):
    """An image is the number of its class; its features say which, with some noise."""

    def _extract(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
        kinds = images.flatten().long()
        noise = normal(len(kinds), 10, seed=int(kinds.sum()))
        return 3.0 * torch.nn.functional.one_hot(kinds, 10) + noise, None


def test_blocks_of_a_kernel_distance_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 13 and 11 samples two blocks of five: ours in a row, theirs every other one."""
    monkeypatch.setattr(frechet, "KERNEL_BLOCK", 5)
    ours, theirs = normal(13, 3).double(), normal(11, 3, 0.5, seed=1).double()

    def distance(x: torch.Tensor, y: torch.Tensor) -> float:
        xx, yy, xy = ((a @ b.T / 3 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / 20
        return float(within - 2 * xy.mean())

    one, two = distance(ours[:5], theirs[0:10:2]), distance(ours[5:10], theirs[1:11:2])
    mean, error, number = frechet.kernel_distance(ours, theirs)
    assert mean == pytest.approx((one + two) / 2) and number == 10
    assert error == pytest.approx(abs(one - two) / 2)  # sd of two values / sqrt(2)
    assert frechet.kernel_distance(ours, theirs[:7])[2] == 5
    assert len(frechet.statistics(ours, num_kept=4).features) == 4


def test_files_that_are_sorted_by_class_are_seen_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against the first classes alone, or block by block, equal distributions would look far."""
    monkeypatch.setattr(reference, "NUM_KEPT", 400)
    monkeypatch.setattr(frechet, "KERNEL_BLOCK", 100)
    extractor = _Classes("fd", "Classes", "0", "none", 1, torch.nn.Identity())
    kinds = torch.arange(10).repeat_interleave(300).to(torch.uint8)
    known = reference.measured(
        extractor, kinds[:, None, None, None].split(170), World(0, 1, torch.device("cpu"))
    )
    assert (known.num_images, len(known.features)) == (3000, 400)
    counts = known.features.argmax(1).bincount()
    assert len(counts) == 10 and counts.min() > 30 and counts.max() < 50
    in_turn = extractor.extract(torch.arange(400).remainder(10)[:, None, None, None])[0]
    found, error, _ = frechet.kernel_distance(in_turn.double(), known.features)
    assert error is not None and abs(found) < 4 * error
    numbers = torch.arange(3000)
    whole = set(numbers[reference.spread(numbers)].tolist())
    for rank in (0, 1):  # a process that sees a part keeps what is kept of the whole
        part = numbers[rank::2]
        assert {n for n in whole if n % 2 == rank} <= set(part[reference.spread(part)].tolist())
    few = torch.arange(400)
    assert reference.spread(few).all()


def test_one_image_has_no_distance() -> None:
    many, one = frechet.statistics(normal(50, 4)), frechet.statistics(normal(1, 4))
    assert math.isnan(frechet.frechet_distance(many, one))


def test_half_as_many_samples_show_the_bias() -> None:
    """In samples of one distribution the distance about halves when their number doubles."""
    known = frechet.statistics(normal(20_000, 16, seed=5))
    whole = frechet.frechet_distance(frechet.statistics(normal(1000, 16)), known)
    half = frechet.halves(normal(1000, 16).double(), known)
    assert half == pytest.approx(2 * whole, rel=0.35)
    assert abs(2 * whole - half) < 0.4 * whole


def test_pixels_are_rounded_as_images_are_saved() -> None:
    assert eight_bit(torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0, 0, 128, 255, 255]
    everything = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(eight_bit(everything.float() / 127.5 - 1), everything)


def test_samples_that_are_kept_are_of_these_weights_this_seed_and_this_way_of_drawing() -> None:
    context, model = Context(World(0, 1, torch.device("cpu")), 0, 3, 1), torch.nn.BatchNorm2d(2)
    made: Any = SimpleNamespace(facts={"steps": 2}, num_shown=1, text=None)

    def key() -> str:
        return generation._key(model, made, context)

    keys = [key(), key()]
    assert keys[0] == keys[1]
    model.get_buffer("running_mean")[1] = 1.0
    keys.append(key())
    model.weight.data[0] = 3.0
    keys.append(key())
    context = replace(context, seed=1)
    keys.append(key())
    made.facts = {"steps": 3}
    keys.append(key())
    made.text = generation.TextMatch({"clip": "x"}, lambda images, numbers: images)
    keys.append(key())
    assert len(set(keys)) == len(keys) - 1


@torch.no_grad()
def test_a_sample_that_is_no_image_is_not_taken_for_a_black_one() -> None:
    extractor = extractors.classifier(**CLASSIFIER)
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    known = frechet.statistics(extractor.extract(eight_bit(images))[0].double(), 8)
    context = Context(World(0, 1, torch.device("cpu")), 0, 3, 1)

    def judged(samples: torch.Tensor) -> dict[str, float]:
        made = generation.Generation(
            "8_ddim2",
            num_samples=8,
            num_shown=0,
            extractor=extractor,
            facts={"num_features": 32, "shape": [1, 8, 8]},
            draw=lambda numbers: samples[numbers],
            asked=lambda numbers: extractor.extract(eight_bit(images))[1].argmax(1)[numbers],  # pyright: ignore
            text=generation.TextMatch({}, lambda images, numbers: torch.ones(len(numbers))),
        )
        found = generation.judge(torch.nn.Identity(), made, known, context)
        return {one.metric: one.value for one in found}

    whole = judged(images)
    assert whole["fd8_ddim2"] == pytest.approx(0.0, abs=1e-5)
    assert whole["agreement8_ddim2"] == 100.0 and whole["clip_score8_ddim2"] == 1.0
    turned = images.roll(1, 3)
    features, moved = extractor.extract(eight_bit(turned))[0].double(), judged(turned)
    distance = frechet.frechet_distance(frechet.statistics(features), known)
    half = frechet.halves(features, known)
    rows = [moved[f"fd8_ddim2{end}"] for end in ("", "_half", "_limit")]
    assert rows == pytest.approx([distance, half, 2 * distance - half], rel=1e-4) and distance > 0.1
    kernel = frechet.kernel_distance(features, known.features)[0]
    assert moved["kd8_ddim2"] == pytest.approx(kernel, rel=1e-4)
    images_of_one = images.clone()
    images_of_one[5, 0, 3, 3] = math.nan
    broken = judged(images_of_one)
    assert broken.pop("agreement8_ddim2") == 87.5
    assert broken.keys() == whole.keys() - {"agreement8_ddim2"}
    assert all(math.isnan(value) for value in broken.values()), broken


def test_classifier_knows_the_digits(tmp_path: Path) -> None:
    from experiments.data.bundled import digits

    found = extractors.classifier(**CLASSIFIER)
    images, labels = digits("digits", "signed").splits["test"]
    features, logits = found.extract(eight_bit(images))
    assert logits is not None and features.shape == (len(labels), 32)
    assert float((logits.argmax(1) == labels).float().mean()) > 0.96
    assert (found.prefix, found.resize, len(found.sha256)) == ("fd", "none", 64)
    with pytest.raises(ConfigError, match=r"sha256 is 136feb.*, not 0123.*get the right file"):
        extractors.classifier(**CLASSIFIER, sha256="0123" * 16)
    with pytest.raises(ConfigError, match=r"needs images of 1 channel\(s\), these have 3"):
        found.check_fits((3, 8, 8))
    with pytest.raises(ConfigError, match="extractor.path is not set: export .*extractor.py"):
        extractors.classifier(None, CLASSIFIER["model"])
    other = {**CLASSIFIER["model"], "num_features": 31}
    with pytest.raises(ConfigError, match="does not fit task.judge.extractor.model"):
        extractors.classifier(CLASSIFIER["path"], other)


def test_features_are_in_float32_whatever_the_model_is_trained_in() -> None:
    """Evaluations run in the training's precision, which would else be part of the distance."""
    found = extractors.classifier(**CLASSIFIER)
    images = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    exact = found.extract(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(found._extract(images)[0].float(), exact[0])
        for one, other in zip(found.extract(images), exact, strict=True):
            assert one is not None and other is not None and torch.equal(one, other)


def test_inception_is_that_of_torch_fidelity_and_is_never_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With weights drawn at random, since the real ones cannot be had in a test."""
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(theirs, "load_state_dict_from_url", no_network)
    with pytest.raises(ConfigError, match="extractor.path is not set: get https.*6726825d.pth"):
        extractors.inception()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: None)
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        blank = theirs.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], "none")
    path = tmp_path / "weights.pth"
    torch.save(blank.state_dict(), path)
    with pytest.raises(ConfigError, match=r"its sha256 is .*, not 6726825d"):
        extractors.inception(str(path))
    found = extractors.inception(str(path), sha256=extractors._checked(str(path), ""))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(found.extract(images)[0], blank(images)[0], rtol=1e-3, atol=1e-5)
    seen: list[torch.Tensor] = []  # whatever these weights make of them
    for net in (found.model, blank):
        net.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found.extract(images), blank(images)
    torch.testing.assert_close(*seen)
    assert found.prefix == "fid" and found.num_channels == 3
    path.write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="no weights"):
        extractors.inception(str(path), sha256=extractors._checked(str(path), ""))
    with pytest.raises(ConfigError, match="No such file"):
        extractors.inception(str(tmp_path / "nowhere.pth"))
