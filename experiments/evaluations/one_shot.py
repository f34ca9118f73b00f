"""In-context evaluation through lm-eval, offline, on a model in memory.

    python run.py experiment=... optimizer=... job=evaluate evaluation=one_shot \\
        task.one_shot.data=/data/one_shot

`data` holds a folder for each task, named after it, with a file for each of its splits
(`validation.jsonl`, `train.parquet`, ...) in the columns of the hub's data set; nothing is fetched.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from experiments.config import UserError
from experiments.data.tokenizer import Tokenizer
from experiments.evaluations.evaluation import Context, Measurement
from experiments.evaluations.one_shot_tasks import TASKS
from experiments.headline import Direction
from experiments.packages import get
from experiments.settings.causal_language import OneShotConfig

PAGES = Path(__file__).parent / "one_shot_pages"
SPLIT = "one_shot"
BOOTSTRAPS = 1000
_WAYS: dict[Any, Direction] = {True: "higher", False: "lower"}
_BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


def measure_one_shot(
    model: nn.Module,
    context: Context,
    tokenizer: Tokenizer,
    settings: OneShotConfig,
    max_length: int,
) -> Iterator[Measurement]:
    """Measures a causal language model on tasks.

    Args:
        model: Tokens (B, T) to logits.
        context: Of the evaluation.
        tokenizer: Of the model.
        settings: Which tasks, where their data lie, how many shots.
        max_length: Tokens that the model can see; longer prompts lose their beginning.

    Yields:
        Every metric of every task, as `TASK_METRIC` (`TASK_METRIC_FILTER` where a task filters
        answers in several ways), shares in %; and the averages of the paper's NLG and NLU tasks
        where all of a group were measured.

    Raises:
        UserError: where lm-eval, a task or its data is missing.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    try:
        import lm_eval
        from lm_eval.evaluator import simple_evaluate
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise UserError(f"{error}: {get('lm_eval', 'accelerate')}") from error
    from experiments.evaluations.one_shot_model import OneShotModel

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    names = settings.tasks or [task.name for task in TASKS]
    own = [PAGES, *([Path(settings.folder).expanduser()] if settings.folder else [])]
    pages = {name: page_of(name, [*own, Path(lm_eval.__file__).parent / "tasks"]) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for name, page in pages.items():
            Path(folder, f"{name}.yaml").write_text(_local_page(name, page, settings.data))
        try:
            found = simple_evaluate(
                model=OneShotModel(model, tokenizer, max_length, context),
                tasks=[*names],
                num_fewshot=settings.num_fewshot,
                limit=settings.limit,
                task_manager=TaskManager(include_path=folder, include_defaults=False),
                bootstrap_iters=BOOTSTRAPS,
                log_samples=False,
            )
        except (KeyError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise UserError(
                f"evaluation=one_shot: {reason[0]}; is task.one_shot.data a folder with a local "
                "copy of each task's data, as its page names the splits and columns?"
            ) from error
    yield from _measurements(found, settings, version("lm_eval"))


def page_of(name: str, folders: Sequence[Path]) -> Path:
    """The page of a task.

    Args:
        name: Of the task.
        folders: Where to look, the first one first.

    Raises:
        UserError: where there is none.
    """
    line = re.compile(rf"^task:\s*[\"']?{re.escape(name)}[\"']?\s*$", re.MULTILINE)
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            if line.search(path.read_text(errors="replace")):
                return path
    raise UserError(
        f"task.one_shot.tasks: neither lm-eval nor task.one_shot.folder has a task {name}"
    )


def _local_page(name: str, page: Path, folder: str | None) -> str:
    """The page of a task, told where its data lie if they are in the folder."""
    lines = [f"include: {json.dumps(str(page.resolve()))}", f"task: {name}"]
    if folder is not None:
        files = sorted((Path(folder).expanduser() / name).glob("*"))
        known = {path.stem: path.resolve() for path in files if path.suffix in _BUILDERS}
        builders = {_BUILDERS[path.suffix] for path in known.values()}
        if len(builders) != 1:
            raise UserError(
                f"task.one_shot.data={folder} has no {name}/validation.jsonl or the like: give a "
                "file for each split that the task uses, all jsonl or all parquet"
            )
        data_files = {split: str(path) for split, path in known.items()}
        lines += [f"dataset_path: {builders.pop()}", "dataset_name: null"]
        lines.append(f"dataset_kwargs: {json.dumps({'data_files': data_files})}")
    return "\n".join(lines) + "\n"


def _measurements(found: Any, settings: OneShotConfig, version: str) -> Iterator[Measurement]:
    chosen: dict[str, dict[str, Measurement]] = {}
    by_name = {task.name: task for task in TASKS}
    asked = {"lm_eval": version, "limit": settings.limit}
    for name, values in found["results"].items():
        scores = {key: v for key, v in values.items() if _is_score(key, v)}
        counted = Counter(key.partition(",")[0] for key in scores)
        facts = {**asked, "task": found["versions"].get(name), "shots": found["n-shot"].get(name)}
        for key, value in scores.items():
            metric, _, chosen_by = key.partition(",")
            told = f"{metric}_{chosen_by}" if counted[metric] > 1 else metric
            error = values.get(f"{metric}_stderr,{chosen_by}")
            scale, unit = (100.0, "%") if _is_share(metric) else (1.0, "")
            one = Measurement(
                SPLIT,
                f"{name}_{told}",
                scale * value,
                unit,
                found["n-samples"][name]["effective"],
                _WAYS.get(found["higher_is_better"].get(name, {}).get(metric)),
                scale * error if isinstance(error, float) else None,
                instrument=json.dumps(facts, sort_keys=True),
            )
            yield one
            if name in by_name and metric == by_name[name].metric:
                chosen.setdefault(by_name[name].group, {})[name] = one
    facts = json.dumps({**asked, "shots": settings.num_fewshot}, sort_keys=True)
    for group, ones in chosen.items():
        if len(ones) == sum(task.group == group for task in TASKS):
            mean = sum(one.value for one in ones.values()) / len(ones)
            number, average = sum(one.n for one in ones.values()), f"{group.lower()}_average"
            yield Measurement(SPLIT, average, mean, "%", number, "higher", instrument=facts)


def _is_score(key: str, value: Any) -> bool:
    """Keys are `acc,none`, or a filter of answers behind the comma; facts of a task have none."""
    metric, comma, _ = key.partition(",")
    return bool(comma) and not metric.endswith("_stderr") and isinstance(value, int | float)


def _is_share(metric: str) -> bool:
    """Whether it lies in 0..1 and is given in %; perplexities, BLEU and others stay as they are."""
    return metric.startswith(("acc", "exact_match", "f1")) or metric in ("em", "mcc")
