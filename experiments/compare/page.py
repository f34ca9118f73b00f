"""`python run.py job=compare experiment=NAME`: the comparison for a page of this suite.

    python run.py job=compare experiment=vit_proxy
    python run.py job=compare experiment=mine --config-dir pages compare.budget=36 --yes

Runs are cells of a sweep that grows, trained by any page of `conf/launcher` (`launcher=`,
`launcher.KEY=`), in the ledger like all others. Further keys hold for every run.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.compare import cost, kinds, options, session
from experiments.compare.asking import Answer, Ask, Setting
from experiments.compare.ledger import Ledger
from experiments.compare.outlook import Outlook
from experiments.compare.plan import Plan, check
from experiments.compare.session import Options
from experiments.compare.time_limit import TimeLimit, tried_again
from experiments.compare.verdict import Words
from experiments.compose import compose_cells
from experiments.config import ConfigError, RunConfig, UserError
from experiments.headline import Headline
from experiments.pages import CONF, from_dotlist
from experiments.processor import usable_cores
from experiments.sweep import codes, command, writing
from experiments.sweep.local import find_gpus
from experiments.sweep.manifest import Cell, Sweep

NOT_A_COMPARISON = -1
JOB = "compare"
_OURS = re.compile(rf"{JOB}\.(\w+)=")
_SET_BY_US = re.compile(r"[+~]*(optimizer|seed|recipe|run|start_from\.source)[.=]")


def main(arguments: Sequence[str]) -> int:
    """Runs the command line.

    Returns:
        0 whatever the verdict, 1 where runs could not be trained; `NOT_A_COMPARISON` where the
        command line asks for another job.

    Raises:
        UserError: for what the user can mend.
    """
    if f"job={JOB}" not in arguments:
        return NOT_A_COMPARISON
    args, overrides, launcher, launcher_changes, settings = _parsed(arguments)
    if args.cost:
        print(cost.table())
        return 0
    folders = [CONF, *([Path(args.config_dir)] if args.config_dir else [])]
    page = Page(overrides, args.config_dir, settings)
    command.launcher_section(launcher, launcher_changes, folders)  # refuses before anything runs
    command.check_data([page.cell(_first(page.plan))], is_here=True)
    page.num_workers = _num_workers(launcher, launcher_changes, folders)
    outlook = Outlook(page.plan, page.num_workers, of_page=True)
    how = Options(page.num_workers, args.yes, args.json, outlook.hear)
    folder = options.text(settings, "dir")
    root = Path(folder) if folder else Path(page.base.results_dir).parent / "comparisons"
    path = session.folder_of(root, options.text(settings, "name"), page.name)
    sweep = path / "sweep"
    with Ledger(path).opened(page.about) as ledger:
        for line in (*tried_again(ledger, page.limit), *codes.changed_in(sweep)):
            print(line, flush=True)
        session.welcome(path, page.plan, page.words.tuned, page.words.metric)

        def launch() -> int:
            print(outlook.said(ledger), flush=True)
            return command.launch(sweep, launcher, launcher_changes, folders)

        session.lead(page.plan, page.words, ledger, lambda a: page.run(a, ledger, launch), how)
    return 0


def _parsed(
    arguments: Sequence[str],
) -> tuple[argparse.Namespace, list[str], str, list[str], dict[str, Any]]:
    """Flags, overrides of every run, launcher and its changes, and our own settings.

    Raises:
        ConfigError: for a key that the comparison sets itself, or does not know.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cost", action="store_true")
    settings: dict[str, Any] = kinds.page()["settings"]
    for key in settings:  # --budget 36 is compare.budget=36: remedies name options in this way
        parser.add_argument(f"--{key.replace('_', '-')}", dest=f"{JOB}.{key}")
    parser.add_argument("overrides", nargs="*")
    args, others = parser.parse_known_intermixed_args(list(arguments))
    if others:
        flags = [f"--{key.replace('_', '-')}" for key in (*settings, "yes", "json", "cost")]
        near = difflib.get_close_matches(others[0], flags, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{others[0]} does not go with job={JOB}{meant}")
    ours = [text for text in args.overrides if _OURS.match(text)]
    launcher = [t for t in args.overrides if re.match(r"launcher[.=]", t)]
    rest = [t for t in args.overrides if t not in (*ours, *launcher, f"job={JOB}")]
    if wrong := [text for text in rest if _SET_BY_US.match(text)]:
        raise ConfigError(
            f"{wrong[0]}: the comparison sets it; choose with {JOB}.baseline= and "
            f"{JOB}.optimizers=[...], start with {JOB}.lr= and {JOB}.weight_decay=; other settings "
            "stand on a page of yours: FOLDER/optimizer/NAME.yaml, --config-dir FOLDER"
        )
    if wrong := [text for text in rest if "=" not in text]:
        raise ConfigError(f"{wrong[0]!r} is neither a flag nor key=value")
    given = _given([text.partition(".")[2] for text in ours], settings)
    flags = {key: getattr(args, f"{JOB}.{key}") for key in settings}
    given |= {key: value for key, value in flags.items() if value is not None}
    pages = [t.partition("=")[2] for t in launcher if t.startswith("launcher=")]
    changes = [t.partition(".")[2] for t in launcher if t.startswith("launcher.")]
    return args, rest, (pages or ["local"])[-1], changes, settings | given


def _given(changes: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """What `compare.KEY=VALUE` says."""
    from omegaconf import OmegaConf

    given: Any = OmegaConf.to_container(from_dotlist(JOB, changes))
    if unknown := [key for key in given if key not in settings]:
        near = difflib.get_close_matches(unknown[0], settings, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        there = ", ".join(settings)
        raise ConfigError(f"{JOB}.{unknown[0]}: no such key; {meant}there are: {there}")
    return given


class Page:
    """A page of `conf/experiment` with its contestants."""

    def __init__(
        self, overrides: list[str], config_dir: str | None, settings: dict[str, Any]
    ) -> None:
        self._overrides = overrides
        self._config_dir = config_dir
        self.num_workers, self.limit = 1, TimeLimit.parse(settings["timeout"])
        name = str(settings["baseline"])
        others = [one for one in options.names(settings["optimizers"]) if one != name]
        baseline, contestants = kinds.contestants(name, others)
        self.base = self._compose(baseline.name, {})
        for one in contestants:
            self._compose(one.name, {})  # a page that cannot work is said before anything runs
        self.headline = _headline(self.base)
        given = options.text(settings, "effect")
        effect, in_sd, budget = cost.choose(given, options.whole(settings, "budget"))
        margin = options.number(settings, "margin")
        self.plan = Plan(
            baseline=baseline,
            others=contestants,
            start=_start(self.base, settings),
            budget=budget,
            effect=effect,
            effect_in_sd=in_sd,
            margin=self.headline.margin if margin is None and not given else margin,
            better=self.headline.better,
        )
        check(self.plan)
        names = "-vs-".join(one.name for one in reversed(self.plan.contestants))
        self.name = f"{self.base.experiment}-{names}".replace("/", ".")
        unit = "points" if self.headline.unit == "%" else self.headline.unit
        self.words = Words(
            metric=f"{self.headline.report} {self.headline.metric}",
            unit=unit,
            beside=f"{self.headline.report} loss" if self.headline.metric != "loss" else "",
            held_out=self.headline.report != self.headline.tune,
            tuned=f"{self.headline.tune} {self.headline.metric}",
        )

    @property
    def about(self) -> dict[str, Any]:
        """What makes runs of one comparison the same; budget and effect may change."""
        return {
            "experiment": self.base.experiment,
            "settings": self._overrides,
            "optimizers": [one.name for one in self.plan.contestants],
            "baseline": vars(self.plan.start),
            "metric": self.headline.phrase,
        }

    def _compose(self, optimizer: str, values: dict[str, Any]) -> RunConfig:
        chosen = [*self._overrides, f"optimizer={optimizer}"]
        return compose_cells(chosen, [values], self._config_dir)[0]

    def cell(self, ask: Ask) -> Cell:
        """A run as a cell of the sweep."""
        settings = {"optimizer.lr": ask.lr, "optimizer.weight_decay": ask.weight_decay}
        config = self._compose(ask.optimizer, {**settings, "seed": ask.seed})
        config.launch.progress = False
        return Cell.of(config, settings)

    def run(self, asks: Sequence[Ask], ledger: Ledger, launch: Any) -> list[Answer]:
        """Trains what is not known yet, and notes what came of it.

        Raises:
            UserError: where an optimizer does nothing but fail.
            KeyboardInterrupt: where the workers were told to stop.
        """
        # A run is a folder: the same seed once more would be the same run.
        missing = [ask for ask in asks if ledger.answer(ask) is None and not ask.copy]
        if missing:
            cells = [self.cell(ask) for ask in missing]
            how: dict[str, Any] = {"fixed": self._overrides, "equal_budget": False, "quiet": True}
            how["limit"] = self.limit.facts(ledger.slowest())
            sweep = writing.write(ledger.path / "sweep", cells, **how)
            for run, state in sweep.states().items():
                if state == "failed" and run in {cell.run_id for cell in cells}:
                    sweep.leases.forgive(run)  # mended meanwhile, or it fails again
            began = time.monotonic()
            code = launch()
            if code > 1:
                raise KeyboardInterrupt
            each = (time.monotonic() - began) * self.num_workers / len(missing)
            self._note(missing, cells, sweep, ledger, each)
        return [ledger.answer(ask) or Answer() for ask in asks]

    def _note(
        self,
        asks: Sequence[Ask],
        cells: Sequence[Cell],
        sweep: Sweep,
        ledger: Ledger,
        least_seconds: float,
    ) -> None:
        """`least_seconds`: a run's share of the time that all took, start-up and evaluation too:
        a price of training alone would be too low."""
        from experiments.outcomes import outcomes
        from experiments.table import read_runs

        splits = {self.headline.tune, self.headline.report}
        runs = {cell.run_id for cell in cells}
        table = outcomes(read_runs(sweep.manifest["runs_dir"], splits, runs))
        rows = {row["run_id"]: row for row in table.to_dict("records")}
        states = sweep.states()
        for ask, cell in zip(asks, cells, strict=True):
            row, state = rows.get(cell.run_id, {}), states[cell.run_id]
            values = [float(row.get(k, math.nan)) for k in ("val", "test", "test_loss")]
            values.append(max(least_seconds, float(row.get("seconds", 0.0))))
            if state == "finished" and not math.isfinite(values[0]):
                raise UserError(f"run {cell.run_id} has measured no {self.headline.metric}")
            said = _last_said(sweep, cell) if state == "failed" else {"message": cell.run_id}
            ledger.end(ask, Answer(*values), state, **said)
        ledger.refuse_hopeless(asks)


def _last_said(sweep: Sweep, cell: Cell) -> dict[str, Any]:
    """Of a cell that has failed: the message, and the limit where it was ended for its time."""
    leases = sweep.leases.of(cell.run_id)
    facts = leases[-1].facts if leases else {}
    limit = {"limit": facts["limit"]} if "limit" in facts else {}
    return {"message": facts.get("message") or "see its log", **limit}


def _headline(config: RunConfig) -> Headline:
    from experiments.tasks.task import build_task

    task = build_task(config)
    weights = config.eval.weights
    return replace(task.headline, weights=weights) if weights else task.headline


def _start(base: RunConfig, settings: dict[str, Any]) -> Setting:
    """The recipe of the baseline, or what the command line says.

    Raises:
        ConfigError: for an optimizer without the two settings that are tuned.
    """
    values = {}
    for key in ("lr", "weight_decay"):
        value = options.number(settings, key)
        recipe: Any = base.optimizer.get(key)
        if value is None and (isinstance(recipe, bool) or not isinstance(recipe, int | float)):
            raise ConfigError(
                f"{base.optimizer_name} has no number as its {key} ({recipe!r}): give {JOB}.{key}="
            )
        values[key] = float(recipe) if value is None else value
    return Setting(**values)


def _first(plan: Plan) -> Ask:
    start = plan.start
    return Ask("", plan.baseline.name, "pilot", start.lr, start.weight_decay, 0)


def _num_workers(launcher: str, changes: Sequence[str], folders: Sequence[Path]) -> int:
    """For the price: how many runs at a time."""
    section = command.launcher_section(launcher, changes, folders)
    return int(section.get("num_workers") or len(find_gpus()) or usable_cores())
