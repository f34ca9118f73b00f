"""The three text tasks, each with the models that it is used with: what every task must do."""

from __future__ import annotations

import math
import signal
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import texts
import tiny
import torch
from torch import Tensor, nn

from experiments.config import ConfigError, RunConfig
from experiments.data.order import BatchPlan, seed_all
from experiments.distributed import World
from experiments.models.looking_ahead import sides
from experiments.models.token_loss import logits_of
from experiments.parts import build_parts
from experiments.sweep.grouping import why_alone
from experiments.sweep.stack import Stack
from experiments.tasks.masked_language import PLACES, SHOWN, TARGETS, MaskedLanguage
from experiments.tasks.task import Batch, Context, Measurement, check_task
from run import compose

ALONE = World(0, 1, torch.device("cpu"))
KINDS = [kind for kind in ("causal", "masked", "text to text") if kind in texts.CASES]
needs_transformers = pytest.mark.skipif("causal gpt2" not in texts.CASES, reason="transformers")
ADAMW = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-2, "weight_decay": 0.1}}


def first_batch(task: Any, size: int = 8, seed: int = 0) -> Batch:
    plan = BatchPlan(seed, task.num_train, size, size)
    ((batch,),) = task.batches(plan, 0, 1)
    return batch


def net(task: Any) -> nn.Module:
    seed_all(0)
    return task.build_model()


@pytest.mark.parametrize("case", texts.CASES)
def test_nothing_is_known_at_first_and_every_parameter_learns(case: str) -> None:
    task = texts.build_task(case)
    model = net(task)
    loss = task.loss(model, first_batch(task, 32), ALONE)
    loss.mean.backward()
    # the rotary transformer begins with logits of variance 1, half a nat above; T5, whose output
    # is tied, with a strong belief that a token comes again
    slack = 0.1 if "gpt2" in case or "nemotron" in case else 1.4
    assert math.log(22) - 0.1 < loss.mean.item() < math.log(24) + slack
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("case", texts.CASES)
def test_one_batch_can_be_learnt_by_heart(case: str) -> None:
    task = texts.build_task(case)
    model, batch = net(task), first_batch(task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(300):
        loss = task.loss(model, batch, ALONE).mean
        if loss.item() < 0.1:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise AssertionError(f"{loss.item()} after 300 steps")


@pytest.mark.parametrize("case", texts.CASES)
def test_an_example_batch_has_the_shapes_and_types_of_a_real_one(case: str) -> None:
    task = texts.build_task(case)
    example, real = task.example_batch(8), first_batch(task)
    for one, other in zip(example, real, strict=True):
        assert one.device.type == "meta" and one.dtype == other.dtype
        assert one.shape[0] == other.shape[0]
        if case != "text to text":  # there, a batch is as wide as its longest text
            assert one.shape == other.shape


def config(folder: Path, case: str, **changes: Any) -> RunConfig:
    return tiny.config(
        folder,
        **texts.sections(case),
        **{
            "train__epochs": None,
            "train__steps": 12,
            "train__batch_size": 8,
            "eval__every_epochs": None,
            "eval__every_steps": 6,
            "eval__batch_size": 16,
            **changes,
        },
    )


@pytest.mark.parametrize("case", KINDS)
def test_killed_and_resumed_is_bit_equal(tmp_path: Path, case: str) -> None:
    whole, killed = config(tmp_path / "whole", case), config(tmp_path / "killed", case)
    assert forked.run(whole) == 0
    assert forked.run(killed, **{tiny.KILL_VARIABLE: "8"}) == -signal.SIGKILL
    assert forked.run(killed) == 0
    a, b = forked.weights(whole), forked.weights(killed)
    assert a["step"] == b["step"] == 12
    for name, tensor in a["model"].items():
        assert torch.equal(tensor, b["model"][name]), name
    assert forked.rows(whole) == forked.rows(killed)


@pytest.mark.parametrize("case", KINDS)
def test_two_ranks_and_micro_batches_are_one_process(tmp_path: Path, case: str) -> None:
    one = config(tmp_path / "one", case, **ADAMW)
    two = config(tmp_path / "two", case, train__micro_batch_size=2, **ADAMW)
    assert forked.run(one) == 0
    assert forked.run_ranks(two, 2) == [0, 0]
    curves = [[(r["split"], r["metric"], r["n"]) for r in forked.rows(c)] for c in (one, two)]
    assert curves[0] == curves[1]
    values = [torch.tensor([r["value"] for r in forked.rows(c)]) for c in (one, two)]
    torch.testing.assert_close(values[1], values[0], rtol=2e-3, atol=1e-4)


def measured(task: Any, model: nn.Module, size: int = 16) -> dict[tuple[str, str], Any]:
    model.eval()
    with torch.no_grad():
        every = [e for e in task.evaluations() if e.when == "every"]
        found = [m for e in every for m in e.measure(model, Context(ALONE, 5, size, 0))]
    return {(m.split, m.metric): m for m in found}


def test_causal_perplexity_counts_each_token_once() -> None:
    task = texts.build_task("causal")
    model = net(task).eval()
    whole = torch.from_numpy(task.source.streams["val"].read(0, 400).astype(np.int64))
    nats, number = 0.0, 0
    for start in range(0, 399, 12):
        window = whole[start : start + 13]
        logs = model(window[None, :-1])[0].detach().log_softmax(-1)
        nats -= float(logs.gather(1, window[1:, None]).sum())
        number += len(window) - 1
    assert number == 399
    for size in (1, 16, 100):
        found = measured(task, model, size)
        assert found["val", "loss"].value == pytest.approx(nats / 399, rel=1e-5)
        assert found["val", "loss"].n == 399 and found["val", "loss"].better == "lower"
        assert found["val", "perplexity"].value == pytest.approx(math.exp(nats / 399), rel=1e-5)
        assert found["val", "loss_per_word"].value == pytest.approx(nats / 100, rel=1e-5)
        assert found["val", "loss_per_word"].n == 100
    assert task.headline.metric == "loss" and task.headline.better == "lower"
    assert task.headline.report == "test"


def test_a_part_of_a_split_says_nothing_per_word() -> None:
    task = texts.build_task("causal")
    task.source._max_eval_windows = 5
    found = measured(task, net(task))
    assert found["val", "loss"].n == 60 and ("val", "loss_per_word") not in found


@needs_transformers
def test_a_causal_model_does_not_see_what_it_predicts() -> None:
    for case in ("causal", "causal gpt2"):
        model = net(texts.build_task(case)).eval()
        tokens = torch.randint(0, 21, (1, 12))
        changed = tokens.clone()
        changed[0, 6] = (tokens[0, 6] + 1) % 21
        one, other = (logits_of(model(t)) for t in (tokens, changed))
        assert torch.equal(one[:, :6], other[:, :6]) and not torch.equal(one[:, 6:], other[:, 6:])


@needs_transformers
@pytest.mark.parametrize("case", ["causal", "causal gpt2"])
def test_a_model_that_sees_what_it_is_to_predict_is_refused(case: str) -> None:
    """Its loss would fall to 0."""
    task = texts.build_task(case)
    with torch.device("meta"):
        assert sides(task.build_model(), 21) == (False, False)
    assert task.build_model().training
    task._model = {
        **task._model,
        "causal" if case == "causal" else "bidirectional": case != "causal",
    }
    with pytest.raises(ConfigError, match="changes with the tokens behind it, so it would see"):
        task.build_model()
    task._model = {
        **{"_target_": texts.TRANSFORMERS, "model_name": "RobertaForCausalLM", "vocab_size": 23},
        **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"intermediate_size": 8, "is_decoder": case == "causal"},
    }
    if case == "causal":
        task.build_model()
        return
    with pytest.raises(ConfigError, match=r"model\.is_decoder=true"):
        task.build_model()


def test_a_model_that_cannot_be_asked_is_left_to_the_first_step() -> None:
    for model in (nn.Linear(3, 3), nn.Identity()):
        assert sides(model, 21) == (False, False)


@needs_transformers
@pytest.mark.parametrize("case", ["masked", "masked gpt2"])
def test_a_model_of_hidden_tokens_that_sees_one_side_alone_is_said(case: str) -> None:
    task = texts.build_task(case)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = task.build_model()
    assert sides(model, 21) == (True, True)
    torch.nn.init.zeros_(model.get_output_embeddings().weight)  # of this one it cannot be told
    assert sides(model, 21) == (False, False)
    task._model = {
        **task._model,
        "causal" if case == "masked" else "bidirectional": case == "masked",
    }
    with pytest.warns(UserWarning, match="none behind it: model.bidirectional=true or"):
        task.build_model()


@needs_transformers
def test_a_bidirectional_model_sees_both_sides() -> None:
    for case in ("masked", "masked gpt2"):
        model = net(texts.build_task(case)).eval()
        tokens = torch.randint(0, 21, (1, 12))
        changed = tokens.clone()
        changed[0, -1] = (tokens[0, -1] + 1) % 21
        one, other = (logits_of(model(t)) for t in (tokens, changed))
        assert (one[0, 0] - other[0, 0]).abs().max() > 1e-6


@needs_transformers
@pytest.mark.parametrize("case", ["causal nemotron, in chunks", "text to text"])
def test_chunks_change_neither_the_loss_nor_the_gradients(case: str) -> None:
    results = []
    for chunk in (None, 5, 1000):
        task, data, model, _ = texts.CASES[case]
        texts.CASES["chunked"] = (task, data, model, {"loss_chunk": chunk})
        built = texts.build_task("chunked")
        net_ = net(built)
        loss = built.loss(net_, first_batch(built), ALONE).mean
        loss.backward()
        results.append((loss.detach(), [p.grad for p in net_.parameters()]))
        del texts.CASES["chunked"]
    for loss, grads in results[1:]:
        torch.testing.assert_close(loss, results[0][0])
        for one, other in zip(grads, results[0][1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@needs_transformers
def test_activation_checkpointing_changes_no_number() -> None:
    losses, grads = [], []
    for wanted in (False, True):
        task = texts.build_task("causal gpt2")
        task._model = {**task._model, "activation_checkpointing": wanted, "resid_pdrop": 0.2}
        model = net(task).train()
        seed_all(3)
        loss = task.loss(model, first_batch(task), ALONE).mean
        loss.backward()
        losses.append(loss.item())
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert losses[0] == losses[1]
    torch.testing.assert_close(grads[0], grads[1])


# --- masks ----------------------------------------------------------------------------------------


def masked_batches(task: Any, seed: int, epoch_steps: int = 1) -> list[list[Tensor]]:
    plan = BatchPlan(seed, task.num_train, 8, 8)
    return [list(batch) for (batch,) in task.batches(plan, 0, epoch_steps)]


def test_every_window_hides_the_same_number_of_tokens() -> None:
    task = texts.build_task("masked")
    assert task.num_masked == 4  # 30 % of 12
    task.source.streams["train"]._tokens = task.source.streams["train"]._tokens[: 12 * 90]
    assert task.num_train == 90, "a window has no target behind it"
    shown, places, targets = first_batch(task, 64)
    assert places.shape == targets.shape == (64, 4)
    assert all(len(set(row)) == 4 for row in places.tolist())
    hidden = shown.gather(1, places)
    untouched = torch.ones_like(shown, dtype=torch.bool).scatter(1, places, False)
    original = shown.scatter(1, places, targets)
    assert torch.equal(shown[untouched], original[untouched])
    share = (hidden == task.source.tokenizer.mask_id).float().mean().item()
    assert 0.7 < share < 0.9  # 80 %
    assert 0.03 < (hidden == targets).float().mean().item() < 0.2  # 10 % kept
    drawn = (hidden != task.source.tokenizer.mask_id) & (hidden != targets)
    assert len(hidden[drawn].unique()) > 5, "of all tokens"


def test_what_is_shown_in_the_place_of_a_token_follows_the_shares() -> None:
    shares = {"masked_share": 1.0, "kept_share": 0.1, "random_share": 0.3}
    task = MaskedLanguage({"_target_": "texts.windows"}, texts.OWN, **shares)
    tokens, others = task.source.read("train", np.arange(40), 0), []
    for tokens_of, seed in zip(tokens, range(40), strict=True):
        (shown,), (places,), (targets,) = task._corrupted(tokens_of[None], [seed], False)
        order, kinds, random = task._draw(seed, np.zeros(12, np.bool_))
        assert places.tolist() == order.tolist() and torch.equal(tokens_of[places], targets)
        mask = task.source.tokenizer.mask_id
        for place, kind, other in zip(order, kinds, random, strict=True):
            wanted = tokens_of[place] if kind < 0.1 else other if kind < 0.4 else mask
            assert int(shown[place]) == int(wanted)
        others += random.tolist()
    assert set(others) == set(range(task.source.tokenizer.vocab_size))


def test_special_tokens_are_hidden_last() -> None:
    """As in BERT: what ends a document says nothing of whether words are understood."""
    task = MaskedLanguage({"_target_": "texts.windows"}, texts.OWN, masked_share=0.5)
    task.source.tokenizer.eos_id = 5
    tokens = torch.randint(6, 20, (40, 12), generator=torch.Generator().manual_seed(0))
    plain = task._corrupted(tokens, range(40), False)[PLACES]
    assert set(plain.flatten().tolist()) == set(range(12))
    ended = tokens.clone()
    ended[:, [2, 7, 8]] = 5
    places, targets = task._corrupted(ended, range(40), False)[PLACES:]
    assert set(places.flatten().tolist()) == {0, 1, 3, 4, 5, 6, 9, 10, 11}
    assert places.shape == (40, 6) and not (targets == 5).any()
    ended[:, 3:] = 5  # three tokens of text are left, and six are to be predicted
    places, targets = task._corrupted(ended, range(40), False)[PLACES:]
    assert ((targets == 5).sum(1) == 4).all() and all(len(set(r)) == 6 for r in places.tolist())


def test_masks_come_from_the_seed_the_epoch_and_the_window() -> None:
    task = texts.build_task("masked")
    one, again, other = (masked_batches(task, seed)[0] for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[PLACES], other[PLACES])
    plan = BatchPlan(0, task.num_train, 8, 8)
    numbers = np.arange(8)
    epochs = [task._train_batch(plan, epoch, numbers) for epoch in (0, 1)]
    assert not torch.equal(epochs[0][PLACES], epochs[1][PLACES])
    apart = [task._train_batch(plan, 0, numbers[n : n + 1]) for n in range(8)]
    second = task.num_train // 8  # first step of the second epoch
    (((shown, *_),),) = task.batches(plan, second, second + 1)
    (chosen,) = plan.micro_batches(second)
    assert torch.equal(shown, task._train_batch(plan, 1, chosen)[SHOWN])
    together = torch.cat([batch[SHOWN] for batch in apart])
    assert torch.equal(together, epochs[0][SHOWN])  # whatever else is in the batch


def test_the_loss_is_that_of_the_hidden_tokens_at_their_places() -> None:
    task = texts.build_task("masked")
    batch, logits = first_batch(task), torch.randn(8, 12, 23)
    log_p = logits.log_softmax(-1)
    each = [
        -log_p[row, place, target]
        for row in range(8)
        for place, target in zip(batch[PLACES][row], batch[TARGETS][row], strict=True)
    ]
    found = task.loss(lambda shown: logits, batch, ALONE).mean
    assert float(found) == pytest.approx(float(torch.stack(each).mean()), rel=1e-5)


@pytest.mark.parametrize("all_masked", [False, True])
def test_an_evaluation_shows_what_training_shows_or_the_mask_alone(all_masked: bool) -> None:
    settings = {"masked_share": 0.3, "eval_all_masked": all_masked}
    task, seen = MaskedLanguage({"_target_": "texts.windows"}, texts.OWN, **settings), []

    class Seen(nn.Module):
        def forward(self, shown: Tensor) -> Tensor:
            seen.append(shown)
            return torch.zeros(*shown.shape, 23)

    assert measured(task, Seen(), 16)["val", "loss"].value == pytest.approx(math.log(23))
    share = (torch.cat(seen) == task.source.tokenizer.mask_id).float().mean().item() * 12 / 4
    assert share == pytest.approx(1.0) if all_masked else 0.7 < share < 0.9


def test_masks_of_an_evaluation_are_fixed_by_its_seed() -> None:
    task = texts.build_task("masked")
    model = net(task)
    first = measured(task, model, 16)
    assert measured(task, model, 3)["val", "loss"].value == pytest.approx(
        first["val", "loss"].value, rel=1e-6
    )
    assert first["val", "loss"].n == 4 * (400 // 12)


def test_an_evaluation_may_show_the_mask_for_all_of_them() -> None:
    task = texts.build_task("masked")
    tokens = task.source.read("val", np.arange(20), 0)
    shown, places, targets = task._corrupted(tokens, range(20), all_masked=True)
    assert (shown.gather(1, places) == task.source.tokenizer.mask_id).all()
    assert torch.equal(tokens.gather(1, places), targets)
    assert TARGETS == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"masked_share": 0.0}, "task.masked_share=0.0"),
        ({"masked_share": 1.2}, "task.masked_share=1.2"),
        ({"kept_share": 0.6, "random_share": 0.6}, "their sum must be at most 1"),
        ({"kept_share": -0.1}, "must be 0 or more"),
    ],
)
def test_shares_that_cannot_be_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        MaskedLanguage({"_target_": "texts.windows"}, texts.OWN, **settings)  # type: ignore[arg-type]


# --- answers --------------------------------------------------------------------------------------


class Oracle(nn.Module):
    """Knows the answer, and when to end."""

    def get_encoder(self) -> nn.Module:
        return self.Encoder()

    class Encoder(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return input_ids[:, 0]

    def forward(
        self,
        decoder_input_ids: Tensor,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        encoder_outputs: Tensor | None = None,
    ) -> Tensor:
        first = encoder_outputs if input_ids is None else input_ids[:, 0]
        assert first is not None
        place = torch.arange(decoder_input_ids.shape[1])
        token = torch.where(place <= (first % 2)[:, None], first[:, None] - place, 1)
        return 50.0 * nn.functional.one_hot(token, 24).float()


@needs_transformers
def test_answers_are_written_and_graded() -> None:
    task = texts.build_task("text to text")
    assert texts.pairs().tokenizer.eos_id == 1

    class Model(Oracle):
        def forward(self, *arguments: Any, **named: Any) -> Any:
            logits = super().forward(*arguments, **named)
            return type("Output", (), {"logits": logits})()

    task.source.average = True
    found = measured(task, Model(), 5)
    assert found["val", "accuracy"].value == 100.0 and found["val", "accuracy"].n == 37
    # of the examples, and not of the 1 score: a step of the mean would be 100 points
    assert found["val", "average"].value == 100.0 and found["val", "average"].n == 37
    assert found["test", "average"].n == 41
    assert found["test", "valid"].value == 100.0
    assert found["val", "loss"].value == pytest.approx(0.0, abs=1e-6)
    tokens = sum(len(task.source.exams[0].pairs.pair(n)[1]) for n in range(37))
    assert found["val", "loss"].n == tokens


@needs_transformers
def test_an_average_is_over_every_score_of_a_split_and_no_loss() -> None:
    task, given = texts.build_task("text to text"), {"a": (80.0, 70.0), "b": (45.0,)}
    (val, *_) = task.source.exams
    task.source.average, task.source.exams = True, [replace(val, task=name) for name in given]

    def sit(exam: Any, *_: Any) -> list[Measurement]:
        told = [Measurement("val", f"{exam.task}_loss", 9.0, "nats per token", 5, "lower")]
        told += [Measurement("val", f"{exam.task}_valid", 10.0, "%", 5, None)]
        return told + [
            Measurement("val", f"{exam.task}_{n}", value, "%", 5, "higher")
            for n, value in enumerate(given[exam.task])
        ]

    task._sit = sit
    found = measured(task, nn.Identity())["val", "average"]
    assert (found.value, found.n) == (65.0, 2 * len(val.pairs))


@needs_transformers
def test_the_decoder_sees_the_answer_one_token_late_and_nothing_of_its_end() -> None:
    task, seen = texts.build_task("text to text"), {}
    pad, inputs = task.source.tokenizer.pad_id, torch.ones(2, 3, dtype=torch.int64)
    answers = torch.tensor([[5, 6, 7], [8, 9, -100]])

    def model(**given: Tensor) -> Tensor:
        seen.update(given)
        return torch.zeros(2, 3, 23)

    loss = task.loss(model, (inputs, inputs.bool(), answers), ALONE)
    assert seen["decoder_input_ids"].tolist() == [[pad, 5, 6], [pad, 8, 9]]
    assert seen["attention_mask"].all() and loss.weight is not None and loss.weight.item() == 5
    assert loss.mean.item() == pytest.approx(math.log(23))


@needs_transformers
def test_micro_batches_weigh_what_their_answers_are_long() -> None:
    task = texts.build_task("text to text")
    loss = task.loss(net(task), first_batch(task), ALONE)
    assert loss.weight is not None
    assert loss.weight.item() == (first_batch(task)[2] != -100).sum().item()


def test_a_model_with_too_few_embeddings_is_refused() -> None:
    for case in KINDS:
        task = texts.build_task(case)
        task._model = {**task._model, "vocab_size": 20}
        with pytest.raises(ConfigError, match="the tokenizer has"):
            task.build_model()


@needs_transformers
@pytest.mark.parametrize("case", ["causal gpt2", "masked gpt2"])
def test_windows_longer_than_the_models_positions_are_refused(case: str) -> None:
    task = texts.build_task(case)
    task._model = {**task._model, "n_positions": 11}
    with pytest.raises(ConfigError, match=r"data\.length=12: the model has 11 positions .*\.wpe"):
        task.build_model()


@pytest.mark.parametrize("page", ["lm_proxy", "mlm_proxy"])
def test_the_proxies_of_language_models_can_be_trained_together(page: str) -> None:
    assert why_alone(compose([f"experiment={page}", "optimizer=lion"])) == ""


@needs_transformers
def test_what_cannot_be_trained_together_says_why() -> None:
    assert "weighs micro-batches" in why_alone(compose(["experiment=t5_proxy"]))
    assert "task.loss_chunk" in why_alone(compose(["experiment=lm_proxy", "task.loss_chunk=64"]))


@pytest.mark.parametrize("case", ["causal", "masked"])
def test_runs_trained_together_have_the_gradients_of_runs_alone(tmp_path: Path, case: str) -> None:
    members = []
    for seed in (0, 1):
        own = config(tmp_path, case, seed=seed)
        task = check_task(texts.build_task(case))
        members.append(build_parts(own, task, ALONE))
    stack = Stack(members)
    batches = [first_batch(part.task, seed=part.config.seed) for part in members]
    both = tuple(torch.stack(column) for column in zip(*batches, strict=True))
    gradients, losses = stack.gradients(both, is_shared=False)
    for row, (part, batch) in enumerate(zip(members, batches, strict=True)):
        loss = part.task.loss(part.model, batch, ALONE).mean
        loss.backward()
        torch.testing.assert_close(losses[row], loss.detach())
        for name, parameter in part.model.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(gradients[name][row], parameter.grad, rtol=1e-3, atol=1e-6)


@needs_transformers
@pytest.mark.parametrize("case", ["text to text", "causal gpt2"])
def test_a_checkpoint_of_transformers_is_taken_as_it_is(tmp_path: Path, case: str) -> None:
    """It holds a tied tensor once, and one of T5 1.0 a bias that nothing uses."""
    from safetensors.torch import load_file, save_file

    seed_all(7)
    model: Any = texts.build_task(case).build_model()
    model.save_pretrained(tmp_path / "hub")
    path = tmp_path / "hub" / "model.safetensors"
    saved = load_file(path)
    assert len(saved) < len(model.state_dict())
    if case == "text to text":
        bias = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
        save_file({**saved, bias: torch.zeros(32, 2)}, path)
    still = {"optimizer__lr": 0.0, "train__steps": 1, "train__ema_decay": None}
    started = config(tmp_path / "run", case, start_from={"source": str(path)}, **still)
    assert forked.run(started) == 0
    found = forked.weights(started)["model"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(found[name], tensor), name
