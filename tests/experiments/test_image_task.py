"""Image classification: the loss, the score and the pixels, against numbers worked out by hand."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.config import ConfigError
from experiments.data.in_memory import InMemoryImages
from experiments.data.order import BatchPlan, seed_all
from experiments.distributed import World
from experiments.evaluations.classification import classify, score
from experiments.models.class_loss import sigmoid_loss
from experiments.settings.image import ImageTaskConfig
from experiments.tasks.image import ImageClassification
from experiments.tasks.task import Context, Measurement

ALONE = World(0, 1, torch.device("cpu"))
LOGITS = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0], [1.0, 2.0, 9.0], [4.0, 0.0, 1.0]])


def task(**settings: Any) -> ImageClassification:
    return ImageClassification({"_target_": "tiny.images"}, {"_target_": "tiny.Net"}, **settings)


def net(seed: int = 0, **arguments: Any) -> nn.Module:
    seed_all(seed)
    return tiny.Net(**arguments)


# --- the score ------------------------------------------------------------------------------------


def test_a_score_counts_right_answers_and_sums_the_loss() -> None:
    found = score(LOGITS, torch.tensor([0, 1, 0, 2]), None).tolist()
    right, counted, loss, behind, squares = found
    assert (right, counted, behind) == (2, 4, 4)
    by_hand = [
        math.log(sum(math.exp(x) for x in row)) - row[label]
        for row, label in zip(LOGITS.tolist(), [0, 1, 0, 2], strict=True)
    ]
    assert loss == pytest.approx(sum(by_hand), rel=1e-6)
    assert squares == pytest.approx(sum(x * x for x in by_hand), rel=1e-5)


def test_with_several_true_classes_any_is_right_and_none_is_not_counted() -> None:
    truth = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]], dtype=torch.bool)
    assert score(LOGITS, truth, None).tolist() == [2, 3, 0, 0, 0]


def test_classes_that_a_split_does_not_know_are_not_predicted() -> None:
    visible = torch.tensor([1, 2])
    assert score(LOGITS, torch.tensor([2, 1, 2, 2]), visible).tolist() == [4, 4, 0, 0, 0]
    assert score(LOGITS, torch.tensor([1, 1, 1, 1]), visible).tolist() == [1, 4, 0, 0, 0]


def test_scores_add_up_in_double_precision() -> None:
    assert score(LOGITS.bfloat16(), torch.tensor([0, 1, 0, 2]), None).dtype == torch.float64


def test_one_number_that_is_none_makes_an_answer_wrong() -> None:
    """argmax takes NaN for the largest, and would say class 0 of the first."""
    logits = torch.tensor([[math.nan, 0.0, 1.0], [0.0, math.nan, 1.0], [5.0, 0.0, 1.0]])
    assert score(logits, torch.tensor([0, 1, 0]), None)[:2].tolist() == [1, 3]
    truth = torch.tensor([[True, False, False], [False, True, False], [True, True, False]])
    assert score(logits, truth, None)[:2].tolist() == [1, 3]


def test_a_pass_is_counted_in_single_precision_over_all_processes() -> None:
    truth = torch.tensor([0, 1, 0, 2])
    two = types.SimpleNamespace(device=torch.device("cpu"), sum=lambda sums: 2 * sums)
    batches = [(LOGITS[:3], {"val": truth[:3]}), (LOGITS[3:], {"val": truth[3:]})]
    found = classify(torch.Tensor.bfloat16, batches, {"val": None}, two)  # type: ignore[arg-type]
    top1, loss = found
    each = functional.cross_entropy(LOGITS, truth, reduction="none")
    assert (top1.value, top1.n, loss.n) == (50.0, 8, 8)
    assert loss.value == pytest.approx(float(each.mean()), rel=1e-6)
    assert loss.error == pytest.approx(float(each.std(correction=0)) / math.sqrt(8), rel=1e-5)
    assert top1.error == pytest.approx(100 * math.sqrt(0.5 * 0.5 / 8))


# --- several labels an image ----------------------------------------------------------------------

SEVERAL = torch.tensor([[0, 2, -1], [1, -1, -1], [-1, -1, -1], [0, 1, 2]])


def test_a_sigmoid_per_class_costs_what_it_costs_by_hand() -> None:
    found = sigmoid_loss(LOGITS, SEVERAL)
    for row, labels, loss in zip(LOGITS.tolist(), SEVERAL.tolist(), found.tolist(), strict=True):
        shares = [1 / (1 + math.exp(-x)) for x in row]
        by_hand = [-math.log(s if c in labels else 1 - s) for c, s in enumerate(shares)]
        assert loss == pytest.approx(sum(by_hand), rel=1e-5)
    one = torch.tensor([0, 1, 0, 2])
    soft = functional.one_hot(one, 3).float()
    assert torch.allclose(sigmoid_loss(LOGITS, one), sigmoid_loss(LOGITS, soft))
    assert torch.allclose(sigmoid_loss(0 * LOGITS, one), torch.full((4,), 3 * math.log(2)))


def test_any_of_several_labels_is_right() -> None:
    right, counted, loss, behind, _ = score(LOGITS, SEVERAL, None, sigmoid_loss).tolist()
    assert (right, counted, behind) == (3, 4, 4)
    assert loss == pytest.approx(float(sigmoid_loss(LOGITS, SEVERAL).sum()))


def several_labels(name: str = "several") -> InMemoryImages:
    """The tiny images; every other one has its neighbour's label, too."""
    splits = {}
    for split, (images, labels) in tiny.images().splits.items():
        more = labels.roll(1).where(torch.arange(len(labels)) % 2 == 1, -1)
        splits[split] = images, torch.stack([labels, more], 1)
    return InMemoryImages(name, splits, num_classes=4)


def test_a_model_learns_several_labels_and_softmax_refuses_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    several = several_labels()
    monkeypatch.setattr(tiny, "images", lambda: several)
    data = {"_target_": "tiny.images"}
    subject = ImageClassification(data, {"_target_": "tiny.Net"}, loss="sigmoid")
    assert [t.shape for t in subject.example_batch(3)] == [(3, 1, 6, 8), (3, 2)]
    model = net(dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    plan = BatchPlan(0, 96, 96, 96)
    losses = []
    for ((images, labels),) in subject.batches(plan, 0, 60):
        loss = subject.loss(model, (images, labels), ALONE).mean
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(4 * math.log(2), rel=0.2) and losses[-1] < 0.5 * losses[0]
    found = measure(subject, model, 16)
    assert found["val", "loss"].value > 0 and 0 < found["val", "top1"].value <= 100
    softmax = ImageClassification(data, {"_target_": "tiny.Net"})
    with pytest.raises(ConfigError, match="several labels: set task.loss=sigmoid"):
        softmax.loss(model, (images, labels), ALONE)
    with pytest.raises(ConfigError, match="label_smoothing=0.1 does nothing with"):
        task(loss="sigmoid", label_smoothing=0.1)


# --- the evaluation -------------------------------------------------------------------------------


def measure(subject: ImageClassification, model: nn.Module, size: int) -> dict[Any, Measurement]:
    model.eval()
    (evaluation,) = subject.evaluations()
    found = list(evaluation.measure(model, Context(ALONE, 0, size, 0)))
    return {(m.split, m.metric): m for m in found}


def test_an_evaluation_is_that_of_the_whole_split_at_any_batch_size() -> None:
    subject, model = task(), net()
    images, labels = tiny.images().splits["val"]
    model.eval()
    logits = model(images).detach()
    top1 = 100.0 * float((logits.argmax(1) == labels).double().mean())
    loss = float(nn.functional.cross_entropy(logits, labels))
    for size in (1, 10, 37, 100):
        found = measure(subject, model, size)
        assert set(found) == {(s, m) for s in ("val", "test") for m in ("top1", "loss")}
        error = pytest.approx((top1 * (100 - top1) / 37) ** 0.5)
        value = pytest.approx(top1)
        assert found["val", "top1"] == Measurement("val", "top1", value, "%", 37, "higher", error)
        each = nn.functional.cross_entropy(logits, labels, reduction="none")
        error = float(each.std(correction=0)) / 37**0.5
        assert found["val", "loss"].error == pytest.approx(error, rel=1e-4)
        assert found["val", "loss"].better == "lower"
        assert found["val", "loss"].value == pytest.approx(loss, rel=1e-5)
        assert (found["val", "loss"].unit, found["test", "top1"].n) == ("nats", 41)


def test_label_smoothing_and_mixup_do_not_reach_the_evaluation() -> None:
    plain = measure(task(), net(), 50)
    assert measure(task(label_smoothing=0.4, mixup_alpha=1.0), net(), 50) == plain


def test_an_evaluation_leaves_the_model_as_it_was() -> None:
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(task(), model, 16)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    batch = tuple(t[:8] for t in tiny.images().splits["train"])
    task().loss(
        model.train(), batch, ALONE
    ).mean.backward()  # no tensor of the evaluation is in the way


class Grouped:
    """Two splits with the same images, and one that knows two classes only."""

    name, num_classes, num_train = "grouped", 3, 4
    eval_groups = [["plain", "real"], ["part"]]
    passes: list[tuple[str, ...]] = []

    def eval_batches(
        self, group: Sequence[str], batch_size: int, rank: int, world_size: int, _: ImageTaskConfig
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        self.passes.append(tuple(group))
        truth = {
            "plain": torch.tensor([0, 1, 0, 2]),
            "real": torch.tensor([[1, 0, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]], dtype=torch.bool),
            "part": torch.tensor([2, 1, 2, 1]),
        }
        for start in range(0, 4, batch_size):
            part = slice(start, start + batch_size)
            yield LOGITS[part], {split: truth[split][part] for split in group}

    def visible_classes(self, split: str) -> Tensor | None:
        return torch.tensor([1, 2]) if split == "part" else None


@pytest.mark.parametrize("size", [1, 3, 4])
def test_splits_with_the_same_images_share_one_pass(size: int) -> None:
    data = {"_target_": f"{__name__}.Grouped"}
    subject = ImageClassification(data, {"_target_": "torch.nn.Identity"})
    Grouped.passes.clear()
    found = measure(subject, nn.Identity(), size)
    assert Grouped.passes == [("plain", "real"), ("part",)]
    top1 = {split: (m.value, m.n) for (split, metric), m in found.items() if metric == "top1"}
    assert top1 == {
        "plain": (50.0, 4), "real": (pytest.approx(200 / 3), 3), "part": (75.0, 4)
    }  # fmt: skip
    assert {split for split, metric in found if metric == "loss"} == {"plain"}


# --- the loss -------------------------------------------------------------------------------------


def test_the_loss_is_cross_entropy_with_smoothed_labels() -> None:
    labels = torch.tensor([0, 1, 0, 2])
    scores = nn.functional.pad(LOGITS, (0, 1))  # of the data's four classes
    log_p = scores.log_softmax(1)
    for smoothing in (0.0, 0.3):
        target = torch.full((4, 4), smoothing / 4)
        target[torch.arange(4), labels] += 1 - smoothing
        expected = -(target * log_p).sum(1).mean()
        found = task(label_smoothing=smoothing).loss(nn.Identity(), (scores, labels), ALONE).mean
        torch.testing.assert_close(found, expected)


def test_a_model_for_another_number_of_classes_is_refused() -> None:
    """With more it would train, and give chance to classes that there are not."""
    with pytest.raises(ConfigError, match=r"shape \[4, 3\] .* 4 classes: set model.num_classes=4"):
        task().loss(nn.Identity(), (LOGITS, torch.tensor([0, 1, 0, 2])), ALONE)


def test_a_sigmoid_for_each_class_by_hand_and_the_same_in_the_evaluation() -> None:
    scores, labels = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    signs = torch.full((5, 4), -1.0)
    signs[torch.arange(5), labels] = 1.0
    nats = -(signs * scores).sigmoid().log().sum(1)
    subject = task(loss="sigmoid")
    found = subject.loss(nn.Identity(), (scores, labels), ALONE).mean
    assert float(found) == pytest.approx(float(nats.mean()), rel=1e-5)
    silent = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    nn.init.zeros_(silent[1].weight), nn.init.zeros_(silent[1].bias)
    loss = next(m for m in subject._measure(silent, Context(ALONE, 0, 8, 0)) if m.metric == "loss")
    assert loss.value == pytest.approx(4 * math.log(2))


def test_pixels_of_files_are_normalised_in_training_and_in_evaluations() -> None:
    subject, seen = task(), []
    subject.settings = ImageTaskConfig(mean=[0.25], std=[0.5])

    def model(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.zeros(len(images), 4)

    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    labels = torch.tensor([0, 1, 2])
    subject.loss(model, (pixels, labels), ALONE)  # type: ignore[arg-type]
    subject.source = types.SimpleNamespace(  # type: ignore[assignment]
        eval_groups=[["val"]],
        visible_classes=lambda split: None,
        eval_batches=lambda *_: [(pixels, {"val": labels})],
    )
    assert len(list(subject._measure(model, Context(ALONE, 0, 8, 0)))) == 2  # type: ignore[arg-type]
    for images in seen:
        assert images.flatten().tolist() == pytest.approx([-0.5, -0.1, 1.5])


@pytest.mark.parametrize("mixed", [{"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}])
def test_what_is_mixed_is_timms_with_the_labels_smoothed_once(mixed: dict[str, float]) -> None:
    from timm.data.mixup import Mixup

    alphas = {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, **mixed}
    images, labels = torch.randn(8, 1, 6, 8), torch.arange(8) % 4
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    batch = images.clone(), labels
    for _ in range(2):  # a batch stays as it is: a landscape is measured on one again and again
        seed_all(3)
        found = task(label_smoothing=0.2, **mixed).loss(model, batch, ALONE).mean
    seed_all(3)
    made, soft = Mixup(**alphas, label_smoothing=0.2, num_classes=4)(images.clone(), labels)
    assert not torch.equal(made, images)
    wanted = -(soft * model(made).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(found, wanted)


def test_mixup_mixes_images_and_labels_alike_and_follows_the_seed() -> None:
    subject = task(mixup_alpha=1.0)
    images = torch.eye(4)[:, None, :, None].expand(4, 1, 4, 4).contiguous()
    seen: list[Tensor] = []

    def loss(seed: int) -> float:
        def logits(x: Tensor) -> Tensor:
            seen.append(x.clone())
            return 40.0 * x[:, 0, :, 0].log().clamp(min=-2)

        seed_all(seed)
        batch = images.clone(), torch.arange(4)
        return float(subject.loss(logits, batch, ALONE).mean)  # type: ignore[arg-type]

    assert loss(1) == loss(1) != loss(2)
    assert torch.equal(seen[0], seen[1])
    share = seen[0][0, 0, 0, 0]
    assert 0 < share < 1
    expected = share * images + (1 - share) * images.flip(0)
    torch.testing.assert_close(seen[0], expected)


@pytest.mark.parametrize("settings", [{"mixup_alpha": 0.5}, {"cutmix_alpha": 0.5}])
def test_mixup_refuses_micro_batches_that_cannot_be_paired(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="5 must be even: set train.batch_size=14 and train.mic"):
        next(task(**settings).batches(BatchPlan(0, 96, 15, 5), 0, 1))
    with pytest.raises(ConfigError, match="15 must be even: set train.micro_batch_size=10$"):
        next(task(**settings).batches(BatchPlan(0, 96, 30, 15), 0, 1))
    assert next(task(**settings).batches(BatchPlan(0, 96, 16, 4), 0, 1))
    assert next(task().batches(BatchPlan(0, 96, 15, 5), 0, 1))


def test_pixels_of_files_are_normalised_and_floats_are_left_alone() -> None:
    subject = task()
    subject.settings = ImageTaskConfig(mean=[0.5, 0.0, 0.25], std=[0.5, 1.0, 0.25])
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 4, 4)
    found = subject._normalised(pixels)
    assert found.dtype == torch.float32 and found.shape == (2, 3, 4, 4)
    for image in found:
        assert image[:, 1, 2].tolist() == pytest.approx([-1.0, 1.0, -0.2])
    floats = torch.randn(2, 3, 4, 4)
    assert subject._normalised(floats) is floats


def test_a_setting_that_the_data_does_not_heed_is_refused() -> None:
    """It would do nothing but give the same run another name."""
    with pytest.raises(ConfigError, match="task.randaug_layers=2 does nothing with the data tiny"):
        task(randaug_layers=2)


def test_a_key_that_the_task_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError, match="mixup_alfa"):  # `build` makes one line of it
        task(mixup_alfa=0.3)


def test_the_model_is_a_function_of_the_seed() -> None:
    def weights(seed: int) -> list[Tensor]:
        seed_all(seed)
        return list(task().build_model().parameters())

    same = zip(weights(3), weights(3), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(weights(3)[0], weights(4)[0])


def test_the_facts_of_the_data_are_handed_on() -> None:
    assert (task().data_name, task().num_train) == ("tiny", 96)


@pytest.mark.parametrize("shape", [(0,), (0, 3)])
@pytest.mark.parametrize("visible", [None, torch.tensor([0, 2])])
def test_a_batch_without_examples_counts_nothing(
    shape: tuple[int, ...], visible: torch.Tensor | None
) -> None:
    """Of a process more than there are images, from a source of one's own."""
    labels = torch.zeros(shape, dtype=torch.int64)
    found = score(torch.zeros(0, 4), labels, visible, lambda logits, _: logits.sum(1))
    assert found.tolist() == [0.0] * 5
