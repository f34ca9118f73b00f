"""Rows for the ledger: evaluations, training losses and times of a run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from experiments import schedule_free, sharding, telemetry
from experiments.averaging import averaged
from experiments.config import EvalConfig, RunConfig, UserError
from experiments.data.order import BatchPlan, derive, seed_all
from experiments.distributed import local
from experiments.headline import Headline
from experiments.identity import folder_of
from experiments.parts import Parts
from experiments.precision import resolved
from experiments.recorder import Recorder
from experiments.tasks.task import Context, Evaluation, Measurement, Task


def evaluation_interval(settings: EvalConfig, plan: BatchPlan) -> int | None:
    """Optimizer steps between two evaluations; None: only the last step is evaluated."""
    if settings.every_epochs is not None:
        return max(1, round(settings.every_epochs * plan.steps_per_epoch))
    return settings.every_steps


def divides(every: int | None, done: int) -> bool:
    """Whether it is time for what happens every so many steps."""
    return every is not None and done % every == 0


def autocast(config: RunConfig, device: torch.device) -> torch.autocast:
    """The precision of forward passes.

    Autocast would keep what it casts of every weight until the forward pass is over: half of the
    weights, on every device. In shards a block is cast when it is gathered, and then let go.
    """
    is_low, in_shards = resolved(config) == "bf16", config.launch.strategy in ("fsdp", "hsdp")
    return torch.autocast(device.type, torch.bfloat16, is_low, cache_enabled=not in_shards)


def due(task: Task, is_last: bool, name: str = "") -> list[Evaluation]:
    """The evaluations of a task for which it is time.

    Args:
        task: Offers them.
        is_last: Whether the last step is done.
        name: The one that was asked for; empty: what is due.

    Raises:
        UserError: for a name that the task does not have.
    """
    offered = list(task.evaluations())
    if not name:
        wanted = ("every", "last") if is_last else ("every",)
        return [evaluation for evaluation in offered if evaluation.when in wanted]
    if found := [evaluation for evaluation in offered if evaluation.name == name]:
        return found
    there = ", ".join(evaluation.name for evaluation in offered)
    raise UserError(f"evaluation={name}: this task has {there}")


def evaluate(parts: Parts, step: int, evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Ledger rows for the raw weights and, where there are any, the averaged ones.

    The random numbers of an evaluation depend on the run's seed and its name alone, so that every
    checkpoint is measured alike, now or later.
    """
    rows = []
    for weights in ("raw", "ema") if parts.average is not None else ("raw",):
        with (
            _shown(parts, weights) as module,
            _evaluating(module),
            autocast(parts.config, parts.world.device),
            torch.no_grad(),
        ):
            for evaluation in evaluations:
                seed = derive(parts.config.seed, "evaluation", evaluation.name)
                seed_all(seed)
                size, folder = parts.config.eval.batch_size, folder_of(parts.config)
                context = Context(parts.world, seed, size, step, weights, folder)
                for found in evaluation.measure(module, context):
                    rows.append(_measured(parts, found, evaluation.name, weights, step))
    _check_rows(parts.task.headline, rows)
    return rows


@contextlib.contextmanager
def _shown(parts: Parts, weights: str) -> Iterator[nn.Module]:
    """The model with its raw or averaged weights, whole and the same in every process."""
    shown = contextlib.nullcontext(parts.model)
    if parts.average is not None and weights == "ema":
        shown = averaged(parts.average)
    with schedule_free.shown(parts.optimizer), shown as module:
        parts.world.copy_buffers(module)
        with sharding.whole(module) if parts.is_sharded else contextlib.nullcontext():
            yield module


def _check_rows(headline: Headline, rows: list[dict[str, Any]]) -> None:
    """That the ledger can hold every number, and none says that the headline is wrong.

    Of two with one name nobody could tell which counts, nor which way is better.
    """
    of = {("train", metric, "raw"): "the training" for metric in ("loss", "lr")}
    for one in rows:
        number, name = (one["split"], one["metric"], one["weights"]), repr(one["evaluation"])
        if number in of:
            what, other = " ".join(number[:2]), of[number]
            both = f"{other} and {name} both measure {what}"
            raise UserError(
                f"evaluations: {both if other != name else f'{name} measures {what} twice'}: "
                "nobody could tell which counts; give one another metric or split"
            )
        of[number] = name
        way = one.get("better")
        if one["metric"] == headline.metric and way not in (None, headline.better):
            raise UserError(
                f"the evaluation {name!r} says that {way} is better of {headline.metric}, and the "
                f"headline of the task says {headline.better}: one of them is wrong"
            )


def _measured(
    parts: Parts, found: Measurement, evaluation: str, weights: str, step: int
) -> dict[str, Any]:
    facts = {key: _plain(value) for key, value in asdict(found).items() if value is not None}
    split, metric = facts.pop("split"), facts.pop("metric")
    value, unit = facts.pop("value"), facts.pop("unit")
    measurement = row(parts, step, split, metric, value, unit)
    return {**measurement, **facts, "weights": weights, "evaluation": evaluation}


def _plain(value: Any) -> Any:
    """A number of torch or numpy as one of Python, as the ledger writes it."""
    return value.item() if hasattr(value, "item") else value


def make_up(parts: Parts, recorder: Recorder, step: int) -> str:
    """Makes the evaluation that was due at the step which is resumed from, where it is lost.

    Returns:
        As `divergence`, after the last step.
    """
    is_last = step == parts.total_steps
    is_due = is_last or divides(evaluation_interval(parts.config.eval, parts.plan), step)
    if not step or not is_due or recorder.has_evaluation(step):
        return ""
    rows = evaluate(parts, step, due(parts.task, is_last))
    parts.watch.lap("evaluate")
    if not rows:
        return ""
    recorder.add(recorder.lacks(step, rows))
    recorder.log(f"step {step}/{parts.total_steps}, measured again: {', '.join(in_words(rows))}")
    return divergence(parts, rows) if is_last else ""


def divergence(parts: Parts, rows: list[dict[str, Any]]) -> str:
    """What is not finite at the end of a run, the same in every process; "" where all is.

    Args:
        parts: After the last step.
        rows: Of the last evaluation. The metric that decides and the losses count.
    """
    found = ""
    for one in rows:
        is_loss = bool(one["unit"]) and one["unit"] == parts.task.loss_unit
        if (is_loss or one["metric"] == parts.task.headline.metric) and not math.isfinite(
            one["value"]
        ):
            found = found or f"{one['split']} {one['metric']} is not finite"
    named = list(parts.model.named_parameters())
    bad = torch.stack([~torch.isfinite(local(weight)).all() for _, weight in named]).int()
    for (name, _), is_bad in zip(named, parts.world.sum(bad).tolist(), strict=True):
        if is_bad:
            found = found or f"the weight {name} is not finite"
    return parts.world.share(f"{found} after the last step" if found else "")


def not_judged(parts: Parts, rows: list[dict[str, Any]], is_last: bool = True) -> str:
    """What is said of a run that is not measured by the number that decides.

    Args:
        parts: After the evaluation.
        rows: Of the evaluation.
        is_last: Whether it was the last; else what is due with that may still measure it.
    """
    if not is_last and any(one.when == "last" for one in parts.task.evaluations()):
        return ""
    headline = parts.task.headline
    weights = parts.config.eval.weights or (headline.weights if parts.average else "raw")
    found = {r["split"] for r in rows if (r["metric"], r["weights"]) == (headline.metric, weights)}
    lacking = [s for s in dict.fromkeys((headline.tune, headline.report)) if s not in found]
    if not lacking:
        return ""
    there = dict.fromkeys(f"{row['split']} {row['metric']}" for row in rows)
    return (
        f"not measured: {headline.metric} on {' and '.join(lacking)}, by which this task says it "
        f"is judged; measured: {', '.join(there) or 'nothing'}"
    )


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every part is in the mode that it was in."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def loss_rows(parts: Parts, step: int, lr_factor: float) -> list[dict[str, Any]]:
    """The mean training loss since the last report, and the learning rate."""
    return [
        _loss_row(parts, step, parts.losses.mean()),
        row(parts, step, "train", "lr", lr_factor * parts.peak_lrs[0], ""),
    ]


def telemetry_rows(parts: Parts, step: int) -> list[dict[str, Any]]:
    """What was found of the last step."""
    assert parts.telemetry is not None, "asked only where there is one"
    return [row(parts, step, telemetry.SPLIT, *pair, "") for pair in parts.telemetry.take()]


def diverged_row(parts: Parts, step: int) -> dict[str, Any]:
    """The loss of a step that is not finite."""
    return _loss_row(parts, step, float("nan"))


def _loss_row(parts: Parts, step: int, value: float) -> dict[str, Any]:
    found = row(parts, step, "train", "loss", value, parts.task.loss_unit)
    return {**found, "better": "lower"}


def time_rows(parts: Parts, step: int) -> list[dict[str, Any]]:
    """Where the time of a finished run has gone."""
    times = parts.watch.seconds.items()
    return [row(parts, step, "run", f"{what}_seconds", spent, "s") for what, spent in times]


def row(
    parts: Parts, step: int, split: str, metric: str, value: float, unit: str
) -> dict[str, Any]:
    """One measurement."""
    return {
        "step": step,
        "epoch": round(step / parts.plan.steps_per_epoch, 6),
        "split": split,
        "metric": metric,
        "value": value,
        "unit": unit,
        "weights": "raw",
        "n": None,
        "seconds": round(parts.watch.seconds["train"], 3),
    }


def in_words(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Each row in a few words."""
    for one in rows:
        weights = "" if one["weights"] == "raw" else f" ({one['weights']})"
        gap = "" if one["unit"] in ("%", "") else " "
        yield f"{one['split']} {one['metric']}{weights} {one['value']:.4g}{gap}{one['unit']}"
