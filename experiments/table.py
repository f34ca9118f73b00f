"""All runs as one table, and a compacted copy of it that loads in seconds.

The copy is one Parquet file, `.compacted.parquet`, beside the run folders. The folders stay the
truth: a run whose files have another size or time than when they were copied is read anew. Needs
pyarrow (in the extra `sweep`); without it every run is read from its folder.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions while it is imported)

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import header
from experiments.config import UserError
from experiments.files import replacing
from experiments.headline import KNOWN
from experiments.ledger import is_changed, lacks_end
from experiments.packages import get
from experiments.store import FINAL_STATES, SCHEMA, Folder, HeldError, read_rows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

COMPACTED = ".compacted.parquet"
_KEY = "_key"
"""Column of the copy: a run's folder and the sizes and times of its files."""
_WHOLE = ("num_params", "batch_size", "seed", "step", "session", "schema_version")
_REAL = ("lr", "weight_decay", "epoch", "value", "error", "n", "seconds", "threads")
_OF_A_SESSION = ("commit", "versions", "device", "cpu", "threads", "launcher")
_FILES = ("run.json", "metrics.jsonl", "status.json")
_UNREADABLE = (UserError, OSError, LookupError, TypeError, ValueError, AttributeError)
_UNREADABLE += (OverflowError,)
"""What a damaged run, or one of another version, makes its reader raise."""
_RUNS_AT_ONCE = 5000
"""How many runs are held as plain rows, which take far more memory than a table."""


def read_runs(
    root: Path | str = "results/runs",
    splits: Collection[str] | None = None,
    runs: Collection[str] | None = None,
) -> pd.DataFrame:
    """Every measurement of every run below `root` as one tidy table.

    A run that cannot be read (damaged, of another version) is left out with a warning. Where the
    folder has been compacted (see `compact`), only what has changed since is read anew.

    Args:
        root: The folder with the runs' folders.
        splits: Only these, e.g. `("val", "test")`: without training curves the table is small.
        runs: Only these run ids.

    Returns:
        One row per measurement, with the columns of `SCHEMA`; empty where there is no run.
    """
    import pandas as pd

    root = Path(root)
    keys = _keys(root, runs)
    copy, missing = _open(root / COMPACTED, keys, splits)
    parts = [] if copy is None else [_to_pandas(copy)]
    for names in _chunks(missing):
        rows = [row for name in names for row in _rows_of(root / name)]
        kept = [row for row in rows if splits is None or row["split"] in splits]
        if kept:
            parts.append(pd.DataFrame({column: _series(kept, column) for column in SCHEMA}))
    if not parts:
        return pd.DataFrame(columns=list(SCHEMA))
    if len(parts) == 1:
        return parts[0]
    table = pd.concat(parts, ignore_index=True)
    return table.sort_values("run_id", kind="stable", ignore_index=True) if missing else table


def compact(root: Path) -> int:
    """Writes or renews the copy; only runs that have changed are read.

    What one left behind that was killed is removed.

    Returns:
        How many runs were read.

    Raises:
        UserError: without pyarrow, where nothing can be written, or while another process does so.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(Folder(root, "the table of {} is being written").locked())
        except HeldError:
            raise
        except UserError:  # no locks there, as where results were copied to
            pass
        return _compact(root)


def _compact(root: Path) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(f"compacting needs pyarrow: {get('pyarrow')}") from error
    keys = _keys(root)
    copy, missing = _open(root / COMPACTED, keys, None, with_keys=True)
    if not missing and copy is not None and copy.num_rows == _num_rows(root / COMPACTED):
        return 0
    schema = _schema()
    parts = [] if copy is None else [copy.select(schema.names).cast(schema)]
    for names in _chunks(missing):
        rows = [{**row, _KEY: keys[name]} for name in names for row in _rows_of(root / name)]
        parts.append(pa.table({c: _column(rows, c) for c in schema.names}, schema=schema))
    table = pa.concat_tables(parts) if parts else schema.empty_table()
    if missing:
        table = table.sort_by(_KEY)
    with replacing(root / COMPACTED) as draft:
        parquet.write_table(table, draft, row_group_size=1 << 19, dictionary_pagesize_limit=1 << 26)
    return len(missing)


def _keys(root: Path, runs: Collection[str] | None = None) -> dict[str, str]:
    """By name of the run's folder: the name, and the size and time of each of its files."""
    found = {}
    try:
        names = [e.name for e in os.scandir(root) if e.is_dir()] if runs is None else runs
    except FileNotFoundError:
        return {}
    for name in sorted(names):
        stamps = [name]
        for file in _FILES:
            try:
                stat = os.stat(f"{root}/{name}/{file}")
            except OSError:
                stamps.append("-")
            else:
                stamps.append(f"{stat.st_size}@{stat.st_mtime_ns}")
        if stamps[1:] != ["-"] * len(_FILES):
            found[name] = "\t".join(stamps)
    return found


def _open(
    path: Path, keys: dict[str, str], splits: Collection[str] | None, with_keys: bool = False
) -> tuple[pa.Table | None, list[str]]:
    """The rows of the copy that are still true, and the names of the runs that are not in it."""
    if not path.exists():
        return None, list(keys)
    try:
        import pyarrow as pa
        import pyarrow.compute as compute
        import pyarrow.parquet as parquet
    except ImportError:
        return None, list(keys)
    texts = [name for name in (*SCHEMA, _KEY) if name not in (*_WHOLE, *_REAL)]
    try:
        chosen = None if splits is None else [("split", "in", pa.array(splits, pa.string()))]
        with path.open("rb") as file:  # opened once: it may be replaced between two looks
            stored = parquet.read_table(file, columns=[_KEY], read_dictionary=[_KEY])[_KEY]
            file.seek(0)
            table = parquet.read_table(file, read_dictionary=texts, filters=chosen)
        if lacking := {*SCHEMA, _KEY} - set(table.column_names):
            raise UserError(f"another version has made it, without {sorted(lacking)[0]}")
        known = set(stored.unique().to_pylist())
        fresh = known & set(keys.values())
        if fresh != known:
            value_set = pa.array(sorted(fresh), pa.string())
            table = table.filter(compute.is_in(table[_KEY].cast(pa.string()), value_set))
    except (UserError, OSError, pa.ArrowException, KeyError) as error:  # cut, or not ours
        warnings.warn(f"{path} cannot be used and should be deleted: {error}", stacklevel=2)
        return None, list(keys)
    wanted = table if with_keys else table.drop_columns([_KEY])
    return wanted, [name for name, key in keys.items() if key not in fresh]


def _num_rows(path: Path) -> int:
    import pyarrow.parquet as parquet

    return parquet.read_metadata(path).num_rows


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds: dict[str, Any] = {name: pa.int64() for name in _WHOLE}
    kinds |= {name: pa.float64() for name in _REAL}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in (*SCHEMA, _KEY)])


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    """With the types that `read` gives without a copy."""
    import pyarrow as pa

    schema = pa.schema([field for field in _schema() if field.name in table.column_names])
    return table.select(schema.names).cast(schema).to_pandas()


def _column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row.get(name) for row in rows]


def _series(rows: list[dict[str, Any]], name: str) -> pd.Series:
    """A column with the type that the copy would give it."""
    import pandas as pd

    values = _column(rows, name)
    if name in _WHOLE and None not in values:
        return pd.Series(values, dtype="int64")
    text = pd.Series(["text"]).dtype  # another one in pandas 2 than in pandas 3
    return pd.Series(values, dtype="float64" if name in (*_WHOLE, *_REAL) else text)


def _chunks(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _RUNS_AT_ONCE):
        yield names[start : start + _RUNS_AT_ONCE]


def _rows_of(path: Path) -> Iterable[dict[str, Any]]:
    """A run's rows; none, with a warning, where it cannot be read."""
    try:
        return _read_run(Folder(path))
    except _UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"{path} is left out of the table: {reason}", stacklevel=5)
        return []


def _read_run(folder: Folder) -> list[dict[str, Any]]:
    """The rows of a run, each with what holds for its session and for the whole run."""
    # A run that goes on writes these in the opposite order; so what one says, the next ones have.
    status = folder.read_status()
    rows = read_rows(folder.metrics)
    whole, sessions = header.read_header(folder)
    own = whole.get("run_id")
    if own != folder.path.name and Folder(folder.path.parent / str(own)).header.exists():
        raise UserError(f"it is a copy of the run {own} beside it")  # would count twice
    state = status.get("state", "unknown")
    if lacks_end(status, rows):
        warnings.warn(
            f"{folder.path} says that it is finished, but lacks its last evaluation: call its "
            "command again; until then it counts as interrupted",
            stacklevel=6,
        )
        state = "interrupted"
    elif (num_lost := status.get("num_rows", 0) - len(rows)) > 0:
        warnings.warn(f"{folder.path} has lost {num_lost} of its measurements", stacklevel=6)
    elif state in FINAL_STATES and is_changed(folder.metrics, status.get("ledger")):
        warnings.warn(f"{folder.metrics} has been changed since the run ended", stacklevel=6)
    table = []
    for row in rows:
        number = row.get("session")
        # A session may be lost with a damaged run.json.
        is_known = isinstance(number, int) and 0 <= number < len(sessions)
        of_session = sessions[number] if is_known else {}  # pyright: ignore
        session = {key: of_session.get(key) for key in _OF_A_SESSION}
        better = row.get("better", KNOWN.get(row["metric"]))
        table.append(_typed({**row, **session, **whole, "better": better, "state": state}))
    return table


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    """With the types that the copy has; a text of a damaged run may be something else, as JSON."""
    for name in SCHEMA:
        value = row.get(name)
        if value is None:
            continue
        if name in _WHOLE:
            row[name] = int(value)
            if not -(2**63) <= row[name] < 2**63:
                raise ValueError(f"{name} is {value}")
        elif name in _REAL:
            row[name] = float(value)
        elif not isinstance(value, str):
            row[name] = json.dumps(value)
    return row
