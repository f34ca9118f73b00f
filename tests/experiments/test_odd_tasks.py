"""Tasks of one's own that weigh, name or measure oddly: what is right, said, or refused."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import my_text
import my_towers
import numpy as np
import pytest
import torch
from outsiders import SGD, STILL, assert_close, config, losses, rows_of
from packaging.version import Version
from torch.nn import functional

from experiments import runner
from experiments.config import ConfigError, RunConfig, UserError
from experiments.data.order import seed_all
from experiments.headline import Headline
from experiments.identity import run_id
from experiments.jobs import landscape
from experiments.store import read_json
from experiments.sweep.vectorised import run_group
from experiments.tasks.task import Evaluation, Loss, Measurement, build_task


class FewBlanks(my_text.FillIn):
    """Most lines have nothing to fill in: their mean is NaN and weighs nothing."""

    def loss(self, model: Any, batch: Any, world: Any) -> Any:
        blanks, truth = batch
        scored = (blanks.sum(1, keepdim=True) % 5) == 0
        return super().loss(model, (blanks, torch.where(scored, truth, my_text.IGNORED)), world)


def drawn_lines(topic: str) -> my_text.Lines:
    """Data that draw from the global generators."""
    lines = my_text.Lines(topic)
    lines.splits["train"] = torch.randint(0, 99, lines.splits["train"].shape)
    lines.splits["val"] = torch.from_numpy(np.random.randint(0, 99, lines.splits["val"].shape))
    random.shuffle(lines.characters)
    return lines


def test_data_without_a_seed_are_the_same_whatever_was_drawn_before(tmp_path: Path) -> None:
    """A worker trains many runs one after another, a resumed run is another process."""
    made = config(tmp_path, "fill_in", f"data._target_={__name__}.drawn_lines")
    first: Any = build_task(made)
    seed_all(3)
    again: Any = build_task(replace(made, seed=made.seed + 1))
    for split in ("train", "val"):
        assert torch.equal(first.source.splits[split], again.source.splits[split])
    assert first.source.characters == again.source.characters


class UnequalPairs(my_towers.MatchHalves):
    """Pairs weigh otherwise in a loss that couples the global batch."""

    def couple(self, model: Any, encoded: Any, world: Any) -> Loss:
        upper, lower = encoded
        weights = (lower.detach()[:, 0] > 0).float()
        right = torch.arange(len(upper)) + world.rank * len(upper)
        each = functional.cross_entropy(upper @ world.gather(lower).T, right, reduction="none")
        return Loss((each * weights).sum() / weights.sum(), weights.sum())


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("kind", [FewBlanks, UnequalPairs])
def test_weights_of_nothing_and_of_coupled_losses(tmp_path: Path, kind: Any, ranks: int) -> None:
    task = {FewBlanks: "fill_in", UnequalPairs: "match_halves"}[kind]
    target = f"task._target_={__name__}.{kind.__name__}"
    changes = [*SGD, *STILL[task], target]
    one = config(tmp_path / "one", task, *changes)
    cut = config(tmp_path / "cut", task, *changes, "train.micro_batch_size=4")
    runner.run(one)
    assert forked.run_ranks(cut, ranks) == [0] * ranks
    assert_close(one, cut)


def test_both_passes_of_a_coupled_loss_have_the_noise_of_their_micro_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr("experiments.accumulating.seed_all", seeds.append)
    sizes = ["train.batch_size=12", "train.micro_batch_size=4", "train.steps=2"]
    runner.run(config(tmp_path, "match_halves", *sizes))
    assert seeds[:3] == seeds[3:6] and seeds[6:9] == seeds[9:]
    assert len(seeds) == 2 * len(set(seeds)) == 12


def test_the_landscape_leaves_out_what_weighs_nothing(tmp_path: Path) -> None:
    small = ["landscape.num_draws=4", "landscape.sigmas=[]", "landscape.relative_scales=[]"]
    small += ["landscape.hessian_examples=48"]
    target = f"task._target_={__name__}.FewBlanks"
    made = config(tmp_path, "fill_in", *small, target, "landscape.num_examples=96")
    runner.run(made)
    found = []
    for size in (96, 2):
        made.landscape.batch_size = size
        rows = landscape.measure(replace(made, job="landscape"))
        found.append({row["metric"]: row["value"] for row in rows})
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)


def test_weights_for_some_micro_batches_only_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighs = iter([False, True, False, False])
    plain = my_text.FillIn.loss

    def loss(*args: Any) -> Loss:
        found = plain(*args)
        return found if next(weighs) else Loss(found.mean)

    monkeypatch.setattr(my_text.FillIn, "loss", loss)
    with pytest.raises(ConfigError, match="gives a weight for some micro-batches and none for oth"):
        runner.run(config(tmp_path, "fill_in", "train.micro_batch_size=8"))


NAMELESS = {
    "twice": (["a", "a"], "every", "'a' of FillIn is there twice"),
    "comma": (["a, b"], "every", "its name must be words, without commas"),
    "time": (["a"], "never", "when='never' must be every, last or asked"),
}


@pytest.mark.parametrize("case", NAMELESS)
def test_evaluations_that_cannot_be_asked_for_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    names, when, said = NAMELESS[case]
    made = config(tmp_path, "fill_in")
    found = [Evaluation(name, lambda model, context: [], when) for name in names]  # type: ignore[arg-type]
    monkeypatch.setattr(my_text.FillIn, "evaluations", lambda self: found)
    with pytest.raises(ConfigError, match=said):
        runner.run(made)
    assert not losses_begun(made)


def losses_begun(made: RunConfig) -> bool:
    return (Path(made.results_dir) / run_id(made) / "metrics.jsonl").exists()


def test_two_evaluations_of_one_number_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = my_text.FillIn.evaluations

    def both(self: Any) -> list[Evaluation]:
        return [*plain(self), Evaluation("again", self._measure)]

    monkeypatch.setattr(my_text.FillIn, "evaluations", both)
    with pytest.raises(UserError, match="'fill in' and 'again' both measure val loss"):
        runner.run(config(tmp_path, "fill_in"))


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (("val", "loss"), "'fill in' measures val loss twice: nobody could tell which counts"),
        (("train", "loss"), "the training and 'fill in' both measure train loss"),
    ],
)
def test_a_number_that_the_ledger_has_already_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: tuple[str, str], said: str
) -> None:
    """It would take the other's place, and a resume would miss the row that was counted."""
    plain = my_text.FillIn._measure

    def more(self: Any, model: Any, context: Any) -> Any:
        yield from [*plain(self, model, context), Measurement(*again, 1.0, "nats", 1, "lower")]

    monkeypatch.setattr(my_text.FillIn, "_measure", more)
    with pytest.raises(UserError, match=said):
        runner.run(config(tmp_path, "fill_in"))


@pytest.mark.parametrize("kind", [torch.tensor, np.float32])
def test_numbers_may_be_those_of_torch_and_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    plain = my_text.FillIn._measure

    def measured(self: Any, model: Any, context: Any) -> Any:
        for one in plain(self, model, context):
            yield replace(one, value=kind(one.value), n=np.int64(one.n), error=kind(float("nan")))

    monkeypatch.setattr(my_text.FillIn, "_measure", measured)
    made = config(tmp_path, "fill_in")
    assert runner.run(made).state == "finished"
    found = [row for row in rows_of(made, "loss") if row["split"] == "val"]
    assert type(found[0]["value"]) is float and type(found[0]["n"]) is int
    assert found[0]["error"] is None


@pytest.mark.parametrize("shapes", [((1,), ()), ((), (1,)), ((1,), (1,))])
def test_a_loss_in_brackets_is_the_same_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shapes: tuple[Any, Any]
) -> None:
    plain = my_text.FillIn.loss
    made = [config(tmp_path / name, "fill_in", "train.micro_batch_size=8") for name in "ab"]
    runner.run(made[0])

    def loss(*args: Any) -> Loss:
        found = plain(*args)
        assert found.weight is not None
        return Loss(found.mean.reshape(shapes[0]), found.weight.reshape(shapes[1]))

    monkeypatch.setattr(my_text.FillIn, "loss", loss)
    runner.run(made[1])
    assert losses(made[1]) == losses(made[0])
    forked.assert_same_end(*made)


def test_a_cool_down_that_cannot_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    made = config(tmp_path, "fill_in", "schedule.name=constant", "schedule.cooldown_steps=99")
    with pytest.raises(ConfigError, match="cooldown_steps=99: only 3 of the 6"):
        runner.run(made)
    assert not losses_begun(made)


def test_a_headline_and_an_evaluation_that_disagree_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headline = replace(my_text.FillIn.headline, better="higher")
    monkeypatch.setattr(my_text.FillIn, "headline", headline)
    with pytest.raises(UserError, match="says that lower is better of loss, and .* says higher"):
        runner.run(config(tmp_path, "fill_in"))


def test_an_evaluation_that_fails_loses_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, made = (config(tmp_path / name, "fill_in", "train.steps=5") for name in "ab")
    runner.run(whole)

    def fails(self: Any, model: Any, context: Any) -> Any:
        raise OSError("no room for the answers")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="no room"):
        patch.setattr(my_text.FillIn, "_measure", fails)
        runner.run(made)
    monkeypatch.setattr(my_text.FillIn, "loss", None)  # nothing is trained again
    assert runner.run(made).state == "finished"
    forked.assert_same_end(whole, made)


def test_a_headline_that_nobody_measures_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headline = Headline("los", better="lower")
    monkeypatch.setattr(my_text.FillIn, "headline", headline)
    made = config(tmp_path, "fill_in", "eval.every_steps=2")
    assert runner.run(made).state == "finished"
    log = (tmp_path / run_id(made) / "log.txt").read_text()
    assert "not measured: los on val and test, by which this task says it is judged" in log
    assert "measured: val loss, val filled in, test loss, test filled in" in log
    last = log.rindex(f"step {made.train.steps}/{made.train.steps}")
    assert log.index("not measured: los") < last < log.rindex("not measured: los")
    together = [config(tmp_path, "fill_in", f"seed={seed}") for seed in (1, 2)]
    assert [entry.state for entry in run_group(together, compile=False)] == ["finished"] * 2
    assert "not measured: los" in (tmp_path / run_id(together[0]) / "log.txt").read_text()


def test_what_the_last_evaluation_may_still_measure_is_not_missed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offered(self: Any) -> list[Evaluation]:
        return [Evaluation("fill in", self._measure), Evaluation("late", late, "last")]

    def late(model: Any, context: Any) -> Any:
        yield from (Measurement(split, "los", 1.0, "nats", 1, "lower") for split in ("val", "test"))

    monkeypatch.setattr(my_text.FillIn, "evaluations", offered)
    monkeypatch.setattr(my_text.FillIn, "headline", Headline("los", better="lower"))
    made = config(tmp_path, "fill_in", "eval.every_steps=2")
    runner.run(made)
    assert "not measured" not in (tmp_path / run_id(made) / "log.txt").read_text()


def test_weights_that_are_not_averaged_are_not_judged_as_averaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that judges averaged weights, in a run that has none: the raw ones count."""
    headline = replace(my_text.FillIn.headline, weights="ema")
    monkeypatch.setattr(my_text.FillIn, "headline", headline)
    made = config(tmp_path, "fill_in")
    runner.run(made)
    assert '"weights": "raw"' in read_json(tmp_path / run_id(made) / "run.json")["headline"]
    assert "not measured" not in (tmp_path / run_id(made) / "log.txt").read_text()
    with pytest.raises(UserError, match="weights='averaged' must be 'raw' or 'ema'"):
        replace(headline, weights="averaged")


class Masking(my_text.FillIn):
    """`vmap` follows the mask of a batch that all share; one of each run from torch 2.15 on."""

    def loss(self, model: Any, batch: Any, world: Any) -> Any:
        blanks, truth = batch
        truth = truth.clone()
        truth[blanks.sum(1) % 2 == 0] = my_text.IGNORED
        return super().loss(model, (blanks, truth), world)


def test_seeds_whose_batches_vmap_cannot_follow_train_one_after_another(tmp_path: Path) -> None:
    target = f"task._target_={__name__}.Masking"
    one = [config(tmp_path, "fill_in", target, f"optimizer.lr={lr}") for lr in ("1e-3", "2e-3")]
    assert [entry.state for entry in run_group(one, compile=False)] == ["finished"] * 2
    seeds = [config(tmp_path, "fill_in", target, f"seed={seed}") for seed in (1, 2)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert [entry.state for entry in run_group(seeds, compile=False)] == ["finished"] * 2
    told = [str(each.message) for each in said]
    is_followed = Version(torch.__version__) >= Version("2.15")
    assert is_followed != any("one after another: vmap cannot follow it" in each for each in told)


class Keeping(my_text.FillIn):
    """Only some lines go into the model, another number in each batch."""

    def loss(self, model: Any, batch: Any, world: Any) -> Any:
        kept = batch[0].sum(1) % 2 == 0
        return super().loss(model, tuple(tensor[kept] for tensor in batch), world)


class Counted(my_text.FillIn):
    """A number of a batch weighs its loss."""

    def loss(self, model: Any, batch: Any, world: Any) -> Any:
        found = super().loss(model, batch, world)
        number = self.number((batch[0].sum(1) % 2 == 0).sum())
        return replace(found, mean=found.mean * number)

    def number(self, count: torch.Tensor) -> float:
        return float(count)


class Listed(Counted):
    def number(self, count: torch.Tensor) -> float:
        return count.view(1).tolist()[0]


class InNumpy(Counted):
    def number(self, count: torch.Tensor) -> float:
        return float(np.asarray(count))


@pytest.mark.parametrize("kind", [Keeping, Counted, Listed, InNumpy])
def test_a_loss_that_goes_by_the_numbers_of_a_batch_is_trained_one_after_another(
    kind: type, tmp_path: Path
) -> None:
    """A trace of the first batch would keep its numbers in silence, or fail at the next."""

    def made(lr: str) -> RunConfig:
        words = (f"task._target_={__name__}.{kind.__name__}", f"optimizer.lr={lr}", "train.steps=4")
        return config(tmp_path / "together", "fill_in", *words, "train.epochs=null")

    together = [made(lr) for lr in ("1e-3", "2e-3")]
    with pytest.warns(UserWarning, match="one after another: (the shape|the number|vmap)"):
        assert [entry.state for entry in run_group(together, compile=False)] == ["finished"] * 2
    for ours in together:
        alone = replace(ours, results_dir=str(tmp_path / "alone"))
        runner.run(alone)
        assert losses(ours) == losses(alone)
