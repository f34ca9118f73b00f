"""What a model scores and writes for lm-eval: on one whose answers can be said beforehand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from in_threads import together
from torch import Tensor, nn

from experiments.config import UserError
from experiments.data.tokenizer import CharacterTokenizer
from experiments.distributed import World
from experiments.evaluations.evaluation import Context

pytest.importorskip("lm_eval")
from experiments.evaluations.one_shot_model import OneShotModel

LETTERS = "abcdefgh\n"
NEXT, OTHER = (x - math.log(math.e**3 + 10) for x in (3.0, 0.0))
"""Nats of the letter that follows, and of any other of the eleven tokens."""


class Alphabet(nn.Module):
    """Behind a comes b, behind h the end of the line, behind that a; it notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[list[int]] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.shown += tokens.tolist()
        follows = torch.where(tokens < 8, tokens + 1, 0)
        return 3.0 * nn.functional.one_hot(follows, 11).float()


def judged(
    length: int = 50, world: World | None = None, net: nn.Module | None = None
) -> OneShotModel:
    world = world or World(0, 1, torch.device("cpu"))
    return OneShotModel(
        net or Alphabet(), CharacterTokenizer(LETTERS), length, Context(world, 0, 2, 0)
    )


def asked(*arguments: Any) -> Any:
    return SimpleNamespace(args=arguments)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_writes_until_a_stop_the_end_or_the_limit(size: int) -> None:
    requests = [
        asked("abc", {}),  # to the end of the line
        asked("abc", {"until": ["g"]}),
        asked("a", {"until": "de"}),  # two letters, and no list
        asked("e", {"until": ["", "h", "g"]}),  # nothing stops nothing; the earlier one counts
        asked("ab", {"max_gen_toks": 3}),
        asked("", {}),  # behind the end of a line
        asked("h", {}),
    ]
    answers = ["defgh", "def", "bc", "f", "cde", "abcdefgh", ""]
    for found in together(size, lambda world: judged(80, world).generate_until(requests)):
        assert found == answers


def test_a_long_text_loses_its_beginning_and_leaves_room_for_the_answer() -> None:
    model = Alphabet()
    (written,) = judged(6, net=model).generate_until([asked("hgfedab", {"max_gen_toks": 4})])
    assert written == "cdef"
    assert model.shown == [[0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]
    for length in (3, 4):
        with pytest.raises(UserError, match="4 tokens be written, and the model sees"):
            judged(length, net=model).generate_until([asked("hgfedab", {"max_gen_toks": 4})])


def ids(text: str) -> list[int]:
    return [LETTERS.index(letter) for letter in text]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_scores_the_continuation_and_nothing_else(size: int) -> None:
    cases = [
        ("a", "bc", 2 * NEXT, True),
        ("hh", "bcd", OTHER + 2 * NEXT, False),
        ("ha", "b", NEXT, True),  # h, then a: not scored
        ("abcdefg", "ab", OTHER + NEXT, False),
        ("d", "e", NEXT, True),
    ]
    requests = [("", ids(begin), ids(end)) for begin, end, _, _ in cases]
    for found in together(size, lambda w: judged(world=w)._loglikelihood_tokens(requests)):
        assert [nats for nats, _ in found] == pytest.approx([nats for _, _, nats, _ in cases])
        assert [greedy for _, greedy in found] == [greedy for *_, greedy in cases]


def test_of_a_text_that_is_too_long_the_last_tokens_are_scored() -> None:
    model = Alphabet()
    requests = [("", ids("habc"), ids("de")), ("", ids("a"), ids("hhbcde"))]
    found = judged(4, net=model)._loglikelihood_tokens(requests)
    # of the second, h at the beginning is seen, and b behind it is wrong
    assert [nats for nats, _ in found] == pytest.approx([2 * NEXT, OTHER + 3 * NEXT])
    assert model.shown == [ids("hbcd"), ids("abcd")]  # the longest first


def test_each_token_of_a_rolling_text_is_scored_once() -> None:
    """Windows of four: the second one begins with the end of the first."""
    found = judged(4).loglikelihood_rolling([asked("abcdaef"), asked("ab")])
    # the end of a line, then a b c d | a e f: a behind d, and e behind a, do not follow
    assert found == pytest.approx([5 * NEXT + 2 * OTHER, 2 * NEXT])
