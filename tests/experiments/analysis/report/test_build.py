"""The built folder: complete by itself, replaced as a whole, and clear about bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import synthetic

from experiments.analysis.report import build, page
from experiments.store import UserError

ROOT = Path(__file__).resolve().parents[4]


class Links(HTMLParser):
    """Collects what a page points to, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.targets += [v for k in ("href", "src") if (v := found.get(k))]
        self.anchors |= {v for k, v in attrs if k == "id" and v}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    synthetic.write_results(tmp_path / "results")
    return tmp_path / "results"


def test_every_link_leads_to_a_file_of_the_report(report: Path) -> None:
    pages = {p.name: Links(p.read_text()) for p in report.glob("*.html")}
    assert set(pages) == set(page.PAGES)
    local = [
        (name, target)
        for name, links in pages.items()
        for target in links.targets
        if not target.startswith(("https://arxiv.org/", "data:"))
    ]
    assert len(local) > 60
    for name, target in local:
        file, _, anchor = target.partition("#")
        assert (report / (file or name)).is_file(), f"{name} points to {target}"
        if anchor:
            assert anchor in pages[file or name].anchors, f"{name} points to {target}"


def test_no_page_names_a_server(report: Path) -> None:
    for path in [*report.glob("*.html"), *report.glob("assets/*.css"), *report.glob("data/*/*.js")]:
        assert "http://" not in path.read_text()
        assert path.read_text().count("https://") == (path.name == "index.html")


def test_markup_in_tables_is_escaped(report: Path) -> None:
    for path in [*report.glob("*.html"), *report.glob("data/*/*.js")]:
        text = path.read_text()
        assert "<img src=x" not in text and "<script>window" not in text


def test_missing_pieces_name_their_command(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (results / "paper").mkdir(parents=True)
    (results / "paper/claims.csv").write_bytes((synthetic.PAPER / "claims.csv").read_bytes())
    out = build.write(tmp_path / "out", build.Sources(ROOT, results)).parent
    assert "python scripts/claims.py" in (out / "index.html").read_text()
    assert "search=laptop" in (out / "search.html").read_text()
    figures, sweeps = (out / "figures.html").read_text(), (out / "sweeps.html").read_text()
    assert "make figures" in figures and "scripts/demo.py --publish" in figures
    for study in ("heatmap", "betas", "optimizers", "batch_size"):
        assert f"--study {study}" in sweeps


def test_the_next_report_replaces_the_last(results: Path, tmp_path: Path) -> None:
    sources = build.Sources(ROOT, results)
    build.write(tmp_path / "out", sources)
    (tmp_path / "out/old.html").write_text("")
    build.write(tmp_path / "out", sources)
    assert not (tmp_path / "out/old.html").exists()
    assert not list(tmp_path.glob(".out-*"))


def test_two_that_are_made_at_once_both_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one puts its own between our two steps."""
    rename, out = Path.rename, tmp_path / "out"

    def overtaken(path: Path, target: Path) -> Path:
        if path == out:
            monkeypatch.undo()
            moved = rename(path, target)
            made("other").rename(out)
            return moved
        return rename(path, target)

    def made(name: str) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(name)
        return tmp_path / name

    made("out")
    monkeypatch.setattr(Path, "rename", overtaken)
    build._put(made("ours"), out)
    assert (out / "index.html").read_text() == "ours"
    assert list(tmp_path.iterdir()) == [out]


def test_a_report_is_as_private_as_other_files_are(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_write_pages", lambda *_: None)
    before = os.umask(0o077)
    try:
        build.write(tmp_path / "report", build.Sources(ROOT, results))
    finally:
        os.umask(before)
    assert (tmp_path / "report").stat().st_mode & 0o777 == 0o700


def test_a_folder_of_somebody_else_is_left_alone(results: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not a report"):
        build.write(tmp_path, build.Sources(ROOT, results))
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_damaged_table_leaves_the_last_report(results: Path, tmp_path: Path) -> None:
    sources = build.Sources(ROOT, results)
    build.write(tmp_path / "out", sources)
    (results / "studies/vit_proxy/heatmap/runs.csv").write_text('optimizer,lr\n"adamw')
    with pytest.raises(UserError, match=r"heatmap/runs\.csv"):
        build.write(tmp_path / "out", sources)
    assert (tmp_path / "out/index.html").exists()
    assert not list(tmp_path.glob(".out-*"))


def test_script_ends_with_one_line_for_the_user(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/report.py", "--out", tmp_path / "out", "--runs", "nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: nowhere is no folder: --runs takes a folder of run folders\n"
