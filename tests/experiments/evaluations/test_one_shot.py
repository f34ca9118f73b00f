"""In-context evaluation: a local task's score is the one worked out by hand; the paper's list."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import texts
import torch
from torch import nn

import run
from experiments.config import UserError
from experiments.data.tokenizer import CharacterTokenizer
from experiments.distributed import World
from experiments.evaluations.evaluation import Context, Measurement
from experiments.evaluations.one_shot import PAGES, _measurements, measure_one_shot, page_of
from experiments.evaluations.one_shot_tasks import TASKS
from experiments.identity import run_id
from experiments.models.rotary_transformer import RotaryTransformer
from experiments.settings.causal_language import OneShotConfig
from experiments.tasks import causal_language

lm_eval = pytest.importorskip("lm_eval")
CONTEXT = Context(World(0, 1, torch.device("cpu")), 0, 3, 10)
LENGTH = 96
DOCS = [
    {"question": "one", "choices": ["two", "three"], "answer": 0},
    {"question": "a b", "choices": ["c", "d e"], "answer": 1},
    {"question": "no", "choices": ["yes", "oh"], "answer": 0},
    {"question": "let there be", "choices": ["light", "sound"], "answer": 1},
    {"question": "x", "choices": ["y", "z"], "answer": 1},
]
SHOT = {"question": "first", "choices": ["last", "second"], "answer": 1}
CHOOSE = """
task: choose
output_type: multiple_choice
validation_split: validation
training_split: train
fewshot_split: train
doc_to_text: "{{question}}:"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
metadata: {version: 1.0}
"""
WRITE = """
task: write
output_type: generate_until
validation_split: validation
training_split: train
fewshot_split: train
doc_to_text: "{{question}}:"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 6}
metric_list: [{metric: exact_match}]
metadata: {version: 1.0}
"""


@pytest.fixture(scope="module")
def tokenizer() -> CharacterTokenizer:
    return CharacterTokenizer(sorted(set("\n :abcdefghijklmnopqrstuvwxyz")))


@pytest.fixture(scope="module")
def model(tokenizer: CharacterTokenizer) -> nn.Module:
    torch.manual_seed(0)
    return RotaryTransformer(tokenizer.vocab_size, 32).eval()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> OneShotConfig:
    folder = tmp_path_factory.mktemp("one_shot") / "a: b #1"  # no plain text of YAML
    for name, page in (("choose", CHOOSE), ("write", WRITE)):
        (folder / "pages").mkdir(parents=True, exist_ok=True)
        (folder / "pages" / f"{name}.yaml").write_text(page)
        (folder / "data" / name).mkdir(parents=True)
        for split, docs in (("train", [SHOT]), ("validation", DOCS)):
            lines = "".join(json.dumps(doc) + "\n" for doc in docs)
            (folder / "data" / name / f"{split}.jsonl").write_text(lines)
    return OneShotConfig(
        tasks=["choose", "write"], folder=str(folder / "pages"), data=str(folder / "data")
    )


def prompt(doc: dict[str, Any]) -> str:
    """One shot, as lm-eval puts it together."""
    return f"first: second\n\n{doc['question']}:"


@torch.no_grad()
def likelihood(model: nn.Module, tokenizer: CharacterTokenizer, begin: str, end: str) -> float:
    ids = torch.from_numpy(tokenizer.ids_of(begin + end))
    logs = model(ids[None, :-1])[0].log_softmax(-1)
    number = len(tokenizer.ids_of(end))
    return float(logs.gather(1, ids[1:, None])[-number:].sum())


@torch.no_grad()
def continued(model: nn.Module, tokenizer: CharacterTokenizer, begin: str) -> str:
    text = begin
    for _ in range(6):
        token = int(model(torch.from_numpy(tokenizer.ids_of(text))[None])[0, -1].argmax())
        text += tokenizer.decode([token])
        if token == tokenizer.ids_of("\n")[0]:
            break
    return text[len(begin) :].partition("\n")[0]


def by_metric(found: list[Measurement]) -> dict[str, Measurement]:
    return {m.metric: m for m in found}


def test_scores_are_those_worked_out_by_hand(
    model: nn.Module, tokenizer: CharacterTokenizer, settings: OneShotConfig
) -> None:
    found = by_metric(list(measure_one_shot(model, CONTEXT, tokenizer, settings, LENGTH)))
    right, right_per_byte, exact = [], [], []
    for doc in DOCS:
        logs = [likelihood(model, tokenizer, prompt(doc), f" {c}") for c in doc["choices"]]
        per_byte = [log / len(c) for log, c in zip(logs, doc["choices"], strict=True)]
        right.append(logs.index(max(logs)) == doc["answer"])
        right_per_byte.append(per_byte.index(max(per_byte)) == doc["answer"])
        written = continued(model, tokenizer, prompt(doc))
        exact.append(written == doc["choices"][doc["answer"]])
    assert 0 < sum(right) < len(DOCS)  # else the test would say little
    assert found["choose_acc"].value == pytest.approx(100 * sum(right) / len(DOCS))
    assert found["choose_acc_norm"].value == pytest.approx(100 * sum(right_per_byte) / len(DOCS))
    assert found["write_exact_match"].value == pytest.approx(100 * sum(exact) / len(DOCS))
    acc = found["choose_acc"]
    assert (acc.split, acc.n, acc.unit, acc.better) == ("one_shot", 5, "%", "higher")
    assert acc.error is not None and acc.error > 0
    assert not any("average" in metric for metric in found)
    told = json.loads(acc.instrument or "")
    assert (told["task"], told["shots"], told["limit"]) == (1.0, 1, None)
    other = replace(settings, tasks=["choose"], num_fewshot=0, limit=3)
    (less, _) = measure_one_shot(model, CONTEXT, tokenizer, other, LENGTH)
    told = json.loads(less.instrument or "")
    assert less.n == 3 and (told["shots"], told["limit"]) == (0, 3)  # not to be compared with acc


READ = """
task: read
output_type: loglikelihood_rolling
test_split: validation
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
metadata: {version: 1.0}
"""


def test_what_is_no_share_keeps_its_unit_and_its_direction(
    model: nn.Module, tokenizer: CharacterTokenizer, settings: OneShotConfig
) -> None:
    (Path(settings.folder or "") / "read.yaml").write_text(READ)
    data = Path(settings.data or "")
    (data / "read").mkdir()
    shutil.copy(data / "choose" / "validation.jsonl", data / "read" / "validation.jsonl")
    asked = replace(settings, tasks=["read"], num_fewshot=0)
    found = by_metric(list(measure_one_shot(model, CONTEXT, tokenizer, asked, LENGTH)))
    texts = [doc["question"] for doc in DOCS]
    nats = sum(likelihood(model, tokenizer, "\n", text) for text in texts)
    words, letters = (sum(map(len, parts)) for parts in ([t.split() for t in texts], texts))
    each = found["read_word_perplexity"]
    assert each.value == pytest.approx(math.exp(-nats / words))
    assert (each.unit, each.better) == ("", "lower")
    bits = found["read_bits_per_byte"]
    assert bits.value == pytest.approx(-nats / letters / math.log(2)) and bits.better == "lower"


def stub(**tasks: dict[str, float]) -> dict[str, Any]:
    """What lm-eval gives, of tasks with ten examples each."""
    ways = {name: {key.partition(",")[0]: True for key in of} for name, of in tasks.items()}
    return {
        "results": tasks,
        "n-samples": {name: {"effective": 10} for name in tasks},
        "versions": dict.fromkeys(tasks, 1.0),
        "n-shot": dict.fromkeys(tasks, 1),
        "higher_is_better": ways,
    }


def test_two_filters_of_answers_are_two_numbers() -> None:
    values = {"exact_match,strict-match": 0.1, "exact_match,flexible-extract": 0.2}
    found = by_metric(list(_measurements(stub(sums=values), OneShotConfig(), "0")))
    assert {name: m.value for name, m in found.items()} == {
        "sums_exact_match_strict-match": 10.0,
        "sums_exact_match_flexible-extract": 20.0,
    }


def test_the_average_counts_examples_and_not_tasks() -> None:
    """Of n tasks a step would be 100 / n points: no difference could be larger."""
    tasks = [task for task in TASKS if task.group == "NLG"]
    values = {t.name: {"exact_match,none": k / 10} for k, t in enumerate(tasks)}
    found = by_metric(list(_measurements(stub(**values), OneShotConfig(), "0")))
    average = found["nlg_average"]
    assert average.value == pytest.approx(10.0) and average.n == 10 * len(tasks)


@pytest.mark.parametrize(("most", "asked"), [(6, {"max_gen_toks": 6}), (64, {})])
def test_an_answer_as_long_as_all_that_a_model_sees_is_refused(
    model: nn.Module, tokenizer: CharacterTokenizer, most: int, asked: dict[str, int]
) -> None:
    """Of its question one token would be left, and the score be next to nothing."""
    from experiments.evaluations.one_shot_model import OneShotModel

    request = SimpleNamespace(args=("a question", {"until": ["\n"], **asked}))
    with pytest.raises(
        UserError, match=f"lets {most} tokens be written, and the model sees {most}:"
    ):
        OneShotModel(model, tokenizer, most, CONTEXT).generate_until([request])
    assert len(OneShotModel(model, tokenizer, most + 1, CONTEXT).generate_until([request])) == 1


def test_what_is_missing_is_one_line(
    model: nn.Module, tokenizer: CharacterTokenizer, settings: OneShotConfig, tmp_path: Path
) -> None:
    lost = OneShotConfig(tasks=["choose"], folder=settings.folder, data=str(tmp_path))
    with pytest.raises(UserError, match=r"has no choose/validation\.jsonl") as error:
        list(measure_one_shot(model, CONTEXT, tokenizer, lost, LENGTH))
    assert "\n" not in str(error.value)


def test_the_list_is_the_papers() -> None:
    with (run.CONF.parent / "results/paper/llm_in_context.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["group"] in ("NLG", "NLU")]
    assert {(t.paper, t.group) for t in TASKS} == {(r["task"], r["group"]) for r in rows}
    folder = Path(lm_eval.__file__).parent / "tasks"
    families = ["arc", "nq_open", "glue", "super_glue", "storycloze", "anli", "openbookqa"]
    families += ["triviaqa", "webqs", "hellaswag", "wsc273", "winogrande", "race", "piqa"]
    for task in TASKS:
        page_of(task.name, [PAGES, *(folder / family for family in families)])
    with pytest.raises(UserError, match="has a task race-m"):
        page_of("race-m", [PAGES])


def test_prompts_of_race_m_are_those_of_lm_evals_race() -> None:
    from lm_eval.tasks.race import preprocess_race  # pyright: ignore[reportMissingImports]

    from experiments.evaluations.one_shot_pages import prompts

    problems = [
        {"question": "Why?", "answer": "B", "options": ["a", "b", "c", "d"]},
        {"question": "He was  _  .", "answer": "C", "options": ["a", "b", "c", "d"]},
        {"question": "What now?", "answer": "D", "options": ["e", "f", "g", "h"]},
    ]
    doc = {"article": "A story.", "problems": str(problems)}
    assert prompts.race_text(doc) == preprocess_race.doc_to_text(doc)
    assert prompts.race_choices(doc) == preprocess_race.doc_to_choice(doc)
    assert prompts.race_target(doc) == preprocess_race.doc_to_target(doc)


def test_multirc_is_scored_over_all_answers() -> None:
    from experiments.evaluations.one_shot_pages import prompts

    docs = [
        ({"label": 1}, [(-2.0, False), (-1.0, False)]),
        ({"label": 1}, [(-1.0, True), (-3.0, False)]),
    ]
    docs.append(({"label": 0}, [(-2.0, False), (-1.0, False)]))
    items = [prompts.f1a_of(doc, results)["f1a"] for doc, results in docs]
    assert items == [(1, 1), (1, 0), (0, 1)]
    assert prompts.f1a(items) == pytest.approx(0.5)
    assert prompts.f1a([(0, 0)]) == 0.0


def test_a_language_model_is_asked_with_its_own_tokens_and_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []

    def measured(*arguments: Any) -> list[str]:
        given.extend(arguments)
        return ["found"]

    monkeypatch.setattr(causal_language, "measure_one_shot", measured)
    task = causal_language.CausalLanguage(
        {"_target_": "texts.windows", "length": 20}, texts.OWN, one_shot={"tasks": ["piqa"]}
    )
    (asked,) = (e for e in task.evaluations() if e.name == "one_shot")
    model = nn.Identity()
    assert asked.when == "asked" and list(asked.measure(model, CONTEXT)) == ["found"]
    assert given[:3] == [model, CONTEXT, task.source.tokenizer]
    assert given[3].tasks == ["piqa"] and given[4] == 20


def test_what_is_asked_of_a_run_does_not_make_it_another() -> None:
    plain = run.compose(["experiment=lm_proxy"])
    asked = run.compose(
        ["experiment=lm_proxy", "task.one_shot.tasks=[piqa]", "task.one_shot.limit=3"]
    )
    assert asked.task["one_shot"]["limit"] == 3
    assert run_id(plain) == run_id(asked)
