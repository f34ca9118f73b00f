"""What a sweep consists of: `results/sweeps/<name>/manifest.json`, and the state of its cells.

It is made by `writing`. Whether a cell is done is told by its run's own `status.json`, never by the
sweep.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import trust
from experiments.config import ConfigError, RunConfig, UserError, from_dict, to_dict
from experiments.files import stamp
from experiments.identity import run_id
from experiments.pages import script
from experiments.precision import resolved
from experiments.store import (
    FINAL_STATES,
    Folder,
    damaged_sweep,
    read_sweep,
)
from experiments.sweep.leases import MAX_KILLS, Lease, Leases, Tries
from experiments.sweep.space import short

INIT_OPTIMIZER = "init_optimizer"
"""A label among a cell's settings: the optimizer of the run that the cell starts from."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    run_id: str
    optimizer: str
    seed: int
    settings: dict[str, Any]  # dotted key: value, what the sweep has set
    config: dict[str, Any]  # the whole configuration

    @classmethod
    def of(cls, config: RunConfig, settings: Mapping[str, Any]) -> Cell:
        """A cell from its configuration."""
        plain = json.loads(json.dumps(to_dict(config)))
        plain["train"]["precision"] = resolved(config)  # so that every worker trains this very run
        kept = {k: v for k, v in settings.items() if k != "seed"}
        return cls(run_id(config), config.optimizer_name, config.seed, kept, plain)

    @property
    def trial(self) -> str:
        """What the cell tries, whatever its seed."""
        experiment = self.config["experiment"]
        return json.dumps([experiment, self.optimizer, self.settings], sort_keys=True)

    @property
    def overrides(self) -> dict[str, Any]:
        """The settings as a command line has them: in place of a label, what it stands for."""
        if INIT_OPTIMIZER not in self.settings:
            return self.settings
        plain = {key: value for key, value in self.settings.items() if key != INIT_OPTIMIZER}
        begun = {k: v for k, v in self.config["start_from"].items() if v not in (None, "", [])}
        return {**plain, **{f"start_from.{key}": value for key, value in begun.items()}}

    @property
    def title(self) -> str:
        """For people: optimizer, settings, seed."""
        said = [f"{short(key)} {_brief(value)}" for key, value in self.settings.items()]
        return " ".join([self.optimizer, *said, f"seed {self.seed}"])


class Sweep:
    """A sweep's folder, for reading.

    Raises:
        UserError: if there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, ...] = ()  # of the manifest that was read last
        self._final: dict[str, str] = {}
        self._known: set[str] = set()  # cells whose configuration was looked at
        self.refresh()
        self._check_place()
        self.leases = Leases(path / "leases", float(self.manifest["lease_seconds"]))

    def _check_place(self) -> None:
        """Refuses a call from another folder: it would train all anew, beside the runs there are.

        Raises:
            UserError: names the folder to call it in.
        """
        runs = Path(self.manifest["runs_dir"])
        begun = next((c["folder"] for c in self.manifest.get("calls", []) if "folder" in c), None)
        if begun is None or not self.path.resolve().is_relative_to(begun):  # moved since
            return
        if runs.resolve() != (Path(begun) / runs).resolve():
            raise UserError(
                f"the runs of the sweep {self.path} lie in {runs} of {begun}: call this there (cd)"
            )

    def refresh(self) -> None:
        """Reads the manifest again if it has grown."""
        found = stamp(self.path / "manifest.json")  # before it is read: it may be replaced then
        if found and found == self._stamp:
            return
        self.manifest = read_sweep(self.path)
        self.cells = cells_of(self.manifest, self.path)
        self._stamp = found

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def max_tries(self) -> int:
        """How often a cell may fail."""
        return self.manifest["max_tries"]

    def config(self, cell: Cell) -> RunConfig:
        """The configuration of a cell, quiet: the sweep speaks for it.

        Raises:
            ConfigError: if it would run code that is not trusted (see `experiments.trust`), or
                would be another run than the cell waits for.
        """
        config = from_dict(cell.config)
        if cell.run_id not in self._known:
            trust.check(config, f"the sweep {self.path}")
            if run_id(config) != cell.run_id:
                raise ConfigError(
                    f"the sweep {self.path} was planned by another version, or changed: its cell "
                    f"{cell.run_id} would be the run {run_id(config)}; move the folder away and "
                    "call the sweep's own command again (what is finished is not trained again)"
                )
            self._known.add(cell.run_id)
        config.launch.progress = False
        return config

    def folder(self, cell: Cell) -> Folder:
        """The run's folder."""
        return Folder(Path(self.manifest["runs_dir"]) / cell.run_id)

    def final_state(self, cell: Cell) -> str | None:
        """finished or diverged; None while there is something left to train."""
        if cell.run_id not in self._final:
            state = self.folder(cell).read_status().get("state")
            if state not in FINAL_STATES:
                return None
            self._final[cell.run_id] = state
        return self._final[cell.run_id]

    def state(self, cell: Cell, leases: list[Lease]) -> str:
        """finished, diverged, running, failed (for good), retry, interrupted or waiting."""
        if final := self.final_state(cell):
            return final
        if not leases:
            return "waiting"
        if self.leases.is_live(leases[-1]):
            return "running"
        if final := self.final_state(cell):  # it has ended since the first look
            return final
        tries = Tries.count(leases, self.checkpoint_step(cell))
        if tries.failures >= self.max_tries or tries.kills >= MAX_KILLS:
            return "failed"
        return "retry" if tries.failures or tries.kills else "interrupted"

    @property
    def cure(self) -> str:
        """The command that gives failed cells new tries."""
        is_usual = self.path.parent == Path("results/sweeps")
        name = self.name if is_usual else shlex.quote(str(self.path))
        return f"{script('sweep')} resume {name} --retry-failed"

    def states(self) -> dict[str, str]:
        """The state of every cell, by run id."""
        leases = self.leases.scan()
        try:
            begun = set(os.listdir(self.manifest["runs_dir"]))
        except OSError:
            begun = set()
        return {
            cell.run_id: self.state(cell, leases.get(cell.run_id, []))
            if cell.run_id in begun or cell.run_id in leases
            else "waiting"
            for cell in self.cells
        }

    def open_cells(self) -> list[Cell]:
        """The cells in order, without those that were seen to be finished or diverged."""
        return [cell for cell in self.cells if cell.run_id not in self._final]

    def checkpoint_step(self, cell: Cell) -> int:
        """Step of the newest checkpoint, by its file's name; 0 without one."""
        found = self.folder(cell).checkpoints.glob("step_*-*")
        names = (f.name for f in found if f.suffix in (".pt", ".shards"))  # none set aside
        steps = (name[len("step_") :].partition("-")[0] for name in names)
        return max((int(step) for step in steps if step.isdecimal()), default=0)


def cells_of(manifest: dict[str, Any], path: Path) -> list[Cell]:
    """The cells of a manifest.

    Raises:
        UserError: where it is damaged.
    """
    try:
        cells = [Cell(**cell) for cell in manifest["cells"]]
        needed = ("lease_seconds", "max_tries", "runs_dir", "budget", "seeds", "fixed")
        missing = [key for key in needed if key not in manifest]
        missing += [str(cell.run_id) for cell in cells if not _is_plain_name(cell.run_id)]
    except (KeyError, TypeError) as error:
        cells, missing = [], [str(error)]
    if missing:
        raise damaged_sweep(path / "manifest.json")
    return cells


def _is_plain_name(name: Any) -> bool:
    """Whether it names a folder or file right in another folder, and nothing elsewhere."""
    return isinstance(name, str) and name == os.path.basename(name) and name not in ("", ".", "..")


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "/".join(_brief(v) for v in value)
    return str(value)
