"""Where a program's output holds its number: in the last matching line, a record, or a file.

val_acc=([0-9.]+)               regular expression with one group; the last line that matches
json:val.accuracy               the last line that ends with a JSON object (or a dict as Python
                                prints it) that has this key
csv:val_acc                     the last row of CSV with a number in that column
file:{run_dir}/out.txt:acc ([0-9.]+)    these three, in a file that the run has written
file:{run_dir}/out.json:json:acc
file:{run_dir}/metrics.csv:csv:val_acc
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.compare import records
from experiments.compare.placeholders import filled
from experiments.config import UserError
from experiments.files import stamp

_LOWER = re.compile(
    r"loss|error|perplexity|regret|distance|divergence|(?:cross|x)[-_ ]?ent"
    r"|(?<![a-z])(?:err|ppl|nll|mse|mae|mape|rmse|wer|cer|fid|kid|bpb|bpc|bits|bce|kl|ece|brier)"
    r"(?![a-z])",
    re.IGNORECASE,
)
"""Names of what is to be made small; a short one only as a word: "answer" is no word error rate."""
_HIGHER = re.compile(
    r"acc(?![a-z])|accuracy|reward|return|success|score|bleu|rouge|recall|precision|top[-_@]?[15]"
    r"|likelihood|(?<![a-z])(?:auc|auroc|f1|map|iou|miou|dice|psnr|ssim|em|elbo|ndcg|mrr|r2|win)"
    r"(?![a-z])",
    re.IGNORECASE,
)

_SPLITS = ("test", "val", "valid", "validation", "dev", "eval", "evaluation", "train", "training")
_PLAIN = ("mean", "avg", "average", "median", "value", "final", "last", "best", "is", "was", "of")
"""Words beside a name that do not say what is measured."""
_COLOURS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
"""What makes a terminal print in colours, or move its cursor."""


class MetricError(Exception):
    """The output of a run holds no number; one line for people."""


@dataclass(frozen=True)
class Metric:
    """One number of a run's output."""

    text: str  # as the user gave it
    option: str = "--metric"  # where

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UserError(f"{self.option} is empty: give e.g. 'val_acc=([0-9.]+)'")
        if self.file is not None and not self._inner:
            raise UserError(f"{self.option} {self.text}: write file:PATH:PATTERN")
        if self._kind is None:
            self._compiled()
        elif not self._under:
            raise UserError(
                f"{self.option} {self.text}: say under which name, e.g. {self._kind}:acc"
            )

    @property
    def file(self) -> str | None:
        """The file it stands in, placeholders included; None: the output."""
        return self.text[5:].partition(":")[0] if self.text.startswith("file:") else None

    @property
    def _inner(self) -> str:
        return self.text[5:].partition(":")[2] if self.text.startswith("file:") else self.text

    @property
    def _kind(self) -> str | None:
        """json or csv, where a name is looked up; None: a pattern."""
        kind = self._inner.partition(":")[0]
        return kind if kind in ("json", "csv") else None

    @property
    def _under(self) -> str:
        """The name that is looked up."""
        return self._inner.partition(":")[2].strip()

    @property
    def name(self) -> str:
        """What people would call it: val_acc."""
        if self._kind is not None:
            keys = self._under.split(".") if self._kind == "json" else [self._under]
            return _name_of(keys) or self._under
        before, after = _around_group(self._inner)
        words, others = (re.findall(r"[A-Za-z_][\w/@-]*", _plain(t)) for t in (before, after))
        return _name_of(words or others[:2]) or "the metric"

    @property
    def looks_lower(self) -> bool:
        """Whether its name is that of something to be made small."""
        return bool(_LOWER.search(self.name))

    @property
    def looks_higher(self) -> bool:
        """Whether its name is that of something to be made large, and of nothing else."""
        return bool(_HIGHER.search(self.name)) and not self.looks_lower

    def _compiled(self) -> re.Pattern[str]:
        try:
            pattern = re.compile(self._inner)
        except re.error as error:
            raise UserError(
                f"{self.option} {self._inner!r} is no regular expression: {error}"
            ) from None
        if pattern.groups != 1:
            raise UserError(
                f"{self.option} {self._inner!r} must have one group in brackets around the number, "
                f"e.g. 'val_acc=([0-9.]+)'; it has {pattern.groups}"
            )
        return pattern

    def stamp(self, values: Mapping[str, Any]) -> tuple[int, ...]:
        """Of its file, before a run: see `read`."""
        return () if self.file is None else stamp(Path(filled(self.file, values)))

    def read(self, output: str, values: Mapping[str, Any], before: tuple[int, ...] = ()) -> float:
        """The number; NaN or infinite where the run says so.

        Args:
            output: All that the run has printed.
            values: For the placeholders of a file's path.
            before: The `stamp` from before the run; a file that is still as it was is not its own.

        Raises:
            MetricError: where there is none.
        """
        output, where = self._text(output, values, before)
        if self._kind is not None:
            return self._from_records(output, where)
        return self._from_lines(output, where)

    def doubt(self, output: str, values: Mapping[str, Any]) -> str:
        """Why another number than this may have been meant; nothing where there is no such doubt.

        Args: as of `read`, of a run whose number was read.
        """
        if self._kind is not None:
            return ""
        output, _ = self._text(output, values, ())
        line, found = self._last_matches(output)
        if found and (rest := _cut_off(line, found[-1])):
            return f"has read {found[-1][1]} of {found[-1][1]}{rest}"
        named = [_longer_name(line, match) for match in found]
        if len(found) > 1:
            last = named[-1] or found[-1][0]
            return f"matches {len(found)} times in one line, of which the last ({last}) was read"
        return f"has read {named[0]}" if named and named[0] else ""

    def _text(
        self, output: str, values: Mapping[str, Any], before: tuple[int, ...]
    ) -> tuple[str, str]:
        """Where its number stands, without colours, and what that is called."""
        where = "the output"
        if self.file is not None:
            path = Path(filled(self.file, values)).absolute()  # a command may go elsewhere
            where = str(path)
            if before and stamp(path) == before:
                raise MetricError(
                    f"{path} was not written by this run (one in {{run_dir}} is its own)"
                )
            try:
                output = path.read_text(errors="replace")
            except OSError:
                raise MetricError(f"{path} is not there") from None
        return _COLOURS.sub("", output), where

    def _last_matches(self, output: str) -> tuple[str, list[re.Match[str]]]:
        """The last line with a number, and all of it that matches."""
        pattern = self._compiled()
        for line in reversed(output.splitlines()):
            if found := [match for match in pattern.finditer(line) if match[1] is not None]:
                return line, found
        return "", []

    def _from_records(self, output: str, where: str) -> float:
        lines = output.splitlines()
        try:
            if self._kind == "csv":
                value = records.in_column(lines, self._under)
            else:
                whole = [output] if self.file else []
                value = records.in_objects([*whole, *reversed(lines)], self._under.split("."))
        except KeyError:
            what = "no column of CSV" if self._kind == "csv" else "no JSON line with"
            raise MetricError(f"{what} {self._under} in {where}") from None
        return _number(value, self._inner)

    def _from_lines(self, output: str, where: str) -> float:
        pattern = self._compiled()
        other = _of_other(self._inner)
        for line in reversed(output.splitlines()):
            found = [match for match in pattern.finditer(line) if match[1] is not None]
            if found:
                last = found[-1]
                return _number(_whole(last[1], line[last.end(1) :]), self._inner)
            if other is not None and (last := other.search(line)) and last[1] is not None:
                value = _number(last[1], self._inner)  # an older line is not how this run ended
                return value if math.isfinite(value) else math.nan
        raise MetricError(f"no line of {where} matches {self._inner!r}")


def _longer_name(line: str, match: re.Match[str]) -> str:
    """The whole name, where what has matched begins within one: train_acc of acc=...; else ""."""
    before = re.search(r"[\w/.-]+$", line[: match.start()])
    rest = re.match(r"\w+", match[0])
    return before[0] + rest[0] if before and rest else ""


def _cut_off(line: str, match: re.Match[str]) -> str:
    """Digits behind what was read that may belong to it: 15,994 or 79,68 of a group [0-9.]+."""
    after = line[match.end(1) :]
    whole = _whole(match[1], after) != match[1]
    rest = re.match(r"[.,_']?\d[\d.,_]*", after)
    return rest[0] if rest and not whole else ""


def _around_group(pattern: str) -> tuple[str, str]:
    """What stands before the first group that is kept, and after its bracket."""
    start, _ = _group(pattern)
    return pattern[:start], pattern[start:].removeprefix("(").removeprefix("?P<")


def _group(pattern: str) -> tuple[int, int]:
    """Where the first group that is kept begins, and where it has ended."""
    start, depth = len(pattern), 0
    for match in re.finditer(r"\\.|\[\^?\]?[^\]]*\]|\(\?P<|\(\??|\)", pattern):
        is_kept = match[0] in ("(", "(?P<")
        if depth:
            depth += {"(": 1, ")": -1}.get(match[0][0], 0)
        elif is_kept:
            start, depth = match.start(), 1
        if depth == 0 and start < len(pattern):
            return start, match.end()
    return start, len(pattern)


def _plain(pattern: str) -> str:
    """A pattern without what is no text of its own: flags, classes and escapes."""
    return re.sub(r"\(\?[a-zA-Z-]+[:)]|\[\]?[^\]]*\]|\\[a-zA-Z]", " ", pattern)


def _name_of(words: Sequence[str]) -> str:
    """The last word that says what is measured, with its split where that stands beside it."""
    words = [word.strip("_") for word in words if word.strip("_")]
    plain = [word.lower() in (*_SPLITS, *_PLAIN) for word in words]
    if not words or all(plain):
        return words[-1] if words else ""
    last = max(place for place, one in enumerate(plain) if not one)
    beside = [*words[max(last - 1, 0) : last], *words[last + 1 :]]
    split = next((word for word in reversed(beside) if word.lower() in _SPLITS), None)
    return f"{split} {words[last]}" if split else words[last]


def _whole(found: str, after: str) -> str:
    """A number of which a group like [0-9.]+ has taken a part: 11,160.2 or 1e-05; or "90.5."."""
    thousands = re.match(r"(?:,\d{3})+\.\d+", after)
    if thousands and re.fullmatch(r"\d{1,3}", found):
        found, after = found + thousands[0].replace(",", ""), after[thousands.end() :]
    power = re.match(r"[eE][-+]?\d+", after)
    return found.rstrip(".") + (power[0] if power else "")


def _of_other(pattern: str) -> re.Pattern[str] | None:
    """The same pattern with nan, inf or a number below 0 in place of the number, which a group like
    [0-9.]+ passes over; None where it cannot be made."""
    other = r"([-+]?(?:nan|inf(?:inity)?)(?![a-z])|-\d*\.?\d+(?:e[-+]?\d+)?)"
    start, end = _group(pattern)
    try:
        return re.compile(pattern[:start] + other + pattern[end:], re.IGNORECASE)
    except re.error:
        return None


def _number(value: Any, what: str) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError):
        raise MetricError(f"{what!r} found {value!r}, which is no number") from None


def last_lines(output: str, number: int = 3) -> str:
    """What a failed program said last, on one line."""
    output = _COLOURS.sub("", output)
    lines: Sequence[str] = [line.strip() for line in output.splitlines() if line.strip()]
    return " | ".join(lines[-number:])[-300:] or "it printed nothing"
