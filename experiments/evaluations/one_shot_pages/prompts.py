"""What the task pages of this folder call: prompts of RACE, and F1 over the answers of MultiRC.

lm-eval imports this file from its path; it must import nothing of the project.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

LETTERS = "ABCD"
BLANK = "  _  ."
"""How a question ends whose answer completes the sentence."""


def race_text(doc: dict[str, Any]) -> str:
    """The article, its questions but for the last with their answers, and the last question.

    The prompt of lm-eval's task `race`, so that both parts of RACE are asked alike.
    """
    *solved, last = ast.literal_eval(doc["problems"])
    lines = [f"Article: {doc['article']}\n\n"]
    for problem in solved:
        answer = problem["options"][LETTERS.index(problem["answer"])]
        question = problem["question"]
        if question.endswith(BLANK):
            lines.append(f"{question[: 1 - len(BLANK)]}{answer}\n")
        else:
            lines.append(f"Question: {question}\nAnswer: {answer}\n")
    return "".join([*lines, last["question"]])


def race_choices(doc: dict[str, Any]) -> list[str]:
    """The four options of the last question."""
    return ast.literal_eval(doc["problems"])[-1]["options"][:4]


def race_target(doc: dict[str, Any]) -> int:
    """Which of them is right."""
    return LETTERS.index(ast.literal_eval(doc["problems"])[-1]["answer"])


def f1a_of(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """Truth and choice (0 no, 1 yes) of one answer."""
    logs = [log for log, _ in results]
    return {"f1a": (int(doc["label"]), logs.index(max(logs)))}


def f1a(items: Sequence[tuple[int, int]]) -> float:
    """F1 of `yes` over the answers of all questions; 0 where nobody says or means yes."""
    hits = sum(true == found == 1 for true, found in items)
    both = sum(true for true, _ in items) + sum(found for _, found in items)
    return 2 * hits / both if both else 0.0
