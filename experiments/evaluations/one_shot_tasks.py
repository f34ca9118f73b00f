"""The 24 tasks that the paper measures its large language models with, and their names in lm-eval.

Source: arXiv:2302.06675, Table 11; results/paper/llm_in_context.csv. The paper took the tasks from
GLaM (arXiv:2112.06905); its prompts are not known, lm-eval's are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OneShotTask:
    """A task."""

    paper: str  # its name in the paper's table
    name: str  # in lm-eval, or of a page in `one_shot_pages`
    group: Literal["NLG", "NLU"]
    metric: str  # of lm-eval that counts in the average
    note: str = ""  # where the numbers are not simply comparable


TASKS = (
    OneShotTask("TriviaQA (EM)", "triviaqa", "NLG", "exact_match"),
    OneShotTask("Natural Questions (EM)", "nq_open", "NLG", "exact_match"),
    OneShotTask("Web Questions (EM)", "webqs", "NLG", "exact_match"),
    OneShotTask("HellaSwag", "hellaswag", "NLU", "acc"),
    OneShotTask("StoryCloze", "storycloze_2016", "NLU", "acc"),
    OneShotTask("Winograd", "wsc273", "NLU", "acc", "has one split: its shots are test examples"),
    OneShotTask("Winogrande", "winogrande", "NLU", "acc"),
    OneShotTask("RACE-m", "race_m", "NLU", "acc", "our page; its shots are test examples"),
    OneShotTask("RACE-h", "race", "NLU", "acc", "has one split: its shots are test examples"),
    OneShotTask("PIQA", "piqa", "NLU", "acc"),
    OneShotTask("ARC-e", "arc_easy", "NLU", "acc"),
    OneShotTask("ARC-c", "arc_challenge", "NLU", "acc"),
    OneShotTask("OpenbookQA", "openbookqa", "NLU", "acc"),
    OneShotTask("BoolQ", "boolq", "NLU", "acc"),
    OneShotTask("Copa", "copa", "NLU", "acc"),
    OneShotTask("RTE", "rte", "NLU", "acc"),
    OneShotTask("WiC", "wic", "NLU", "acc"),
    OneShotTask("Multirc (F1a)", "multirc_f1a", "NLU", "f1a", "lm-eval has accuracy: our page"),
    OneShotTask("WSC", "wsc", "NLU", "acc"),
    OneShotTask("ReCoRD", "record", "NLU", "em"),
    OneShotTask("CB", "cb", "NLU", "acc"),
    OneShotTask("ANLI R1", "anli_r1", "NLU", "acc"),
    OneShotTask("ANLI R2", "anli_r2", "NLU", "acc"),
    OneShotTask("ANLI R3", "anli_r3", "NLU", "acc"),
)
"""`acc` compares what the model gives whole answers; where lm-eval also has `acc_norm` (per byte)
both are recorded, since the paper does not say which it took."""
