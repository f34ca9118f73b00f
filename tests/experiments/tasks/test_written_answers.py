"""What answers a model writes, and what they are worth: by hand, on one to three processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import texts
import torch
from in_threads import together
from torch import Tensor, nn

from experiments.data.text_pairs import ArrayPairs, Exam
from experiments.data.tokenizer import CharacterTokenizer
from experiments.distributed import World
from experiments.evaluations import glue
from experiments.evaluations.evaluation import Context, Measurement
from experiments.tasks.text_to_text import TextToText, write

END = 1
ASKED = [(5, 1), (6, 2), (7, 3), (5, 2), (6, 2), (6, 2)]
TRUTH = [[5, END], [6, 6, END], [7, 7, 7, END], [5, 6, END], [6, 6, END], [5, 6, END]]


class Repeats(nn.Module):
    """Asked for (letter, n) it answers the letter n times, and is very sure."""

    def get_encoder(self) -> Any:
        return lambda input_ids, attention_mask: input_ids

    def forward(
        self,
        decoder_input_ids: Tensor,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        encoder_outputs: Tensor | None = None,
    ) -> Any:
        asked = encoder_outputs if input_ids is None else input_ids
        assert asked is not None
        place = torch.arange(decoder_input_ids.shape[1])
        token = torch.where(place < asked[:, 1:2], asked[:, :1], END)
        return SimpleNamespace(logits=50.0 * nn.functional.one_hot(token, 24).float())


def task(*exams: Exam) -> TextToText:
    made = TextToText({"_target_": "texts.pairs"}, {})
    made.source.exams, made.source.average = list(exams), True
    return made


def exam(**settings: Any) -> Exam:
    inputs = [np.array([letter, number, END]) for letter, number in ASKED]
    return Exam("val", ArrayPairs(inputs, [np.array(row) for row in TRUTH]), **settings)


def measured(of: TextToText, world: World, batch_size: int = 2) -> dict[str, Measurement]:
    (evaluation,) = of.evaluations()
    found = evaluation.measure(Repeats(), Context(world, 0, batch_size, 0))
    return {one.metric: one for one in found}


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_answers_are_graded_in_their_order(size: int, batch_size: int) -> None:
    """The fourth is no one's answer; the last one is another's."""
    for found in together(size, lambda world: measured(task(exam()), world, batch_size)):
        assert found["accuracy"].value == pytest.approx(100 * 4 / 6)
        assert found["valid"].value == pytest.approx(100 * 5 / 6)
        assert found["average"].value == found["accuracy"].value and found["average"].n == 6
        assert found["loss"].value == pytest.approx(2 * 50 / 18)  # two of 18 tokens are wrong
        assert found["loss"].n == 18 and found["accuracy"].n == 6
        assert found["valid"].better is None and found["accuracy"].better == "higher"


def test_an_exam_may_bound_its_answers_or_be_read_alone() -> None:
    """Of three letters two are written, which is wrong; an exam without answers has no score."""
    short, read = exam(max_answer=2, task="short"), exam(is_written=False, task="read")
    found = measured(task(short, read), World(0, 1, torch.device("cpu")))
    assert found["short_accuracy"].value == pytest.approx(100 * 3 / 6)
    assert found["short_valid"].value == pytest.approx(100 * 4 / 6)
    assert found["read_loss"].value == found["short_loss"].value
    assert (found["average"].value, found["average"].n) == (found["short_accuracy"].value, 6)
    assert not {"read_accuracy", "read_valid"} & found.keys()


@pytest.mark.parametrize(
    ("longest", "expected"),
    [
        (None, [[5, 1, 0, 0], [7, 7, 7, 1]]),  # the source says four
        (2, [[5, 1], [7, 7]]),
        (5, [[5, 1, 0, 0, 0], [7, 7, 7, 1, 0]]),
    ],
)
def test_behind_its_end_an_answer_is_padding(
    longest: int | None, expected: list[list[int]]
) -> None:
    inputs = torch.tensor([[5, 1, END], [7, 3, END]])
    found = write(Repeats(), inputs, inputs > 0, texts.pairs(), longest)
    assert found.tolist() == expected


class Knows(Repeats):
    """Asked for a number it gives the answer of that number, right or wrong."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self._answers = answers

    def forward(self, decoder_input_ids: Tensor, **given: Any) -> Any:
        asked = given.get("input_ids", given.get("encoder_outputs"))
        assert asked is not None
        said = self._answers[asked[:, 0] - 2, : decoder_input_ids.shape[1]]
        return SimpleNamespace(logits=50.0 * nn.functional.one_hot(said, 60).float())


GRADED = {  # the truth, and what is said
    "cola": "acceptable acceptable unacceptable acceptable unacceptable; "
    "acceptable unacceptable unacceptable nonsense unacceptable",
    "mrpc": "equivalent not_equivalent equivalent not_equivalent equivalent; "
    "equivalent equivalent not_equivalent nonsense nonsense",
    "stsb": "0.2 5.0 3.4 1.0 2.2; 1.0 4.8 nonsense 1.0 2.0",
    "rte": "entailment entailment entailment entailment entailment; "
    "entailment not_entailment entailment entailment nonsense",
}


@pytest.mark.parametrize("size", [1, 2, 3, 6])
@pytest.mark.parametrize("name", GRADED)
def test_correlations_of_glue_are_of_all_answers_and_no_mean_over_processes(
    name: str, size: int
) -> None:
    """Some process has one example, or one class, or nothing."""
    truth, given = (side.split() for side in GRADED[name].split(";"))
    letters = CharacterTokenizer("~|abcdefghijklmnopqrstuvwxyz_0123456789.")
    letters.pad_id, letters.eos_id = 0, END
    rows = [[np.append(ids, END) for ids in letters.encode(side)] for side in (truth, given)]
    answers = torch.zeros(len(given), 20, dtype=torch.int64)
    for number, row in enumerate(rows[1]):
        answers[number, : len(row)] = torch.from_numpy(np.asarray(row))
    asked = [np.array([2 + number, END]) for number in range(len(truth))]
    pairs = ArrayPairs(asked, rows[0])

    def scores(world: World) -> dict[str, float]:
        of = task(Exam("val", pairs, grading=name, task=name, max_answer=20))
        of.source.tokenizer, of.source.max_answer = letters, 20
        (evaluation,) = of.evaluations()
        found = evaluation.measure(Knows(answers), Context(world, 0, 2, 0))
        return {one.metric: one.value for one in found if one.better == "higher"}

    wanted = {f"{name}_{key}": value for key, value in glue.scores(name, truth, given).items()}
    wanted["average"] = sum(wanted.values()) / len(wanted)
    assert all(value != 0 for value in wanted.values())
    for found in together(size, scores):
        assert found == pytest.approx(wanted)
