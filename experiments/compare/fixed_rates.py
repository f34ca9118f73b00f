"""Learning rates in figures: what a program or its command fixes whatever {lr} says.

The floor of a schedule or the first lr of a warm-up was chosen beside the baseline's lr, and cuts
into a Lion's, which is several times smaller; the lr of one group, or of an optimizer that is not
compared, follows neither.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.compare.asking import digits

ENDS = re.compile(
    r"(min|end|final|last|floor|warmup|warmup_start|warmup_init)_(lr|learning_rate)"
    r"|(lr|learning_rate)_(min|end|final|last|floor|warmup)|eta_min|warmup_lr_init|lr_min_abs"
)
"""Names of the lr with which a schedule ends or a warm-up begins."""
APART = re.compile(
    r"(max|swa|head|backbone|encoder|decoder|classifier|fc|emb\w*|bias|scalar|matrix|muon|adamw?"
    r"|critic|actor|[dg]|disc\w*|gen\w*|finetune|unfreeze)_(lr|learning_rate)"
    r"|(lr|learning_rate)_(head|backbone|encoder|decoder|classifier|fc|emb\w*|[dg])|max_lr"
)
"""Names of an lr beside the one of all."""
BY_PLACE = {
    "CosineAnnealingLR": (2, "eta_min"),
    "OneCycleLR": (1, "max_lr"),
    "SWALR": (1, "swa_lr"),
}
"""Of torch's schedules: which argument it is where it has no name."""
SMALL = 0.05
"""Of an optimizer's lr: less is no matter at the end of a schedule."""
MOST_PLACES = 4
_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?"
_PAIR = re.compile(rf"([A-Za-z_][\w.-]*)[\"']?(?=(?:\s*[=:]\s*|\s+)[\"']?({_NUMBER})(?![\w.]))")
_GIVEN = re.compile(r"([A-Za-z_][\w.-]*)[\"']?(?=\s*[=:]\s*\S|\s+[^\s-])")


@dataclass(frozen=True)
class Fixed:
    """A number in a file."""

    name: str
    value: float
    place: str


def said_of(
    command: str, files: Iterable[str], folder: Path, begins: Mapping[str, float]
) -> Iterator[str]:
    """What to beware of.

    Args:
        command: With its placeholders.
        files: That it names, and what they import; a later one is taken to override.
        folder: Where it runs.
        begins: lr at which the search of each optimizer begins, by its label.
    """
    given = {_plain(match[1]) for match in _GIVEN.finditer(command)}
    found = [one for file in files for one in _in_file(folder / file, file)]
    found = [one for one in found if one.name == "lr" or one.name not in given]
    found += _in_text(command, "the command")
    ends = {one.name: one for one in found if ENDS.fullmatch(one.name)}  # the last of a name
    for one in ends.values():
        shares = {label: one.value / lr for label, lr in begins.items()}
        if max(shares.values()) >= SMALL:
            told = [f"{digits(100 * share, 2):g} % of {label}'s" for label, share in shares.items()]
            yield (
                f"Beware: {one.name} is {one.value:g} ({one.place}) whatever {{lr}} says, "
                f"{', '.join(told)} where its search begins: if it is in use, make it a share of "
                "{lr}, or 0, or the schedules are not alike."
            )
    apart = [one for one in found if one.name == "lr" or APART.fullmatch(one.name)]
    if apart := [one for one in apart if one.value and one not in ends.values()]:
        told = ", ".join(f"{one.name}={one.value:g} ({one.place})" for one in apart[:MOST_PLACES])
        more = f" and {len(apart) - MOST_PLACES} more" if len(apart) > MOST_PLACES else ""
        yield (
            f"Beware: {told}{more}: what trains with it, if anything, follows no {{lr}}, and where "
            "another optimizer stands there, no {optimizer}: it is not compared."
        )


def _plain(name: str) -> str:
    """--min-lr and schedule.min_lr as min_lr."""
    return name.rpartition(".")[2].lower().replace("-", "_")


def _in_file(path: Path, name: str) -> Iterator[Fixed]:
    text = path.read_text(errors="replace")
    if path.suffix != ".py":
        lines = (line.partition("#")[0] for line in text.splitlines())
        for number, line in enumerate(lines, 1):
            yield from _in_text(line, f"{name}, line {number}")
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # of another Python
        return
    for node in ast.walk(tree):
        for key, value in _pairs(node):
            plain = _plain(key)
            number = value.value if isinstance(value, ast.Constant) else None
            is_wanted = plain == "lr" or ENDS.fullmatch(plain) or APART.fullmatch(plain)
            if is_wanted and isinstance(number, int | float) and not isinstance(number, bool):
                yield Fixed(plain, float(number), f"{name}, line {value.lineno}")


def _pairs(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names and what they are set to; a bare lr only beside what it trains, the first argument or
    `params`: elsewhere it is the default of what {lr} sets."""
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called == "add_argument":
            yield from _default_of_option(node)
            return
        named = [(keyword.arg or "", keyword.value) for keyword in node.keywords]
        is_of_weights = bool(node.args) or "params" in dict(named)
        yield from (pair for pair in named if is_of_weights or pair[0] != "lr")
        place, name = BY_PLACE.get(called, (len(node.args), ""))
        yield from ((name, value) for value in node.args[place : place + 1])
    elif isinstance(node, ast.Dict):
        keys = [str(key.value) if isinstance(key, ast.Constant) else "" for key in node.keys]
        pairs = zip(keys, node.values, strict=True)
        yield from (pair for pair in pairs if "params" in keys or pair[0] != "lr")
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _if_named(target, node.value)
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield from _if_named(node.target, node.value)


def _default_of_option(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    names = [str(one.value) for one in node.args if isinstance(one, ast.Constant)]
    defaults = [keyword.value for keyword in node.keywords if keyword.arg == "default"]
    name = next((name.lstrip("-") for name in names if name.startswith("--")), "")
    yield from ((name, value) for value in defaults if _plain(name) != "lr")


def _if_named(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    name = target.id if isinstance(target, ast.Name) else ""
    name = target.attr if isinstance(target, ast.Attribute) else name
    if name != "lr":
        yield name, value


def _in_text(text: str, place: str) -> Iterator[Fixed]:
    for match in _PAIR.finditer(text):
        name = _plain(match[1])
        if ENDS.fullmatch(name) or APART.fullmatch(name):
            yield Fixed(name, float(match[2]), place)
