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
from experiments.distributed import World
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
