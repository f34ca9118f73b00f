"""`python run.py -m ...`: from a command line to a sweep's folder and its workers.

    python run.py -m experiment=vit_proxy optimizer=adamw,lion sweep=lr_wd launcher=local seed=0,1

`sweep=` and `launcher=` choose pages of `conf/sweep` and `conf/launcher`; `sweep.KEY=` and
`launcher.KEY=` change them. Keys with several values are axes; what the command line says of a
key replaces what the page says. Without `sweep=` the cells are exactly the combinations given.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import inherited, limits, start_from
from experiments.build import build, check_target
from experiments.config import ConfigError, from_dict
from experiments.data import locate
from experiments.files import say
from experiments.identity import OPERATIONAL_DATA_KEYS
from experiments.pages import CONF, groups_of, load_page, proxy_of, script
from experiments.ranges import check_all
from experiments.sweep import codes, elsewhere, writing
from experiments.sweep.manifest import Cell, Sweep
from experiments.sweep.planning import plan, sweep_page
from experiments.sweep.request import Request
from experiments.sweep.request import parse as parse
from experiments.sweep.space import SweepPage, short

OPERATIONAL = ("results_dir", "launch.", "tracking.", "checkpoint.", "eval.batch_size")
"""Keys that do not change which run a cell is."""
TRAINS_HERE = "experiments.sweep.local.launch"
"""The launcher whose workers are processes of this machine."""
NOT_A_SWEEP = -1


def name_of(request: Request, page: SweepPage) -> str:
    """The folder's name: the experiment, the page, and a hash of what else was set."""
    if page.name:
        return page.name
    experiment = "+".join(request.choices.get("experiment", ["vit_proxy"])).replace("/", ".")
    axes = [short(key) for key in request.swept if key != "seed"] or ["seeds"]
    settings = fixed_settings(request)
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:6]
    parts = [experiment, request.page or "-".join(axes), digest if settings else ""]
    return "-".join(filter(None, parts))


def fixed_settings(request: Request) -> list[str]:
    """What holds for every cell and changes which runs they are."""
    return sorted(
        text
        for key, text in request.fixed.items()
        if key != "seed"
        and not key.startswith(OPERATIONAL)
        and key not in [f"data.{name}" for name in OPERATIONAL_DATA_KEYS]
    )


def sweeps_beside(runs_dir: Path) -> Path:
    """Folder of the sweeps whose runs lie in `runs_dir`: `results/sweeps` of `results/runs`."""
    own = "sweeps" if runs_dir.name == "runs" else f"{runs_dir.name}-sweeps"
    return runs_dir.parent / own


def prepare(
    overrides: Sequence[str], folders: Sequence[Path], config_dir: str | None
) -> tuple[Sweep, Request]:
    """Writes the manifest that a command line asks for, or adds to it."""
    request = parse(overrides, groups_of(folders))
    section = launcher_section(request.launcher, request.launcher_changes, folders)
    page = sweep_page(request, folders)
    cells, conditions = plan(request, page, config_dir, elsewhere.has_gpus(section))
    is_here = section["_target_"] == TRAINS_HERE
    check_data(cells, is_here)
    then = stage_two(page, request, config_dir, cells[0].config["data"], is_here)
    runs_dir = Path(cells[0].config["results_dir"])
    sweep = writing.write(
        sweeps_beside(runs_dir) / name_of(request, page),
        cells,
        fixed=fixed_settings(request),
        conditions=conditions,
        equal_budget=page.equal_budget,
        max_tries=page.max_tries,
        lease_seconds=page.lease_seconds,
        about=page.about,
        then=then,
    )
    return sweep, request


def stage_two(
    page: SweepPage,
    request: Request,
    config_dir: str | None,
    data: Mapping[str, Any] | None = None,
    is_here: bool = False,
) -> dict[str, Any] | None:
    """The page's `then`, checked, with what the command says of where and how to run.

    Where the data lie is said of stage one; it holds for stage two where that reads the same.

    Args:
        page: Of the sweep.
        request: The command.
        config_dir: With more pages.
        data: Section of stage one.
        is_here: Whether this machine trains, so that it must have the data.

    Raises:
        ConfigError: for a stage that cannot be.
        UserError: for data that are missing: now, and not when stage one is over.
    """
    from experiments.sweep import stages

    if not page.then:
        return None
    fixed = [text for key, text in request.fixed.items() if key.startswith(OPERATIONAL)]
    stage = stages.read({**page.then, "fixed": fixed, "config_dir": config_dir})
    planned = stages.example(stage)
    if data and all(data.get(key) == planned.data.get(key) for key in ("_target_", "name")):
        places = {f"data.{name}" for name in OPERATIONAL_DATA_KEYS} - set(stage.set)
        stage.fixed += [text for key, text in request.fixed.items() if key in places]
        planned = stages.example(stage)
    try:
        locate.check_section(planned.data, proxy=proxy_of(planned.experiment))
    except locate.DataMissing as error:
        if is_here:
            said = f"stage two: {error}; of stage two it is 'sweep.then.set={{data.root: ...}}'"
            raise locate.DataMissing(said) from error
    return vars(stage)


def check_data(cells: Sequence[Cell], is_here: bool) -> None:
    """Checks each data section and each source of weights once, before anything is written.

    Args:
        cells: Of the sweep.
        is_here: Whether this machine trains them, so that it must have the data.

    Raises:
        UserError: for data that is missing or settings that its source refuses.
    """
    sections = {json.dumps(c.config["data"], sort_keys=True): c.config for c in cells}
    for config in sections.values():
        try:
            locate.check_section(config["data"], proxy=proxy_of(config["experiment"]))
        except locate.DataMissing:
            if is_here:
                raise
    begun = {json.dumps(c.config["start_from"], sort_keys=True): c.config for c in cells}
    for config in begun.values():  # run ids come from their content, so they must be here
        start_from.check(from_dict(config))


def launcher_section(
    launcher: str, changes: Sequence[str], folders: Sequence[Path]
) -> dict[str, Any]:
    """The checked page of `conf/launcher`.

    Raises:
        ConfigError: for an unknown page or key, or a value outside of its range.
    """
    from omegaconf import OmegaConf

    section = OmegaConf.to_container(load_page("launcher", launcher, changes, folders))
    assert isinstance(section, dict)
    plain = {str(key): value for key, value in section.items()}
    check_target(plain, "launcher")
    check_all(plain, limits.LAUNCHER, "launcher")
    return plain


def launch(path: Path, launcher: str, changes: Sequence[str], folders: Sequence[Path]) -> int:
    """Starts the workers of a page of `conf/launcher`.

    Returns:
        The exit code.

    Raises:
        ConfigError: in one of several processes.
    """
    inherited.refuse_several("a sweep")
    return build(launcher_section(launcher, changes, folders), "launcher", path)


def main(arguments: Sequence[str]) -> int:
    """Runs `python run.py -m`.

    Args:
        arguments: The command line.

    Returns:
        The exit code, 0 if every cell is done; `NOT_A_SWEEP` where Hydra is to do it: other jobs
        than training, and other flags.

    Raises:
        ConfigError: for `sweep=` or `launcher=` where there is no sweep.
    """
    from experiments.sweep import report

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("overrides", nargs="*")
    args, others = parser.parse_known_intermixed_args(arguments)
    others += [text for text in args.overrides if re.match(r"[+~]*(hydra[/.]|job=)", text)]
    ours = [text for text in args.overrides if re.match(r"(sweep|launcher)[.=]", text)]
    if ours and not args.multirun:
        raise ConfigError(f"{ours[0]} needs -m: {script('run')} -m {' '.join(args.overrides)}")
    if ours and others:
        instead = " (leave it out: the numbers of one run are shown)" if "--cfg" in others else ""
        raise ConfigError(f"{ours[0]} does not go with {others[0]}{instead}")
    if others or not args.multirun:
        return NOT_A_SWEEP
    folders = [CONF, *([Path(args.config_dir)] if args.config_dir else [])]
    sweep, request = prepare(args.overrides, folders, args.config_dir)
    if said := codes.changed(sweep):
        say(f"{said}\n", sys.stdout)
    code = launch(sweep.path, request.launcher, request.launcher_changes, folders)
    report.show(sweep)
    if code or not sweep.manifest.get("then"):
        return code
    return launch_then(sweep, request.launcher, request.launcher_changes, folders)


def launch_then(
    sweep: Sweep, launcher: str, changes: Sequence[str], folders: Sequence[Path]
) -> int:
    """Plans and trains stage two of a sweep (`experiments.sweep.stages`), if stage one is over.

    Returns:
        The exit code; 0 where stage two has to wait, which is said.
    """
    from experiments.sweep import report, stages

    if waiting := stages.what_is_left(sweep):
        say(f"{waiting}\n", sys.stdout)
        return 0
    after = stages.second(sweep)
    check_data(
        after.cells, is_here=launcher_section(launcher, changes, folders)["_target_"] == TRAINS_HERE
    )
    code = launch(after.path, launcher, changes, folders)
    report.show(after)
    return code
