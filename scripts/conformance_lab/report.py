"""The matrix of agreements on the terminal, as JSON, and as results/conformance/."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts.conformance_lab import verdict
from scripts.conformance_lab.contestants import Contestant
from scripts.conformance_lab.scenarios import NAMES
from scripts.conformance_lab.verdict import Verdict

COLUMNS: tuple[str, ...] = ("lion", "version", "scenario", "other", "kind", "sign_rate", "reason")
LEGEND = {
    verdict.EQUAL: "weights and momenta are those of google's operations to the bit at every step",
    verdict.ROUNDING: "the paper's rule, computed or stored with other roundings",
    verdict.CANCELLATION: "the same, and the sign differs from google's where beta1 * m and "
    "(1 - beta1) * g cancel but for rounding; in brackets the share of all weights and steps",
    verdict.DIFFERENT: "another rule",
    verdict.ERROR: "it raised an error",
    verdict.NOT_OFFERED: "it does not claim to do this",
}
MARKS = {
    verdict.EQUAL: "=",
    verdict.ROUNDING: "~",
    verdict.CANCELLATION: "±",
    verdict.DIFFERENT: "DIFFERENT",
    verdict.ERROR: "ERROR",
    verdict.NOT_OFFERED: "-",
}
COLOURS = {verdict.DIFFERENT: "red", verdict.ERROR: "magenta", verdict.EQUAL: "green"}
README = """# Do the public Lions agree?

Made by `python scripts/conformance.py --publish` with {versions}, on a CPU ({cpu}). Each Lion takes
the same steps; each step is compared with the float64 reference in `tests/reference.py`, and the
reason of a disagreement is what reproduces the recorded numbers, or that nothing which was tried
does (*within rounding*; of 8-bit momenta only how far they are off is looked at). No claim about a
library is written into the program.

{legend}

"Bit-equal" is about google's operations with sign(NaN) = NaN, as in JAX. The column *cancelling*
is made to be hard: a third of its gradients cancel the momentum but for rounding.
*bf16* has bfloat16 weights; torch's own kernels round the last elements of a tensor, those that
do not fill a vector, otherwise than the rest, so that google's loop depends on how it is split.

{matrix}
{absent}
## Reasons

{reasons}

## State dicts from one to another

The first takes half of the steps, the second loads its state dict through a file and goes on.

{interchange}
"""


@dataclass
class Row:
    """One cell: a Lion in a scenario, or a Lion whose state dict another one loads."""

    lion: str
    scenario: str
    verdict: Verdict
    other: str = ""

    @property
    def mark(self) -> str:
        """The cell as the tables show it."""
        rate = self.verdict.sign_rate
        return MARKS[self.verdict.kind] + (f" ({rate:.1e})" if rate else "")


def as_dict(rows: list[Row], chosen: list[Contestant], absent: dict[str, str]) -> dict[str, Any]:
    """Return everything that was found, for JSON."""
    return {"rows": list(_records(rows, chosen)), "absent": absent, "torch": version("torch")}


def _records(rows: list[Row], chosen: list[Contestant]) -> list[dict[str, Any]]:
    versions = {c.name: c.version() for c in chosen}
    made = []
    for row in rows:
        v = row.verdict
        rate = float(f"{v.sign_rate:.3g}")
        cells = (row.lion, versions[row.lion], row.scenario, row.other, v.kind, rate, v.reason)
        made.append(dict(zip(COLUMNS, cells, strict=True)))
    return made


def print_tables(rows: list[Row], chosen: list[Contestant], absent: dict[str, str]) -> None:
    """Print the matrix, the reasons and the interchange."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from experiments.files import show_table

    console = Console()
    for title, columns, lines in (_matrix(rows), _reasons(rows), _interchange(rows)):
        if not lines:
            continue
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column)
        for line in lines:
            table.add_row(*(_coloured(escape(cell)) for cell in line))
        show_table(console, table)
    for kind, meaning in LEGEND.items():
        console.print(f"{MARKS[kind]}  {kind}: {meaning}")
    for name, why in absent.items():
        console.print(f"{name}: {why}", markup=False)


def _coloured(cell: str) -> str:
    kind = next((k for k in COLOURS if MARKS[k] == cell), None)
    return f"[{COLOURS[kind]}]{cell}[/]" if kind else cell


def publish(
    rows: list[Row], chosen: list[Contestant], absent: dict[str, str], folder: Path
) -> None:
    """Write matrix.csv and README.md, which hold no date: the same versions give the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "matrix.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_records(rows, chosen))
    packages = dict.fromkeys(["torch", *(c.package for c in chosen if c.package)])
    text = README.format(
        versions=", ".join(f"{package} {version(package)}" for package in packages),
        cpu=_cpu(),
        legend="\n".join(f"- `{MARKS[k]}` {k}: {meaning}." for k, meaning in LEGEND.items()),
        matrix=_markdown(_matrix(rows)),
        absent="".join(f"\n{name}: {why}.\n" for name, why in absent.items()),
        reasons=_markdown(_reasons(rows)),
        interchange=_markdown(_interchange(rows)),
    )
    (folder / "README.md").write_text(text)
    print(f"Published: {folder}/matrix.csv and README.md")


def _cpu() -> str:
    import torch

    return f"torch uses {torch.backends.cpu.get_cpu_capability()}"


Content = tuple[str, list[str], list[list[str]]]


def _matrix(rows: list[Row]) -> Content:
    cells = {(row.lion, row.scenario): row.mark for row in rows if not row.other}
    names = [name for name in NAMES if any(key[1] == name for key in cells)]
    lions = dict.fromkeys(lion for lion, _ in cells)
    lines = [[lion, *(cells[lion, name] for name in names)] for lion in lions]
    return "Agreement with the paper's rule", ["", *names], lines


def _reasons(rows: list[Row]) -> Content:
    where: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.verdict.reason and not row.other:
            key = (row.lion, row.verdict.kind, row.verdict.reason)
            where.setdefault(key, []).append(row.scenario)
    lines = [[lion, ", ".join(places), kind, why] for (lion, kind, why), places in where.items()]
    return "Reasons", ["", "where", "what", "reason, as measured"], lines


def _interchange(rows: list[Row]) -> Content:
    lines = [
        [row.lion, row.other, row.verdict.kind, row.verdict.reason] for row in rows if row.other
    ]
    return "State dicts", ["first half", "second half", "what", "reason, as measured"], lines


def _markdown(content: Content) -> str:
    _, columns, lines = content
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    body = [columns, ["---"] * len(columns), *escaped]
    return "\n".join("| " + " | ".join(line) + " |" for line in body) + "\n"
