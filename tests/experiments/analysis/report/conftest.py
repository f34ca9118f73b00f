"""A report of made-up results, built once; and a real browser to read it with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import search_study
import synthetic

from experiments.analysis.report import build

ROOT = Path(__file__).resolve().parents[4]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a built report: four studies, a published comparison and a runs folder."""
    base = tmp_path_factory.mktemp("report")
    synthetic.write_results(base / "results")
    search_study.write(base / "results", search_study.tables())
    (base / "results/proxies").mkdir()
    for path in (ROOT / "results/proxies").glob("vit_proxy.*"):
        shutil.copy(path, base / "results/proxies")
    command = "run.py experiment=vit_proxy seed=1"
    synthetic.write_run(base / "runs", "vit_proxy-lion-s1-aa", seed=1, command=command)
    sources = build.Sources(ROOT, base / "results", base / "runs", base / "results/sweeps")
    return build.write(base / "out", sources).parent


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium, then these tests run")
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET])
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium: Any, report: Path) -> Iterator[Any]:
    """Opens pages as files; fails if one complains or asks the network."""
    complaints: list[str] = []
    contexts = []

    def open_page(file: str, width: int = 1280, scheme: str = "light") -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(300_000)  # a busy machine is no fault of a page
        page.on("console", lambda m: complaints.append(m.text) if m.type != "log" else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("requestfailed", lambda r: complaints.append(f"{r.url} failed"))
        page.on(
            "request",
            lambda r: r.url.startswith(("file:", "data:", "blob:")) or complaints.append(r.url),
        )
        page.goto(f"file://{report}/{file}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints
