"""Writes the report: reads every table, writes every page and data file into a new folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from experiments.analysis import discovered, samples
from experiments.analysis.report import (
    claims,
    claims_page,
    environment,
    explorer,
    figures,
    held_out,
    page,
    paper_figures,
    search_page,
    study_figures,
)
from experiments.analysis.report.commands import STUDY_SWEEPS
from experiments.analysis.report.studies import (
    Study,
    read_cells,
    read_ledger,
    read_studies,
    studies_of_ledger,
)
from experiments.analysis.searches import of_results
from experiments.analysis.sources import noise
from experiments.files import make_folder
from experiments.packages import get
from experiments.store import UserError, now

MARK = ".made-by-report"
"""A file that tells a folder of ours, which may be replaced, from anybody else's."""


@dataclass(frozen=True)
class Sources:
    """Where the report reads from."""

    root: Path  # of the repository
    results: Path
    runs: Path | None = None  # a folder of run folders
    sweeps: Path | None = None  # a folder of sweep folders with manifests


def write(out: Path, sources: Sources) -> Path:
    """Writes the report and puts it in place of the last one.

    Returns:
        The first page.

    Raises:
        UserError: if plotly is missing, a table is damaged, or `out` is somebody else's folder.
    """
    if out.exists() and not (out / MARK).exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not a report: choose another folder, or empty this one")
    library = _plotly_library()
    make_folder(out.parent, "choose another with --out FOLDER")
    draft = out.with_name(f".{out.name}-{os.getpid()}-{os.urandom(4).hex()}")
    make_folder(draft, "choose another with --out FOLDER")
    try:
        (draft / MARK).write_text("")
        _copy_assets(draft, library)
        _write_pages(draft, sources)
        _put(draft, out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return out / "index.html"


def _put(draft: Path, out: Path) -> None:
    """Puts a report in place of the last one, though another call may do so at the same time."""
    last = draft.with_name(f"{draft.name}-last")
    while draft.exists():
        with contextlib.suppress(FileNotFoundError):
            out.rename(last)
        try:
            draft.rename(out)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        shutil.rmtree(last, ignore_errors=True)


def _plotly_library() -> Path:
    found = find_spec("plotly")
    locations = found.submodule_search_locations if found else None
    path = Path(locations[0]) / "package_data/plotly.min.js" if locations else None
    if path is None or not path.exists():
        raise UserError(f"the report needs plotly: {get('plotly')}")
    return path


def _copy_assets(out: Path, library: Path) -> None:
    assets = out / "assets"
    assets.mkdir()
    for file in resources.files("experiments.analysis.report").joinpath("static").iterdir():
        (assets / file.name).write_bytes(file.read_bytes())
    shutil.copyfile(library, assets / "plotly.min.js")


def _write_pages(out: Path, sources: Sources) -> None:
    ledger = read_ledger(sources.runs) if sources.runs else None
    studies = sorted(read_studies(sources.results), key=_order)
    cells = read_cells(sources.sweeps) if sources.sweeps else {}
    if sources.runs and ledger is not None:
        studies += studies_of_ledger(ledger, sources.runs, cells)
    made = now()
    footer = f"Made {made} from commit {environment.commit(sources.root)}."
    table, is_judged = claims.read_claims(sources.results)
    drawn_figures = paper_figures.all_figures(sources.results / "paper")
    drawn_figures = [*drawn_figures, study_figures.proxies(studies)]
    study_figures.add_studies(drawn_figures, studies, noise(sources.results))
    held_out.add(drawn_figures, sources.results)
    pictures = figures.copy_drawn(sources.results, out)
    figures.copy_tables(drawn_figures, sources.results, out)
    shown = samples.published(sources.results)
    shown += samples.chosen(ledger, sources.runs) if sources.runs and ledger is not None else []
    of_samples = figures.samples_section(shown, figures.copy_samples(shown, out))
    has_figures = any((sources.results / "figures").glob("*"))
    slugs = _slugs(studies)
    for study, slug in zip(studies, slugs, strict=True):
        explorer.write_data(study, out / "data", slug)
    bodies = {
        "index.html": (claims_page.body(table, is_judged), ["page.js", "claims.js"]),
        "figures.html": (
            figures.body(drawn_figures, pictures, has_figures, of_samples),
            ["page.js", "plots.js", "figures.js", "plotly.min.js"],
        ),
        "sweeps.html": (
            explorer.body(studies, slugs),
            ["page.js", "plots.js", "runs.js", "sweeps.js"],
        ),
        "search.html": (
            search_page.body(
                of_results(sources.results), pictures, discovered.table(sources.results)
            ),
            ["page.js"],
        ),
        "about.html": (environment.body(studies, ledger, sources.root, made), ["page.js"]),
    }
    for file, (body, scripts) in bodies.items():
        title = page.PAGES[file]
        text = page.render(file, title, body, footer=footer, scripts=scripts)
        (out / file).write_text(text, encoding="utf-8")


def _order(study: Study) -> tuple[bool, int, str]:
    """Studies before published comparisons; the known studies in the order of their commands."""
    known = [*STUDY_SWEEPS]
    place = known.index(study.name) if study.name in known else len(known)
    return study.kind != "study", place, study.name


def _slugs(studies: list[Study]) -> list[str]:
    """A folder's name for each study's data; no two are the same."""
    seen: Counter[str] = Counter()
    slugs = []
    for study, name in zip(studies, explorer.names_of(studies), strict=True):
        slug = explorer.slug_of(f"{study.kind}-{name}")
        seen[slug] += 1
        slugs.append(slug if seen[slug] == 1 else f"{slug}-{seen[slug]}")
    return slugs
