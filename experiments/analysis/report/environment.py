"""The about page: versions, machine, and the commits of the report and of the runs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from experiments import processor
from experiments.analysis.report.page import command, esc, table
from experiments.analysis.report.studies import KINDS, Study
from experiments.pages import script

PACKAGES = ("torch", "torchvision", "timm", "hydra-core", "numpy", "pandas", "scipy", "plotly")
COMMIT_COLUMNS = ("commit", "versions", "device", "scale")


def body(studies: Sequence[Study], ledger: pd.DataFrame | None, root: Path, made: str) -> str:
    """The page's content.

    Args:
        studies: Whose tables the report shows.
        ledger: The table of `read_runs` of a runs folder, if one was given.
        root: Of this repository.
        made: The time, as text.
    """
    here = [("made", made), ("commit", commit(root)), *_machine()]
    here += [(name, v) for name in PACKAGES if (v := _version(name))]
    made_with = "".join(f"<dt>{esc(name)}</dt><dd>{esc(value)}</dd>" for name, value in here)
    return f"""<h1>About this report</h1>
<p class="lead">A folder of static files, made by <code>make report</code> from what lies in
<code>results/</code>. Nothing is loaded from the network.</p>
<h2>This report</h2>
<dl>{made_with}</dl>
{
        table(
            ("study", "kind", "runs", "commit of the runs", "table last changed in"),
            [_study(study, root) for study in studies],
            "Studies",
        )
    }
{_sessions(ledger)}
<h2>Make it again</h2>
{command("make report")}
{command(script("report") + " --runs results/runs")}
"""


def commit(root: Path) -> str:
    """Commit of the repository, with + where files outside of results/ differ from it."""
    found = _git(root, "describe", "--always", "--abbrev=12", "--exclude=*") or "unknown"
    outside = ("--", ".", ":(exclude)results")
    return f"{found}+" if _git(root, "status", "--porcelain", "-uno", *outside) else found


def _study(study: Study, root: Path) -> tuple[object, ...]:
    commits = sorted({str(c) for c in study.runs.commit.dropna()})
    changed = ""
    if study.kind != "runs":
        changed = _git(root, "log", "-1", "--format=%h, %cs", "--", study.source)
    recorded = ", ".join(commits) or "not recorded in the table"
    return study.name, KINDS[study.kind], len(study.runs), recorded, changed


def _sessions(ledger: pd.DataFrame | None) -> str:
    """One line per commit, versions and device that runs of the folder were made with."""
    if ledger is None or ledger.empty:
        return ""
    counted = ledger.groupby([*COMMIT_COLUMNS], dropna=False).run_id.nunique().reset_index()
    rows = [
        (row.commit, _versions(row.versions), row.device, row.scale, row.run_id)
        for row in counted.itertuples()
    ]
    headings = ("commit", "versions", "device", "scale", "runs")
    return table(headings, rows, "Runs of the runs folder (+: files differed from the commit)")


def _versions(text: object) -> str:
    try:
        return ", ".join(f"{name} {v}" for name, v in json.loads(str(text)).items())
    except (ValueError, AttributeError):
        return str(text)


def _machine() -> list[tuple[str, str]]:
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        memory = f", {size:.0f} GiB"
    return [
        ("python", platform.python_version()),
        ("system", platform.platform()),
        ("machine", f"{processor.name()}, {os.cpu_count()} cores{memory}"),
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _git(root: Path, *words: str) -> str:
    """What git says; empty where it is missing, or this is no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
