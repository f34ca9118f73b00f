"""Every link of a text leads to a file of the repository, and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


ROOMS = ("lion", "experiments", "conf", "results", "scripts", "notebooks", "tests")


def texts() -> list[Path]:
    guides = [path for room in ROOMS for path in (ROOT / room).rglob("README.md")]
    return sorted([*ROOT.glob("*.md"), *guides])


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings: lower case, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ (.*)", without_code(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("text", texts(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(text: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(text.read_text()))
    lost = []
    for target in targets:
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", name):
            continue  # a web page
        path = (text.parent / name).resolve() if name else text
        if not path.exists() or (anchor and anchor not in anchors(path.read_text())):
            lost.append(target)
    assert not lost


def test_anchors_are_those_of_github() -> None:
    text = "# `compare`, for your own model\n```\n# no heading\n```\n## Big vision: pre-train\n"
    assert anchors(text) == {"compare-for-your-own-model", "big-vision-pre-train"}


def test_every_guide_is_reached_from_the_readme() -> None:
    front = (ROOT / "README.md").read_text()
    guides = [path.relative_to(ROOT).as_posix() for path in texts()]
    for guide in guides:
        if guide.endswith("README.md") and not guide.startswith(("results/", "README")):
            assert f"]({guide}" in front, guide


def test_lines_of_code_fit_the_page() -> None:
    """GitHub shows about a hundred letters; what is beyond can only be scrolled to."""
    guides = [text for text in texts() if text.name == "README.md" and "results" not in text.parts]
    assert len(guides) > 5
    for text in guides:
        for block in re.findall(r"^```.*?^```", text.read_text(), flags=re.DOTALL | re.MULTILINE):
            assert [line for line in block.splitlines() if len(line) > 100] == [], text
