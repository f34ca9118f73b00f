"""A model in memory as lm-eval wants it. Imports lm-eval, so import it late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor, nn

from experiments.config import UserError
from experiments.data.tokenizer import Tokenizer
from experiments.evaluations.evaluation import Context
from experiments.models.token_loss import logits_of

MAX_ANSWER = 64
"""Tokens that are written where a task does not say how many."""
Scored = tuple[Any, list[int], list[int]]
"""A request, and the tokens of its beginning and of the continuation that is scored."""


class OneShotModel(TemplateLM):
    """Scores continuations and writes greedily.

    Requests are shared out over the processes of a run; every process gets all answers.
    """

    def __init__(
        self, model: nn.Module, tokens: Tokenizer, max_length: int, context: Context
    ) -> None:
        super().__init__()
        self._model, self._tokens, self._context = model, tokens, context
        self._max_length = max_length

    @property
    def eot_token_id(self) -> int:
        """What stands before a text that begins from nothing; else the end of a line."""
        end = self._tokens.eos_id
        return end if end is not None else int(self._tokens.encode(["\n"])[0][0])

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        return self._tokens.encode([string])[0].tolist()

    def _loglikelihood_tokens(
        self, requests: list[Scored], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        world, size = self._context.world, self._context.batch_size
        order = sorted(range(len(requests)), key=lambda n: -len(requests[n][1] + requests[n][2]))
        mine = order[world.rank :: world.size]
        rows = []
        for start in range(0, len(mine), size):
            chosen = mine[start : start + size]
            scores = self._score([requests[n] for n in chosen])
            rows += [(n, *score) for n, score in zip(chosen, scores, strict=True)]
        found = torch.tensor(rows, dtype=torch.float64, device=world.device).view(-1, 3)
        answers = {int(n): (nats, bool(greedy)) for n, nats, greedy in world.gather(found).tolist()}
        return [answers[n] for n in range(len(requests))]

    def _score(self, requests: Sequence[Scored]) -> list[tuple[float, float]]:
        """Log-likelihood of each continuation, and whether it is what would be written."""
        rows = [[*begin, *end][-(self._max_length + 1) :] for _, begin, end in requests]
        longest = max(map(len, rows))
        table = torch.zeros((len(rows), longest), dtype=torch.int64)
        for number, row in enumerate(rows):
            table[number, : len(row)] = torch.tensor(row)
        table = table.to(self._context.world.device)
        logits = logits_of(self._model(table[:, :-1])).float()
        scores = []
        for number, (row, (_, _, end)) in enumerate(zip(rows, requests, strict=True)):
            count = min(len(end), len(row) - 1)
            place = slice(len(row) - 1 - count, len(row) - 1)
            logs = logits[number, place].log_softmax(-1)
            wanted = table[number, len(row) - count : len(row)]
            nats = logs.gather(1, wanted[:, None]).sum().item()
            scores.append((nats, float((logs.argmax(-1) == wanted).all())))
        return scores

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        totals = []
        for request in requests:
            ids = self.tok_encode(request.args[0])
            windows = get_rolling_token_windows(ids, self.eot_token_id, self._max_length, 1)
            parts = [("", *make_disjoint_window(window)) for window in windows]
            totals.append(sum(nats for nats, _ in self._loglikelihood_tokens(parts)))
        return totals

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        world, longest = self._context.world, 0
        most = max((_limit(request.args[1]) for request in requests), default=0)
        if most >= self._max_length:
            raise UserError(
                f"evaluation=one_shot: a task lets {most} tokens be written, and the model sees "
                f"{self._max_length}: nothing would be left of its questions; leave it out of "
                "task.one_shot.tasks"
            )
        mine = range(world.rank, len(requests), world.size)
        written = [self._write(*requests[n].args) for n in mine]
        longest = int(max((len(ids) for ids in written), default=0))
        width = int(world.gather(torch.tensor([[longest]], device=world.device)).max())
        table = torch.full((len(written), width + 1), -1, device=world.device)
        for row, (n, ids) in enumerate(zip(mine, written, strict=True)):
            table[row, 0] = n
            table[row, 1 : 1 + len(ids)] = torch.tensor(ids, dtype=torch.int64)
        answers = {row[0]: [i for i in row[1:] if i >= 0] for row in world.gather(table).tolist()}
        return [
            _before(self._tokens.decode(answers[n]), _stops(request.args[1]))
            for n, request in enumerate(requests)
        ]

    def _write(self, begin: str, settings: dict[str, Any]) -> list[int]:
        """Tokens behind a beginning, until a stop, the end token or the limit."""
        number = _limit(settings)
        given = self.tok_encode(begin)[-(self._max_length - number) :]
        tokens = torch.tensor([given or [self.eot_token_id]], device=self._context.world.device)
        first = tokens.shape[1]
        stops = _stops(settings)
        for _ in range(number):
            logits = logits_of(self._model(tokens[:, -self._max_length :]))
            token = logits[:, -1:].argmax(-1)
            if int(token) == self.eot_token_id:
                break
            tokens = torch.cat([tokens, token], 1)
            if any(stop in self._tokens.decode(_row(tokens, first)) for stop in stops):
                break
        return _row(tokens, first)


def _row(tokens: Tensor, first: int) -> list[int]:
    return tokens[0, first:].tolist()


def _limit(settings: dict[str, Any]) -> int:
    return int(settings.get("max_gen_toks", MAX_ANSWER))


def _stops(settings: dict[str, Any]) -> list[str]:
    found = settings.get("until") or []
    return [found] if isinstance(found, str) else [stop for stop in found if stop]


def _before(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.partition(stop)[0]
    return text
