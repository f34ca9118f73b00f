"""Looks after searches, and at programs: proves what they are, shortens them, puts them to use.

python scripts/search.py status                       # every search, a line each
python scripts/search.py status laptop-s0             # shares, final numbers, the best program
python scripts/search.py lineage laptop-s0            # how its best program came about
python scripts/search.py replay laptop-s0             # make it again from its log
python scripts/search.py funnel laptop-s0             # which finalists hold on other families
python scripts/search.py meta laptop-s0               # is it over-fitting its proxy?
python scripts/search.py rediscovery laptop-s0          # when was sign momentum met?
python scripts/search.py worth lion sign_sgd FILE       # what programs gain on a proxy
python scripts/search.py ablate FILE                    # what each of its statements is worth
python scripts/search.py collect laptop-s0 laptop-s1 --study NAME  # tables for the figures
python scripts/search.py figures NAME                 # draw what was collected
python scripts/search.py picks NAME                   # its picks, in the same rounds for all
python scripts/search.py sightings laptop-s0          # every sign momentum that it met
python scripts/search.py prove FILE --json            # is it sign momentum, with which betas?
python scripts/search.py prove FILE --certificate c.json
python scripts/search.py check c.json                 # verify that proof independently
python scripts/search.py simplify FILE --out short.txt  # leave out what training does not miss
python scripts/search.py export FILE --out found.txt  # how to train with it

FILE is a text as the paper prints programs, `def train(w, g, m, v, lr): ...`, or the name of a
program of the library (experiments/search/programs), e.g. raw; for prove, simplify and export also
the name of a search: its best program.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.config import UserError
from experiments.explain import exit_code
from experiments.pages import help_of, script
from experiments.search import commands
from experiments.search.measuring import REFERENCE, check_counts, check_rounds, write

Commands = Any
"""What argparse calls sub-parsers."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; what the user can mend is one line and exit code 2."""
    return exit_code(lambda: (args := parse(arguments)).action(args))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; `action` is the function to call."""
    summary = argparse.RawDescriptionHelpFormatter
    about = help_of("search", __doc__)
    parser = argparse.ArgumentParser(**about, formatter_class=summary)
    group = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(group)
    return parser.parse_args(arguments)


def add_figures(group: Commands) -> None:
    """figures: of the tables that `collect` has written."""
    command = group.add_parser("figures", help="draw what was collected")
    command.add_argument("study", help="name below results/studies, or a folder")
    command.add_argument("--out", type=Path, help="folder (default: figures in the study's)")
    command.set_defaults(action=draw_figures)


def draw_figures(args: argparse.Namespace) -> int:
    """Draws each figure that there are tables for."""
    from experiments.analysis import searches
    from experiments.analysis.drawing import figure_style
    from experiments.analysis.figures.catalogue import SEARCHES

    folder = commands.study_folder(args.study)
    tables, out = searches.read(folder), args.out or folder / "figures"
    for name, module in SEARCHES.items():
        try:
            figure = module.draw_study(tables)
        except UserError as error:
            print(f"{name}: {error}")
            continue
        for path in figure_style.save(figure, out, name):
            print(path)
    return 0


def add_picks(group: Commands) -> None:
    """picks: of collected searches, in the same rounds of search data."""
    command = group.add_parser("picks", help="what searches picked, in the same rounds for all")
    command.add_argument("study", help="of `collect`: name below results/studies, or a folder")
    command.add_argument("--rounds", type=int, default=30, help="of search data (default: 30)")
    command.add_argument("--reference", default=REFERENCE, help=f"gain 0 (default: {REFERENCE})")
    command.set_defaults(action=run_picks)


def run_picks(args: argparse.Namespace) -> int:
    """Judges what each search of a study has picked, and adds the table to the study."""
    import pandas as pd

    from experiments.analysis import searches
    from experiments.search import library, picks
    from experiments.search.evaluation import Tier

    check_rounds(args)
    folder = commands.study_folder(args.study)
    tables = searches.read(folder)
    if "finals" not in tables:
        raise UserError(f"{folder}: no final numbers there; let the searches end, collect again")
    rows = searches.comparable(tables["searches"])
    chosen = searches.picked(searches.within(tables["finals"], rows)).set_index("search")
    reference = library.read_file(args.reference).text()
    sizes = {"family": str(rows.family.iloc[0]), "num_steps": int(rows.num_steps.iloc[0])}
    found = picks.measure(
        dict(chosen.text.items()), Tier(**sizes, reference=reference), args.rounds
    )
    table = pd.DataFrame(found)
    for place, name in enumerate(("arm", "seed", "number"), 1):
        table.insert(place, name, table.search.map(chosen[name]))
    write(folder / picks.FILE, table.to_csv(index=False, float_format="%.7g"))
    return 0


def add_prove(commands: Commands) -> None:
    """prove: exit code 0 if it could decide, 1 if not."""
    command = commands.add_parser("prove", help="is a program sign momentum, is it Lion?")
    command.add_argument("file", help="a program's text, or a name of the library")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--certificate", type=Path, help="write the proof for `check`")
    command.set_defaults(action=prove)


def prove(args: argparse.Namespace) -> int:
    """Decides about a program and prints the verdict."""
    from experiments.search import proof

    verdict = proof.prove(commands.program_of(args.file))
    if args.json:
        print(json.dumps(verdict.to_json(), ensure_ascii=False))
    else:
        print(in_words(verdict))
    if args.certificate is not None:
        if not verdict.certificate:
            known = "it cannot be certified" if verdict.family else "nothing is proved"
            raise UserError(f"{args.certificate}: {known}, so there is no certificate")
        write(args.certificate, json.dumps(verdict.certificate, indent=1) + "\n")
    return 0 if verdict.is_decided else 1


def in_words(verdict: Any) -> str:
    """Two lines for people."""
    if verdict.family is None:
        said = "not sign momentum" if verdict.is_decided else "undecided"
        return f"{said}\n{verdict.reason}"
    said = f"betas ({verdict.beta1}, {verdict.beta2}), weight decay {verdict.weight_decay}"
    return f"sign momentum: Lion with {said}, lr times {verdict.lr_scale}\n{verdict.reason}"


def add_check(commands: Commands) -> None:
    """check: exit code 1 if the certificate does not hold."""
    command = commands.add_parser("check", help="verify a certificate of `prove`")
    command.add_argument("file", type=Path, help="what `prove --certificate` wrote")
    command.set_defaults(action=check)


def check(args: argparse.Namespace) -> int:
    """Verifies a certificate."""
    from experiments.search import checker

    try:
        certificate = json.loads(args.file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{args.file}: no certificate: {error}") from error
    try:
        checker.verify(certificate)
    except checker.Refused as error:
        print(f"refused: {error}")
        return 1
    betas = f"{certificate['beta1']}, {certificate['beta2']}"
    decay, scale = certificate["weight_decay"], certificate["lr_scale"]
    refuses = ", which Lion refuses" if str(decay).startswith("-") else ""
    print(
        f"verified: the program is Lion with betas ({betas}), weight decay {decay}{refuses}, "
        f"lr times {scale}"
    )
    return 0


def add_simplify(commands: Commands) -> None:
    """simplify: liveness, ablation on a proxy, rounding, exact rewriting, proof."""
    command = commands.add_parser("simplify", help="the shortest program worth the same")
    command.add_argument("file", help="a program's text, or a name of the library")
    command.add_argument("--out", type=Path, help="write the last program")
    command.add_argument("--exact", action="store_true", help="only what keeps every update")
    command.add_argument("--family", default="mlp", help="proxy for the ablation (default: mlp)")
    command.add_argument("--rounds", type=int, default=4, help="pairs of trainings (default: 4)")
    command.add_argument("--steps", type=int, help="of a training (default: the proxy's)")
    command.add_argument("--tolerance", type=float, default=0.01, help="nats (default: 0.01)")
    command.add_argument(
        "--drop",
        action="append",
        default=[],
        choices=("decay", "buffers"),
        help="let ablation take the weight decay or the buffers, too",
    )
    command.set_defaults(action=simplify)


def simplify(args: argparse.Namespace) -> int:
    """Simplifies a program and prints every step."""
    from experiments.search import ablation
    from experiments.search import simplify as simplification

    check_counts(args, least=1, part=1)
    if not args.tolerance >= 0:
        raise UserError(f"--tolerance {args.tolerance}: at least 0")
    program = commands.program_of(args.file)
    measure = None
    if not args.exact:
        measure = simplification.proxy_measure(program, args.family, args.rounds, args.steps)
    keep = [one for one in ablation.KEPT if one not in args.drop]
    way = simplification.simplify(program, measure, args.tolerance, keep)
    for stage, said, _ in way.steps:
        print(f"{stage}: {said}")
    print(f"\n{way.program.text()}\n{in_words(way.verdict)}")
    if args.out is not None:
        how = "exactly" if args.exact else f"{args.family}, {args.rounds} rounds"
        notes = [f"{stage}: {said}" for stage, said, _ in way.steps[1:]]
        write(args.out, noted(way.program, args.file, f"simplified ({how})", notes))
    return 0


def noted(program: Any, source: str, done: str, notes: Sequence[str] = ()) -> str:
    """A program's text with comments that tell where it comes from and what was done to it.

    Args:
        program: What is left.
        source: Its file, of which the folder's name is told, too: that of a search, say.
        done: What was done.
        notes: Further lines.
    """
    path = Path(source)
    name = f"{path.parent.name}/{path.name}" if path.parent.name else path.name
    return "".join(f"# {line}\n" for line in (f"{name}, {done}", *notes)) + program.text()


def add_export(commands: Commands) -> None:
    """export: a program's text as a file that optimizer=program takes."""
    command = commands.add_parser("export", help="how to train with a program")
    command.add_argument("file", help="a program's text, a name of the library, a search")
    command.add_argument("--out", type=Path, help="write the program without what does not matter")
    command.set_defaults(action=export)


def export(args: argparse.Namespace) -> int:
    """Writes the live part of a program, and prints the command that trains with it."""
    from experiments.search import death, liveness

    if args.out is None and commands.search_of(args.file):
        raise UserError(f"{args.file} is a search: name a file for its program, --out found.txt")
    whole = commands.program_of(args.file)
    program = liveness.prune(whole)
    path = args.out or args.file
    if args.out is not None:
        left_out = f"without {len(whole) - len(program)} statements that change no update"
        write(args.out, noted(program, args.file, left_out))
    print(program.text())
    if not death.scales_with_lr(program):
        print("note: its step is not proportional to lr: a schedule changes more than its size")
    print(f"{script('run')} experiment=vit_proxy optimizer=program optimizer.path={path}")
    return 0


COMMANDS: list[Callable[[Commands], None]] = [
    partial(commands.add_to, lion="lion"),
    *(add_figures, add_picks, add_prove, add_check, add_simplify, add_export),
]
"""One function per command; each adds its parser, whose `action` gets the arguments."""

if __name__ == "__main__":
    sys.exit(main())
