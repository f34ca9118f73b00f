"""Looks after sweeps: how they go, going on, and their tables.

python scripts/sweep.py status                     # every sweep, a line each
python scripts/sweep.py status vit_proxy-lr_wd     # progress, failures, best cells
python scripts/sweep.py resume vit_proxy-lr_wd     # train what is missing
python scripts/sweep.py confirm vit_proxy-lr_wd --seeds 100-109   # its picks, with fresh seeds
python scripts/sweep.py draw vit_proxy-lr_wd       # figures, and a page with the verdict
python scripts/sweep.py then pretrain_proxy-pretrain_then_finetune   # its stage two
python scripts/sweep.py collect vit_proxy-lr_wd --study NAME --curves
python scripts/sweep.py compact                    # results/runs as one quick table
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments import trust
from experiments.config import UserError
from experiments.explain import exit_code
from experiments.pages import CONF, help_of, script
from experiments.ranges import NAME
from experiments.sweep import command, confirm, report, results
from experiments.sweep.manifest import Sweep
from experiments.sweep.request import MOST_VALUES

SWEEPS = Path("results/sweeps")
STUDIES = Path("results/studies")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; what the user can mend is one line and exit code 2."""
    return exit_code(lambda: (args := parse(arguments)).action(args))


def _takes_launcher(command: argparse.ArgumentParser) -> None:
    command.add_argument("--launcher", default="local", help="page of conf/launcher")
    command.add_argument("--trust", default="", help="code of somebody else's sweep, as of a run")
    command.add_argument("changes", nargs="*", help="launcher settings, e.g. num_workers=4")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; `action` is the function to call."""
    summary = argparse.RawDescriptionHelpFormatter
    about = help_of("sweep", __doc__)
    parser = argparse.ArgumentParser(**about, formatter_class=summary)
    actions = parser.add_subparsers(
        required=True, metavar="status | resume | confirm | draw | then | collect | compact"
    )
    status = actions.add_parser("status", help="progress, failures, best cells")
    status.add_argument("name", nargs="?", help="of the sweep, or its folder")
    status.add_argument("--metric", help="to judge by (default: the task's own)")
    status.set_defaults(action=show_status)
    resume = actions.add_parser("resume", help="train what is missing")
    resume.add_argument("name")
    resume.add_argument("--retry-failed", action="store_true", help="give failed cells new tries")
    _takes_launcher(resume)
    resume.set_defaults(action=go_on)
    confirm = actions.add_parser("confirm", help="train the picks again, with fresh seeds")
    confirm.add_argument("name")
    confirm.add_argument("--seeds", type=seeds_of, default=seeds_of("100-109"), help="e.g. 100-109")
    confirm.add_argument("--metric", help="to pick by (default: the task's own)")
    confirm.add_argument(
        "--measure", action="append", default=[], metavar="KEY=VALUE",
        help="what only the fresh runs measure, e.g. eval.every_steps=150",
    )  # fmt: skip
    _takes_launcher(confirm)
    confirm.set_defaults(action=train_picks)
    draw = actions.add_parser("draw", help="figures (PNG, SVG), and a page with the verdict")
    draw.add_argument("name", help="of the sweep that tunes; the runs of confirm are with it")
    draw.add_argument("--out", type=Path, help="folder (default: that of the sweep, figures/)")
    draw.add_argument("--metric", help="to judge by (default: the task's own)")
    draw.add_argument("--reference", help="the optimizer that the others are compared with")
    draw.set_defaults(action=draw_sweep)
    then = actions.add_parser("then", help="train stage two, from what a sweep has chosen")
    then.add_argument("name")
    _takes_launcher(then)
    then.set_defaults(action=train_stage_two)
    collect = actions.add_parser("collect", help="write runs.csv of the runs that are over")
    collect.add_argument("name")
    collect.add_argument("--study", help="name below results/studies/EXPERIMENT (default: sweep's)")
    collect.add_argument("--curves", action="store_true", help="curves.csv, too")
    collect.add_argument("--metric", help="of the columns val and test (default: the task's own)")
    collect.set_defaults(action=write_tables)
    compact = actions.add_parser("compact", help="write the table of all runs as one quick file")
    compact.add_argument("runs", nargs="?", type=Path, default=Path("results/runs"))
    compact.set_defaults(action=write_compacted)
    args, more = parser.parse_known_args(arguments)
    # argparse takes `changes` where NAME is; those after an option are left over.
    settings = [text for text in more if "=" in text and not text.startswith("-")]
    if settings != more or (more and not hasattr(args, "changes")):
        parser.parse_args(arguments)  # says what it does not know
    args.changes = [*getattr(args, "changes", []), *settings]
    for text in [one for one in args.changes if one.startswith("launcher=")]:  # as for run.py
        args.changes.remove(text)
        args.launcher = text.partition("=")[2]
    args.changes = [text.removeprefix("launcher.") for text in args.changes]
    return args


def find(name: str) -> Sweep:
    """A sweep by its name, or by its folder."""
    path = Path(name)
    return Sweep(path if (path / "manifest.json").exists() else SWEEPS / name)


def show_status(args: argparse.Namespace) -> int:
    """All about one sweep, or a line about each."""
    if args.name:
        report.show(find(args.name), metric=args.metric)
        return 0
    found = sorted(path.parent for path in SWEEPS.glob("*/manifest.json"))
    damaged = 0
    for path in found:
        try:
            states = list(Sweep(path).states().values())
            said = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        except UserError as error:  # the others are shown all the same
            damaged, said = damaged + 1, str(error)
        print(f"{path.name}: {said}")
    if not found:
        print(f"no sweep in {SWEEPS}; start one with: {script('run')} -m sweep=lr_wd")
    return 1 if damaged else 0


def go_on(args: argparse.Namespace) -> int:
    """Trains what is missing."""
    trust.add(args.trust)
    sweep = find(args.name)
    if args.retry_failed:
        for run, state in sweep.states().items():
            if state == "failed":
                sweep.leases.forgive(run)
    code = command.launch(sweep.path, args.launcher, args.changes, [CONF])
    report.show(sweep)
    return code


def seeds_of(text: str) -> list[int]:
    """`100-104,7` as numbers."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            some = range(int(first), int(last) + 1) if dash else [int(first)]
            if len(some) > MOST_VALUES:
                raise argparse.ArgumentTypeError(f"{text}: more than {MOST_VALUES:,} seeds")
            seeds += some
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text}: say e.g. 100-109 or 7,8,9") from None
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text}: no seed")
    return list(dict.fromkeys(seeds))


def untrained(sweep: Sweep) -> list[str]:
    """Titles of the cells that have no result yet."""
    states = sweep.states()
    return [c.title for c in sweep.cells if states[c.run_id] not in ("finished", "diverged")]


def train_picks(args: argparse.Namespace) -> int:
    """Trains what a sweep has picked again, with seeds that had no part in picking."""
    trust.add(args.trust)
    tuned = find(args.name)
    if left := untrained(tuned):
        print(
            f"Beware: {len(left)} of {len(tuned.cells)} cells of {tuned.name} are not trained, and "
            f"the picks may be others with them: {script('sweep')} resume {tuned.name}"
        )
    fresh = confirm.confirm(tuned, args.seeds, args.metric, args.measure)
    code = command.launch(fresh.path, args.launcher, args.changes, [CONF])
    report.show(fresh, metric=args.metric)
    return code


def draw_sweep(args: argparse.Namespace) -> int:
    """Writes the figures of a sweep and its page, and prints what was written."""
    from experiments.analysis.swept import page
    from experiments.sweep import arms

    sweep = find(args.name)
    out = args.out or sweep.path / "figures"
    swept = arms.swept(sweep, args.metric)
    written = page.write(swept, out, lambda runs: arms.curves(sweep, runs), args.reference)
    print(written[0].read_text(encoding="utf-8"))
    print("written: " + ", ".join(str(path) for path in written))
    return 0


def train_stage_two(args: argparse.Namespace) -> int:
    """Trains what starts from the chosen cells of a sweep."""
    trust.add(args.trust)
    return command.launch_then(find(args.name), args.launcher, args.changes, [CONF])


def write_tables(args: argparse.Namespace) -> int:
    """Writes the study's tables."""
    sweep = find(args.name)
    NAME.check("--study", args.study or sweep.name)
    left = untrained(sweep)
    names = sweep.manifest["experiment"].split(",")
    for name in names:
        folder = STUDIES / name / (args.study or sweep.name)
        only = name if len(names) > 1 else None
        print(f"written: {results.collect(sweep, folder, args.curves, args.metric, only)}")
    if left:
        print(f"{len(left)} cells are missing, e.g. {left[0]}")
    return 0


def write_compacted(args: argparse.Namespace) -> int:
    """Renews the compacted table."""
    from experiments import table

    if not args.runs.is_dir():
        raise UserError(f"{args.runs}: no runs there yet; train first, or name their folder")
    try:
        number = table.compact(args.runs)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{args.runs}: the table cannot be written there ({reason})") from error
    print(f"{number} runs read into {args.runs / table.COMPACTED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
