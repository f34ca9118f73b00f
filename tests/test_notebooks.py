"""The notebooks run from what is committed, show their results, and define nothing."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
VERDICTS = "supported|contradicted|inconclusive|Not shown|not run"
SLOW = {"compare_optimizers"}  # it trains twelve short runs


def script() -> Any:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "scripts/notebooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_cells(book: Any) -> list[Any]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def numbers(book: Any) -> list[str]:
    """Every number that a notebook prints or shows in a table (pictures apart)."""
    outputs = [out for cell in code_cells(book) for out in cell.outputs]
    said = [
        out.text
        if out.output_type == "stream"
        else out.data.get("text/markdown", out.data["text/plain"])
        for out in outputs
    ]
    return [n for text in said for n in re.findall(r"-?\d+\.?\d*", text)]


def without_drawing(read: Callable[..., Any]) -> Callable[..., Any]:
    """A notebook in which `notebook.show` only knows the names, from its second cell of code on."""
    quick = "notebook.show = lambda name: notebook.FIGURES[name] and None"

    def prepared(*args: Any, **kwargs: Any) -> Any:
        book = read(*args, **kwargs)
        second = book.cells.index(code_cells(book)[1])
        assert all("show(" not in cell.source for cell in book.cells[:second])
        book.cells.insert(second, nbformat.v4.new_code_cell(quick))
        return book

    return prepared


def with_few_steps(read: Callable[..., Any]) -> Callable[..., Any]:
    """A notebook whose runs are shorter, by one worker for each command."""
    few = '"train.epochs=null", "train.steps=6", "eval.every_epochs=null", "launcher.num_workers=1"'

    def prepared(*args: Any, **kwargs: Any) -> Any:
        book = read(*args, **kwargs)
        (cell,) = [cell for cell in code_cells(book) if '"train.epochs=2"' in cell.source]
        cell.source = cell.source.replace('"train.epochs=2"', few)
        return book

    return prepared


def test_the_notebooks_are_there() -> None:
    wanted = {"batch_size_ablation", "compare_optimizers", "lr_wd_heatmaps"}
    assert wanted | {"program_search", "reproduction_overview"} == set(NAMES)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW))
                                  for n in NAMES])  # fmt: skip
def test_it_runs_without_error_or_warning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "reproduction_overview":  # all figures, and test_catalogue.py has drawn them
        monkeypatch.setattr(nbformat, "read", without_drawing(nbformat.read))
    if name in SLOW:
        monkeypatch.setattr(nbformat, "read", with_few_steps(nbformat.read))
    book = script().execute(FOLDER / f"{name}.ipynb")
    monkeypatch.undo()
    for cell in code_cells(book):
        for out in cell.outputs:
            assert out.output_type != "error"
            assert out.get("name") != "stderr", out.text
    if name not in SLOW:  # short runs may differ in the last digits between machines
        committed = nbformat.read(FOLDER / f"{name}.ipynb", 4)
        assert numbers(book) == numbers(committed), "make notebooks"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_committed_executed_and_small(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    book = nbformat.read(path, 4)
    assert [cell.execution_count for cell in code_cells(book)] == list(
        range(1, len(code_cells(book)) + 1)
    )
    assert all("execution" not in cell.metadata for cell in book.cells)
    assert path.stat().st_size < 1_500_000
    assert not re.search(r"/home/|/work/|/tmp/", path.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_it_defines_nothing_and_calls_the_analysis(name: str) -> None:
    source = "\n".join(c.source for c in code_cells(nbformat.read(FOLDER / f"{name}.ipynb", 4)))
    tree = ast.parse(source)
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, defined)]
    assert "from experiments.analysis import" in source


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_stands_first_and_nothing_is_a_raw_repr(name: str) -> None:
    first, *others = code_cells(nbformat.read(FOLDER / f"{name}.ipynb", 4))
    assert any(re.search(VERDICTS, str(out)) for out in first.outputs)
    for cell in (first, *others):
        for out in cell.outputs:
            said = out.get("text", "") or out.get("data", {}).get("text/plain", "")
            assert not re.search(r"0x[0-9a-f]{6}|\w+\(\w+=", said), said


def test_the_overview_shows_every_figure() -> None:
    from experiments.analysis.figures.catalogue import FIGURES

    book = nbformat.read(FOLDER / "reproduction_overview.ipynb", 4)
    shown = re.findall(r'show\("(\w+)"\)', "\n".join(cell.source for cell in code_cells(book)))
    assert sorted(shown) == sorted(FIGURES)
    pictures = [o for c in code_cells(book) for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == len(FIGURES)


def test_a_failing_cell_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    path = tmp_path / "broken.ipynb"
    nbformat.write(book, path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        script().execute(path)
    assert path.read_bytes() == before


def test_a_cell_that_takes_too_long_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(_: NotebookClient) -> None:
        raise CellTimeoutError("too long")

    monkeypatch.setattr(NotebookClient, "execute", late)
    path = tmp_path / "slow.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    with pytest.raises(RuntimeError, match=r"slow.ipynb: a cell took more than \d+ s; call again"):
        script().execute(path)
