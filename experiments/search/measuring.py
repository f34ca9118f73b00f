"""What `scripts/search.py` measures after a search: funnel, meta-overfitting, milestones, worth.

Heavy imports are lazy: the script's other commands start quickly.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import UserError
from experiments.search.settings import AT_MOST, MOST_ROUNDS, SearchSettings
from experiments.store import write_text

if TYPE_CHECKING:
    from experiments.search.folder import SearchFolder

FUNNEL = "funnel.jsonl"
STUDIES = Path("results/studies")
REFERENCE = SearchSettings.reference


def add_to(commands: Any, root: argparse.ArgumentParser, lion: str) -> None:
    """Adds funnel, meta, rediscovery, worth and ablate to a command line.

    Args:
        commands: Sub-parsers.
        root: Parent of parsers that name the folder of searches.
        lion: Name of Lion's program in the library.
    """
    funnel = commands.add_parser("funnel", parents=[root], help="which finalists hold elsewhere")
    funnel.add_argument("name")
    funnel.add_argument("--rounds", type=int, default=5, help="seeds on each family (default: 5)")
    funnel.add_argument("--reference", help="program to beat (default: the search's reference)")
    funnel.set_defaults(action=run_funnel)
    meta = commands.add_parser("meta", parents=[root], help="meta-overfitting: the best, over time")
    meta.add_argument("name")
    meta.add_argument("--points", type=int, default=20)
    meta.add_argument("--rounds", type=int, default=5, help="seeds on each family (default: 5)")
    meta.set_defaults(action=run_meta)
    again = commands.add_parser(
        "rediscovery", parents=[root], help="when was sign momentum met, and one as good as Lion?"
    )
    again.add_argument("names", nargs="+")
    again.add_argument("--rounds", type=int, default=16, help="of fresh data (default: 16)")
    again.add_argument(
        "--against", default=lion, help=f"program to be as good as (default: {lion})"
    )
    again.set_defaults(action=run_rediscovery)
    worth = commands.add_parser("worth", help="what programs gain on a proxy, on fresh data")
    worth.add_argument("programs", nargs="+", help="files, or names of the library")
    worth.add_argument("--family", default="lm", help="of the proxy (default: lm)")
    worth.add_argument("--steps", type=int, default=100, help="of a training (default: 100)")
    worth.add_argument("--rounds", type=int, default=16, help="of fresh data (default: 16)")
    worth.add_argument(
        "--first-round",
        type=int,
        default=0,
        help="the first of those rounds (default: 0); a program that a search has chosen by its "
        "final rounds, or that simplify has shortened on them, is judged anew from 100 on (behind "
        "all of them, if they are more)",
    )
    worth.add_argument("--reference", default=REFERENCE, help=f"gain 0 (default: {REFERENCE})")
    worth.add_argument("--out", type=Path, help="write a table (CSV), too")
    worth.set_defaults(action=show_worth)
    without = commands.add_parser("ablate", help="what each statement of a program is worth")
    without.add_argument("program", help="file, or name of the library")
    without.add_argument("--families", default="lm,mlp,conv", help="of proxies (default: all)")
    without.add_argument("--steps", type=int, default=100, help="of a training (default: 100)")
    without.add_argument("--rounds", type=int, default=8, help="of fresh data (default: 8)")
    without.add_argument("--study", help="name below results/studies, or a folder: adds a table")
    without.set_defaults(action=run_ablate)


def _find(name: str, root: Path) -> SearchFolder:
    from experiments.search.folder import SearchFolder

    return SearchFolder.find(name, root)


def run_funnel(args: argparse.Namespace) -> int:
    """Takes the finalists through the gates, and prints who comes through."""
    from experiments.search import funnel, library
    from experiments.search.language import parse
    from experiments.search.proxies import families

    check_rounds(args)
    folder = _find(args.name, args.searches)
    finalists = [row for row in folder.final_rows() if row["kind"] == "finalist"]
    if not finalists:
        raise UserError(f"{folder.path.name}: no finalists yet; let the search end first")
    header = folder.read()
    reference = header["reference_text"]
    if args.reference:
        reference = library.read_file(args.reference).text()
    programs = [parse(row["text"]) for row in finalists]

    def say(place: int, passage: Any) -> None:
        print(f"candidate {finalists[place]['number']}, {_said(passage)}", flush=True)

    settings = folder.settings
    sizes = settings.num_steps, reference, args.rounds, settings.lrs
    asked = families.names(settings.family)
    passages = funnel.run(programs, *sizes, on_passage=say, families=asked)
    rows = []
    for row, of in zip(finalists, passages, strict=True):
        for passage in of:
            of_family = {name: final.to_json() for name, final in passage.finals.items()}
            verdict = {"gate": passage.gate, "promoted": passage.is_promoted}
            rows.append({"number": row["number"], **verdict, "families": of_family})
    write_text(folder.path / FUNNEL, "".join(json.dumps(row) + "\n" for row in rows), durable=True)
    survivors = funnel.survivors(passages)
    names = ", ".join(str(finalists[n]["number"]) for n in survivors)
    print(f"through all gates, the best worst family first: {names or 'none'}")
    for n in survivors:
        path = folder.path / f"survivor-{finalists[n]['number']}.txt"
        write_text(path, finalists[n]["text"])
        rates = settings.lrs or families.family(settings.family).lrs[:3]
        print("\n".join(funnel.commands(str(path), rates)))
    return 0


def _said(passage: Any) -> str:
    from experiments.search.session import gain_text

    gains = ", ".join(f"{name} {gain_text(final)}" for name, final in passage.finals.items())
    return f"{passage.gate}: {gains}: {'promoted' if passage.is_promoted else 'held back'}"


def run_meta(args: argparse.Namespace) -> int:
    """Judges the best programs of some moments on fresh data of every family."""
    from experiments.search import collect
    from experiments.search.proxies import families

    check_rounds(args, least=1)
    if args.points < 1:
        raise UserError(f"--points {args.points}: at least 1")
    folder = _find(args.name, args.searches)
    for row in collect.meta(
        folder, args.points, args.rounds, families.names(folder.settings.family)
    ):
        means = {name: final["mean"] for name, final in row["families"].items()}
        said = ", ".join(
            f"{name} {'failed' if mean is None else f'{mean:+.4f}'}" for name, mean in means.items()
        )
        print(f"{row['told']:>8}  candidate {row['number']:>8}  search {row['best']:+.4f}  {said}")
    return 0


def run_rediscovery(args: argparse.Namespace) -> int:
    """Prints the milestones of searches, in programs trained and incumbents judged again."""
    from experiments.search import library, rediscovery

    check_rounds(args)
    against = library.read_file(args.against)
    for folder in [_find(name, args.searches) for name in args.names]:
        row = rediscovery.measure(folder, against, args.rounds)
        at = {name: row[f"{name}_trained"] for name in ("sign_momentum", "two_averages", "as_good")}
        said = ", ".join(
            f"{name.replace('_', ' ')} {'never' if count is None else f'after {count}'}"
            for name, count in at.items()
        )
        print(f"{folder.path.name}, in trainings (incumbents' too): {said}", flush=True)
    return 0


def show_worth(args: argparse.Namespace) -> int:
    """Prints the gain of programs over the reference, the best first."""
    import pandas as pd

    from experiments.search import contributions, finals, library
    from experiments.search.evaluation import Tier
    from experiments.search.proxies import families
    from experiments.search.session import gain_text

    families.check(args.family)
    check_counts(args)
    if not 0 <= args.first_round <= MOST_ROUNDS:
        raise UserError(f"--first-round {args.first_round}: 0 to {MOST_ROUNDS}")
    programs = [library.read_file(name) for name in args.programs]
    reference = library.read_file(args.reference).text()
    tier = Tier(family=args.family, num_steps=args.steps, reference=reference)
    found = finals.evaluate(programs, tier, args.rounds, args.first_round)
    judged = zip(args.programs, found, strict=True)
    rows = []
    for name, final in sorted(judged, key=lambda pair: -pair[1].mean):
        print(f"{name:<20} {gain_text(final)}")
        said = {"mean": final.mean, "standard_error": final.standard_error, "n": args.rounds}
        rows.append({"program": name, "family": args.family, "num_steps": args.steps, **said})
    print(f"nats of held-out loss of {args.family} below that of {args.reference}, on fresh data")
    if args.out is not None:
        where = contributions.measured_by()
        table = pd.DataFrame([{**row, **where} for row in rows])
        write(args.out, table.to_csv(index=False, float_format="%.7g"))
    return 0


def check_counts(args: argparse.Namespace, least: int = 2, part: int = 10) -> None:
    """Refuses `--steps` and `--rounds` that cannot be.

    Args:
        args: steps (None: the proxy's own) and rounds.
        least: Rounds.
        part: What divides the steps.

    Raises:
        UserError: says what they may be.
    """
    most = AT_MOST["num_steps"]
    if args.steps is not None and (not part <= args.steps <= most or args.steps % part):
        raise UserError(f"--steps {args.steps}: {part} to {most}, a multiple of {part}")
    check_rounds(args, least)


def check_rounds(args: argparse.Namespace, least: int = 2) -> None:
    if args.rounds < least:
        why = ", for a standard error" if least == 2 else ""
        raise UserError(f"--rounds {args.rounds}: at least {least}{why}")
    if args.rounds > MOST_ROUNDS:
        raise UserError(f"--rounds {args.rounds}: at most {MOST_ROUNDS}; others have those beyond")


def run_ablate(args: argparse.Namespace) -> int:
    """Prints what each statement of a program is worth, and adds the rows to a study's table."""
    from experiments.search import contributions, library, liveness
    from experiments.search.proxies import families

    asked = list(dict.fromkeys(name.strip() for name in args.families.split(",")))
    for name in asked:
        families.check(name)
    check_counts(args)
    program = liveness.prune(library.read_file(args.program))
    name = Path(args.program).stem
    rows = contributions.measure(program, asked, args.rounds, args.steps)
    for row in rows:
        said = f"{row['statement']} -> {row['instead'] or 'nothing'}"
        loss = "failed" if row["mean"] is None else f"{row['mean']:+.4f}"
        print(f"{row['family']:<5} {loss:>9}  {said}")
    print("nats of held-out loss that a change gains; below 0 it costs; failed: it does not train")
    if args.study:
        print(contributions.add_to(study_folder(args.study), name, rows))
    return 0


def write(path: Path, text: str) -> None:
    """Writes a file as a whole, or not at all.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    print(f"-> {path}", file=sys.stderr)


def study_folder(name: str) -> Path:
    """Where a study lies, given its name or its folder."""
    path = Path(name)
    return STUDIES / name if path.name == name else path
