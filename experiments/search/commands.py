"""What `scripts/search.py` does with searches: shows, replays, passes on, collects.

Heavy imports are lazy: the script's other commands start quickly.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import UserError
from experiments.pages import script
from experiments.search import measuring
from experiments.search.measuring import study_folder as study_folder
from experiments.store import read_json

if TYPE_CHECKING:
    from experiments.search.folder import SearchFolder
    from experiments.search.history import History
    from experiments.search.language import Program

SEARCHES = Path("results/searches")
SAID = {
    "trained": "trainings",
    "rechecks": "of them incumbents judged again",
    "cache factor": "programs per training",
    "own step size %": "new, alive and with a step size of their own %",
}
"""Names of totals where they need more words."""


def add_to(commands: Any, lion: str) -> None:
    """Adds the commands about searches to a command line.

    Args:
        commands: Sub-parsers.
        lion: Name of Lion's program in the library.
    """
    root = argparse.ArgumentParser(add_help=False)
    root.add_argument("--searches", type=Path, default=SEARCHES, help="folder of the searches")
    status = commands.add_parser("status", parents=[root], help="every search, or one more closely")
    status.add_argument("name", nargs="?")
    status.set_defaults(action=show_status)
    table = commands.add_parser("table", parents=[root], help="the log as a table (CSV)")
    table.add_argument("name")
    table.add_argument("--out", type=Path, help="file (default: print it)")
    table.set_defaults(action=show_table)
    lineage = commands.add_parser("lineage", parents=[root], help="how a program came about")
    lineage.add_argument("name")
    lineage.add_argument("number", type=int, nargs="?", help="candidate (default: the best)")
    lineage.set_defaults(action=show_lineage)
    replay = commands.add_parser("replay", parents=[root], help="make a search again from its log")
    replay.add_argument("name")
    replay.add_argument("--again", action="store_true", help="every mutation, too")
    replay.set_defaults(action=show_replay)
    measuring.add_to(commands, root, lion)
    sightings = commands.add_parser(
        "sightings", parents=[root], help="which programs of a search are sign momentum?"
    )
    sightings.add_argument("name", help="of the search")
    sightings.add_argument("--out", type=Path, help="write them as CSV, too")
    sightings.set_defaults(action=show_sightings)
    collect = commands.add_parser("collect", parents=[root], help="tables of a study, and figures")
    collect.add_argument("names", nargs="+", help="searches; those of one name become an arm")
    collect.add_argument("--study", required=True, help="name below results/studies, or a folder")
    collect.add_argument(
        "--add", action="store_true", help="beside the searches that the study has already"
    )
    collect.set_defaults(action=write_tables)


def _find(name: str, root: Path) -> SearchFolder:
    from experiments.search.folder import SearchFolder

    return SearchFolder.find(name, root)


def _history(folder: SearchFolder) -> History:
    from experiments.search.history import History

    return History.of(folder)


def show_status(args: argparse.Namespace) -> int:
    """A line for each search; of one search, its finals and its best program too."""
    if args.name is None:
        folders = sorted(path.parent for path in args.searches.glob("*/search.json"))
        damaged = 0
        for path in folders:
            try:
                print(_line(path))
            except UserError as error:
                damaged += 1
                print(f"{path.name}: {error}")
        if not folders:
            print(f"no search yet; start one: {script('run')} job=search")
        return 1 if damaged else 0
    folder = _find(args.name, args.searches)
    print(_line(folder.path))
    history = _history(folder)
    from experiments.search.history import totals
    from experiments.search.session import describe_final

    table = history.table()
    told = read_json(folder.status).get("told", 0)
    if len(table) < told:
        print(f"  its log has {len(table)} of the {told} programs: what is missing is made again")
        print("  by the command that began it")
    for name, value in totals(table).items():
        said = SAID.get(name, name)
        print(f"  {said}: {value:.1f}" if isinstance(value, float) else f"  {said}: {value}")
    for row in folder.final_rows():
        print(f"  {describe_final(row)}")
    number = best_number(folder, history)
    print(f"\nbest, candidate {number}:\n{history.programs[number].text()}")
    return 0


def _line(path: Path) -> str:
    from experiments.search import events
    from experiments.search.folder import SearchFolder

    folder = SearchFolder(path)
    status = read_json(folder.status)
    if status.get("state") == "running" and not folder.lock.is_held():
        status = read_json(folder.status)  # it may have ended between the two
        if status.get("state") == "running":
            status["state"] = "stopped; the same command goes on"
    state = status.get("state", "not started")
    wanted = folder.settings.num_candidates
    told, trained = status.get("told", 0), status.get("evaluated", 0)
    if state != "finished":  # status.json is written as a session begins and ends
        told, trained = events.count(folder.events)
    counts = f"{told} of {wanted} programs, {trained} trainings"
    return f"{folder.path.name}: {state}, {counts}"


def best_number(folder: SearchFolder, history: History) -> int:
    """The candidate with the best final numbers; without any, with the best mean so far."""
    from experiments.search import collect, events
    from experiments.search.replay import restore

    if final := collect.best_final(folder):
        return final["number"]
    rules, state = folder.rules(), folder.empty_state()
    restore(rules, state, events.read_log(folder.events), folder.initial)
    best = state.strategy.best(1)
    return best[0].number if best else 0


def search_of(name: str) -> Path | None:
    """The folder of a search that is called by its whole name or by its folder."""
    found = [path for path in (Path(name), SEARCHES / name) if (path / "search.json").is_file()]
    return found[0] if found else None


def program_of(name: str) -> Program:
    """A program: of a file, of the library, or the best one of a search.

    Raises:
        UserError: there is none of them.
    """
    from experiments.search import library

    if (path := search_of(name)) is None:
        return library.read_file(name)
    folder = _find(str(path), SEARCHES)
    history = _history(folder)
    return history.programs[best_number(folder, history)]


def show_table(args: argparse.Namespace) -> int:
    """The log with its programs' sizes and changes, one line per candidate."""
    table = _history(_find(args.name, args.searches)).table()
    text = table.to_csv(index=False)
    if args.out is None:
        print(text, end="")
    else:
        measuring.write(args.out, text)
    return 0


def show_lineage(args: argparse.Namespace) -> int:
    """Each step from the initial program, with its change and fitness."""
    folder = _find(args.name, args.searches)
    history = _history(folder)
    number = best_number(folder, history) if args.number is None else args.number
    steps = history.lineage(number)
    for step in steps:
        worth = "dead or failed" if step.fitness is None else f"{step.fitness:+.4f}"
        print(f"{step.number:>8}  {worth:>14}  {step.change}")
    print(f"\n{steps[-1].program.text()}")
    return 0


def show_replay(args: argparse.Namespace) -> int:
    """The population's hash from the log, and whether it is the one that was noted."""
    from experiments.search import events
    from experiments.search.replay import restore

    folder = _find(args.name, args.searches)
    rules, state = folder.rules(), folder.empty_state()
    began = time.perf_counter()
    count = restore(rules, state, events.read_log(folder.events), folder.initial, args.again)
    seconds = time.perf_counter() - began
    digest = state.strategy.digest()
    noted = read_json(folder.status).get("population")
    said = "" if noted is None else ", as noted" if noted == digest else f", but noted was {noted}"
    print(f"{folder.path.name}: {count} candidates in {seconds:.1f} s; population {digest}{said}")
    return 0 if noted in (None, digest) else 1


def write_tables(args: argparse.Namespace) -> int:
    """Writes the tables that figures are drawn from."""
    from experiments.search import collect

    folders = [_find(name, args.searches) for name in args.names]
    for path in collect.write(folders, study_folder(args.study), args.add):
        print(path)
    return 0


def show_sightings(args: argparse.Namespace) -> int:
    """Prints every structure of the family that a search met, where it met it first."""
    import csv
    import io

    from experiments.search import sightings as sighting

    history = _history(_find(args.name, args.searches))
    numbers = [event["number"] for event in history.events]
    found = list(sighting.find((n, history.programs[n]) for n in numbers))
    columns: tuple[str, ...] = (
        "number",
        "beta1",
        "beta2",
        "weight_decay",
        "lr_scale",
        "left_out",
        "fitness",
    )
    rows = [
        {
            **{name: str(getattr(one.lion, name)) for name in columns[1:5]},
            "number": one.number,
            "left_out": " ".join(one.verdict.left_out),
            "fitness": history.by_number[one.number].get("fitness"),
        }
        for one in found
    ]
    for row in rows:
        print(", ".join(f"{name} {row[name]}" for name in columns if row[name] not in ("", None)))
    exact = sum(one.verdict.family is not None for one in found)
    print(f"{len(numbers)} programs: {exact} of sign momentum, {len(found) - exact} more without")
    print("clip, arcsin and the like; each structure counts once")
    if args.out is not None:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list[str](columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        measuring.write(args.out, buffer.getvalue())
    return 0
