"""The comparison of a user's own program, from options or a YAML file."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments.compare import cost, fixed_rates, going_on, kinds, options, session, sources
from experiments.compare.asking import Answer, Ask, Setting
from experiments.compare.command import Program, Runner
from experiments.compare.heeded import (
    check_heeded,
    check_held_out,
    check_size,
    failed_checks,
)
from experiments.compare.ledger import Ledger
from experiments.compare.metric import Metric
from experiments.compare.outlook import Outlook
from experiments.compare.placeholders import NEEDED, check_command, named
from experiments.compare.plan import Pilot, Plan, Remark, check
from experiments.compare.session import Options, Progress
from experiments.compare.time_limit import TimeLimit
from experiments.compare.verdict import Words
from experiments.config import UserError

FOLDER = Path("results/comparisons")
_BASELINE = re.compile(r"([^:\s]+):(.+)")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line, without all of its usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: --help lists the options")


def parser(about: dict[str, Any], default_others: str) -> argparse.ArgumentParser:
    """The options; every one of them may stand in the file, too (with _ for -)."""
    made = _Parser(**about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("file", nargs="?", type=Path, help="YAML file with these options as keys")
    made.add_argument("--command", help="with {optimizer} {lr} {weight_decay} {seed}")
    made.add_argument("--metric", help="decides the tuning (validation): a pattern, see above")
    made.add_argument("--test-metric", help="decides the verdict; default: --metric")
    made.add_argument("--beside", help="shown beside it, no verdict, e.g. the test loss")
    made.add_argument("--better", choices=("higher", "lower"), help="of the metric")
    made.add_argument("--unit", help="of the metric, e.g. points")
    made.add_argument("--metric-name", help="for people, e.g. 'test accuracy'")
    made.add_argument("--baseline", help="adamw:lr=1e-3,weight_decay=0.05")
    made.add_argument("--optimizers", help=f"to compare with it (default: {default_others})")
    made.add_argument("--budget", help="trials for each (default: 25)")
    made.add_argument("--effect", help="difference to find: 1.5 (unit) or 2sd (default: 2sd)")
    made.add_argument("--margin", help="no difference larger than (default: effect)")
    made.add_argument("--workers", help="runs at a time (default: 1)")
    made.add_argument("--timeout", help="of a run, e.g. 2h (default: 10 times the slowest before)")
    made.add_argument("--name", help="of the folder below --dir")
    made.add_argument("--dir", type=Path, help=f"default: {FOLDER}")
    made.add_argument("--yes", action="store_true", help="go on after the pilot unasked")
    made.add_argument("--json", action="store_true", help="end with one JSON line")
    made.add_argument("--cost", action="store_true", help="print the table of costs, run nothing")
    made.set_defaults(default_others=default_others)
    return made


def main(args: argparse.Namespace) -> int:
    """Compares.

    Returns:
        0 whatever the verdict.

    Raises:
        UserError: for what the user can mend.
    """
    given = {"cost": True} if args.cost else options.merged(args)
    if given.get("cost"):
        print(cost.table())
        return 0
    plan, words, program = prepared(given)
    about = _about(plan, program)
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:6]
    names = "-vs-".join(one.name for one in reversed(plan.contestants))
    default = re.sub(r"[^\w.+-]", "-", f"{names}-{digest}")
    root = Path(options.text(given, "dir") or FOLDER)
    path = session.folder_of(root, options.text(given, "name"), default)
    num_workers = _workers(given, program)
    outlook = Outlook(plan, num_workers)
    asked = (bool(given.get("yes")), bool(given.get("json")))
    how = Options(num_workers, *asked, outlook.hear)
    limit = TimeLimit.parse(given.get("timeout"))
    with Ledger(path).opened(about, may_change=True) as ledger:
        runner, progress = Runner(program, ledger, how.num_workers, limit), Progress()

        def run(asks: Sequence[Ask]) -> list[Answer]:
            try:
                return runner.run(
                    asks,
                    lambda now, done, remark: progress.show(now, outlook.said(ledger), remark),
                )
            finally:
                progress.stop()
                remarks[num_fixed:] = going_on.remarks(ledger)

        def checked(pilot: Pilot) -> Iterator[Remark]:
            yield from map(Remark, runner.doubts())
            yield from map(
                Remark, going_on.check_fresh(pilot, plan.sign, runner.pilot_runs(), ledger)
            )
            if words.held_out:
                check_held_out(pilot)
            check_size(plan, pilot.report, words.unit)
            yield from check_heeded(plan, pilot, run, ledger.states)
            yield from failed_checks(ledger.known.values())

        session.welcome(path, plan, words.tuned, words.metric if words.held_out else words.tuned)
        remarks = _of_its_files(plan, program, ledger)
        num_fixed = len(remarks)
        for line in remarks:
            print(line, flush=True)
        session.lead(plan, words, ledger, run, how, checked, remarks)
    return 0


def prepared(given: Mapping[str, Any]) -> tuple[Plan, Words, Program]:
    """Checks all options, before anything runs.

    Raises:
        UserError: one line with the remedy.
    """
    for key in ("command", "metric", "baseline"):
        if not given.get(key):
            example = {"command": "'python train.py ... {seed}'", "metric": "'val_acc=([0-9.]+)'",
                       "baseline": "adamw:lr=1e-3,weight_decay=0.05"}[key]  # fmt: skip
            raise UserError(f"--{key} is missing: give e.g. --{key} {example}")
    check_command(str(given["command"]))
    tune = Metric(str(given["metric"]))
    report = Metric(str(given.get("test_metric") or tune.text), "--test-metric")
    report = tune if report.text == tune.text else report
    beside = Metric(str(given["beside"]), "--beside") if given.get("beside") else None
    name, start = parse_baseline(given["baseline"])
    others = options.names(given.get("optimizers") or given["default_others"])
    others = [one for one in others if one != name]
    baseline, contestants = kinds.contestants(name, others)
    effect, in_sd, budget = cost.choose(
        options.text(given, "effect"), options.whole(given, "budget")
    )
    better = _direction(given.get("better"), tune, report)
    plan = Plan(
        baseline=baseline,
        others=contestants,
        start=start,
        budget=budget,
        effect=effect,
        effect_in_sd=in_sd,
        margin=options.number(given, "margin"),
        better=better,
    )
    check(plan)
    words = Words(
        metric=str(given.get("metric_name") or _name_of(report, tune)),
        unit=str(given.get("unit") or ""),
        beside=beside.name if beside else "",
        held_out=report != tune,
        tuned=tune.name,
    )
    return plan, words, Program(str(given["command"]), tune, report, beside, Path.cwd())


def _name_of(report: Metric, tune: Metric) -> str:
    """What people call the reported number; never as the tuned one where it is another."""
    alike = report != tune and report.name == tune.name
    return f"{report.name} ({report.option})" if alike else report.name


def _direction(said: Any, tune: Metric, report: Metric) -> str:
    """higher or lower; of a name that does not tell, the user must say it: the wrong one would tune
    for the worst setting.

    Raises:
        UserError: where it is not known, or two numbers have two.
    """
    if said and said not in ("higher", "lower"):
        raise UserError(f"better: {said!r} must be higher or lower")
    _check_directions(tune, report, bool(said))
    if not (said or tune.looks_lower or tune.looks_higher):
        raise UserError(
            f"{tune.option} ({tune.name}): its name does not tell which way is better: say "
            "--better higher or --better lower"
        )
    return said or ("lower" if tune.looks_lower else "higher")


def _check_directions(tune: Metric, report: Metric, is_said: bool) -> None:
    """One direction holds for both numbers.

    Raises:
        UserError: where their names speak of two.
    """
    differ = tune.looks_lower != report.looks_lower and not is_said
    clash = tune.looks_lower and report.looks_higher or tune.looks_higher and report.looks_lower
    if not (differ or clash):
        return
    remedy = "give two that go the same way, e.g. both accuracies or both losses"
    also = "" if clash else ", or say --better higher or --better lower, which then holds for both"
    small, large = (tune, report) if tune.looks_lower else (report, tune)
    raise UserError(
        f"{small.option} ({small.name}) looks like a number to be made small, {large.option} "
        f"({large.name}) does not: {remedy}{also}"
    )


def parse_baseline(text: Any) -> tuple[str, Setting]:
    """`adamw:lr=1e-3,weight_decay=0.05`, or the same as a mapping with `name`.

    Raises:
        UserError: for anything else.
    """
    wanted = "give e.g. --baseline adamw:lr=1e-3,weight_decay=0.05"
    if isinstance(text, Mapping):
        values = {str(k): v for k, v in text.items()}
        name = str(values.pop("name", ""))
    else:
        match = _BASELINE.fullmatch(str(text).strip())
        if match is None:
            raise UserError(f"--baseline {text!r} cannot be read: {wanted}")
        name = match[1]
        pairs = [part.partition("=") for part in match[2].split(",")]
        values = {key.strip(): value.strip() for key, _, value in pairs}
    values = {{"wd": "weight_decay"}.get(k, k): v for k, v in values.items()}
    if not name or set(values) != {"lr", "weight_decay"}:
        raise UserError(f"--baseline {text!r} must say a name, lr and weight_decay: {wanted}")
    try:
        return name, Setting(float(values["lr"]), float(values["weight_decay"]))
    except (TypeError, ValueError):
        raise UserError(f"--baseline {text!r}: lr and weight_decay are numbers: {wanted}") from None


def _about(plan: Plan, program: Program) -> dict[str, Any]:
    """What makes runs of one comparison the same; budget and effect may change."""
    return {
        "command": program.command,
        "folder": str(program.folder),
        "metric": program.tune.text,
        "test_metric": program.report.text,
        "beside": program.beside.text if program.beside else "",
        "better": plan.better,
        "optimizers": [one.name for one in plan.contestants],
        "baseline": vars(plan.start),
    }


def _of_its_files(plan: Plan, program: Program, ledger: Ledger) -> list[str]:
    """What to say of the program's files before any of it runs."""
    files = sources.files_of(program.command, program.folder)
    compared = [one.name for one in plan.contestants]
    # About: each begins at the tuned baseline's lr times its factor.
    begins = {one.label: plan.start.lr * one.lr_factor for one in plan.contestants}
    return [
        *sources.remarks(sources.changed(ledger, files)),
        *sources.left_behind(files, program.folder, compared),
        *fixed_rates.said_of(program.command, files, program.folder, begins),
    ]


def _workers(given: Mapping[str, Any], program: Program) -> int:
    workers = options.whole(given, "workers")
    workers = 1 if workers is None else workers
    if workers < 1:
        raise UserError(f"--workers {workers}: at least 1")
    for metric in program.metrics if workers > 1 else []:
        own = named(metric.file or "{run_dir}")
        if "run_dir" not in own and not own.issuperset(NEEDED):
            raise UserError(
                f"{metric.option} {metric.text}: runs at a time would write one file: put "
                "{run_dir} into its path and the command, or leave --workers out"
            )
    return workers
