"""The claims page: what the paper says, what the runs here say to it, and filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.analysis.report.claims import NOT_RUN, SCALES, TOPICS, VERDICTS, word
from experiments.analysis.report.page import command, esc, is_missing, not_run_yet, number
from experiments.pages import script

Row = Mapping[str, Any]
STYLES = {
    **{"supported": "good", "consistent": "good", "contradicted": "bad", "differs": "bad"},
    **{"inconsistent": "bad", "inconclusive": "unsure"},
}


def body(claims: pd.DataFrame, is_judged: bool) -> str:
    """The page's content."""
    rows: list[Row] = [{str(k): v for k, v in row.items()} for row in claims.to_dict("records")]
    rows.sort(key=lambda row: not _answers(row))  # what was found stands first
    parts = [
        "<h1>The claims of the paper, and what was found here</h1>",
        '<p class="lead">Each line is a claim of '
        '<a href="https://arxiv.org/abs/2302.06675">arXiv:2302.06675</a> (the paper of the Lion '
        "optimizer) in our words. A <b>proxy</b> is a small model on small data: its verdict is "
        "about the proxy, and it never stands in for a run at the paper's scale. "
        "<b>Inconclusive</b>: the runs do not tell, which is not the same as equal.</p>",
    ]
    if not is_judged:
        parts.append(not_run_yet("Verdicts", script("claims")))
    parts += [_answers_first(rows), _summary(rows), _filters(rows), _list(rows)]
    return "\n".join(parts)


QUESTIONS = {
    "C005": "Is tuned Lion better than tuned AdamW?",
    "C039": "Does it learn in fewer steps?",
    "C050": "Is its best learning rate smaller?",
    "C051": "Is its best weight decay larger, and by as much as its learning rate is smaller?",
    "C052": "Is it less sensitive to both?",
    "C049": "Does it gain with the batch size?",
    "C037": "Is it the best of ten optimizers?",
    "C063": "Does it end in flatter regions?",
    "C001": "Does its state take half the memory?",
    "C003": "Are its training steps faster?",
}
"""Claims that a reader asks for first, as questions."""


def _answers_first(rows: list[Row]) -> str:
    """What was found here on the questions that a reader comes with; empty where nothing was."""
    by_name = {row["claim_id"]: row for row in rows}
    asked = [(text, by_name[name]) for name, text in QUESTIONS.items() if name in by_name]
    lines = "".join(
        f'<tr><th scope="row"><a href="#{esc(row["claim_id"])}">{esc(text)}</a></th>'
        f"<td>{_found(row)}</td><td>{_badges(row)}</td></tr>"
        for text, row in asked
        if _answers(row)
    )
    if not lines:
        return ""
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("Question", "Found", "Verdict"))
    return (
        f'<h2>In short</h2><div class="scroll"><table class="answers"><thead><tr>{heads}</tr>'
        f"</thead><tbody>{lines}</tbody></table></div>"
    )


def _answers(row: Row) -> list[str]:
    """The scales at which something was run here for the claim."""
    return [s for s in SCALES if not is_missing(row[f"{s}_estimate"]) or _is_verdict(row, s)]


def _is_verdict(row: Row, scale: str) -> bool:
    return word(row[f"{scale}_verdict"]) in STYLES


def _summary(rows: list[Row]) -> str:
    said = []
    for scale, name in (("proxy", "on proxies"), ("measured", "measured here")):
        counts = Counter(word(row[f"{scale}_verdict"]) for row in rows)
        found = [
            f"{count} {esc(verdict)}" for verdict, count in counts.items() if verdict in STYLES
        ]
        said.append(f"{name}: <b>{', '.join(found) or 'none judged'}</b>")
    num_paper = sum("paper_scale" in _answers(row) for row in rows)
    said.append(f"run at the paper's scale: <b>{num_paper or 'none'}</b>")
    return f"<p>Of {len(rows)} claims, {'; '.join(said)}.</p>"


def _filters(rows: list[Row]) -> str:
    groups = []
    for column, label in VERDICTS.items():
        counts = Counter(word(row[column]) for row in rows)
        if column == "proxy_verdict" or len(counts) > 1:
            groups.append(_buttons(column, label, counts))
    order = {name: i for i, (name, _) in enumerate(TOPICS)}
    topics = Counter(row["topic"] for row in rows)
    ordered = {t: topics[t] for t in sorted(topics, key=lambda t: order.get(t, len(order)))}
    groups.append(_buttons("topic", "Topic", ordered))
    return (
        '<form class="filters" id="filters" role="search">'
        '<label>Search <input type="search" id="search" autocomplete="off" '
        'placeholder="words, e.g. batch 32K"></label>'
        f'{"".join(groups)}<p class="count" id="count" aria-live="polite">{len(rows)} claims</p>'
        "</form>"
    )


def _buttons(column: str, label: str, counts: Mapping[str, int]) -> str:
    buttons = "".join(
        f'<button type="button" aria-pressed="false" data-column="{esc(column)}" '
        f'data-value="{esc(value)}">{esc(value)} <small>{count}</small></button>'
        for value, count in sorted(counts.items(), key=lambda item: item[0] == NOT_RUN)
        if value
    )
    group = f'<div class="chips" role="group" aria-label="{esc(label)}">'
    return f"{group}<b>{esc(label)}</b>{buttons}</div>"


def _list(rows: list[Row]) -> str:
    names = ("Claim", "Paper", "Found here", "Verdict")
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    lines = "\n".join(_row(row) for row in rows)
    return (
        '<table class="claims" id="claims"><thead><tr>'
        f"{heads}</tr></thead><tbody>{lines}</tbody></table>"
        '<p class="nothing" id="nothing" hidden>No claim matches. '
        '<button type="button" id="reset">Show all</button></p>'
    )


def _row(row: Row) -> str:
    data = "".join(f' data-{c}="{esc(word(row[c]))}"' for c in (*VERDICTS, "topic"))
    of = "" if is_missing(row["version"]) or row["version"] == "neurips" else row["version"]
    version = f" · {esc(of)} version" if of else ""
    about = ", ".join(str(row[c]) for c in ("task", "metric") if not is_missing(row[c]))
    said = row["claim"] if not is_missing(row["claim"]) else row["metric"]
    return (
        f'<tr id="{esc(row["claim_id"])}"{data}>'
        f'<td class="claim"><small>{esc(row["claim_id"])} · {esc(about)}{version}</small>'
        f"<p>{esc(said)}</p>{_details(row)}</td>"
        f'<td data-label="Paper">{_paper(row)}</td>'
        f'<td data-label="Found here">{_found(row)}</td>'
        f'<td data-label="Verdict">{_badges(row)}</td></tr>'
    )


def _paper(row: Row) -> str:
    low, high, unit = row["paper_low"], row["paper_high"], row["paper_unit"]
    if is_missing(low) and is_missing(high):
        return '<span class="none">no number</span>'
    ends = [number(v, 8) for v in (low, high) if not is_missing(v)]
    are_two = "," in str(unit).partition("(")[2]  # "loss (AdamW, Lion)": a pair, not a range
    span = ends[0] if len(set(ends)) == 1 else (", " if are_two else " – ").join(ends)
    return f"<b>{esc(span)}</b> <small>{esc(unit)}</small>"


def _found(row: Row) -> str:
    lines = [_estimate(row, s) for s in SCALES if not is_missing(row[f"{s}_estimate"])]
    return "".join(lines) or '<span class="none">none</span>'


def _estimate(row: Row, scale: str) -> str:
    value = {key: row[f"{scale}_{key}"] for key in ("estimate", "low", "high", "n", "unit")}
    said = f"<b>{esc(_three(value['estimate']))}</b> {esc(value['unit'])}"
    has_interval = not is_missing(value["low"]) and value["low"] != value["high"]
    if has_interval and not is_missing(value["high"]):
        low, high = esc(_three(value["low"])), esc(_three(value["high"]))
        is_range = scale == "measured"  # smallest and largest of some files, no interval
        said += (
            f" <small>{low} to {high}</small>" if is_range else f" <small>[{low}, {high}]</small>"
        )
    n = "" if is_missing(value["n"]) else f", n = {esc(number(value['n']))}"
    measure = f"<small>{esc(row[f'{scale}_measure'])}</small>"  # without it a sign says nothing
    return f"<div>{said} <small>{esc(SCALES[scale])}{n}</small><br>{measure}</div>"


def _three(value: object) -> str:
    """A measurement with three digits, or all before the point."""
    is_large = isinstance(value, int | float) and abs(value) >= 1000
    return f"{value:.0f}" if is_large else number(value, 3)


def _badges(row: Row) -> str:
    """A badge for each scale at which the claim was judged; else what stands in the way."""
    judged = [(name, row[f"{s}_verdict"]) for s, name in SCALES.items() if _is_verdict(row, s)]
    if not judged:
        reasons = (row[f"{s}_verdict"] for s in reversed(SCALES))
        judged = [("", next((r for r in reasons if word(r) != NOT_RUN), NOT_RUN))]
    if not is_missing(row["paper_consistency"]):
        judged.append(("paper's numbers", row["paper_consistency"]))
    return "".join(_badge(label, verdict) for label, verdict in judged)


def _badge(label: str, verdict: object) -> str:
    about = f"<small>{esc(label)}</small> " if label else ""
    return f'<span class="badge {STYLES.get(word(verdict), "open")}">{about}{esc(verdict)}</span> '


def _details(row: Row) -> str:
    parts = [_detail("Recomputed from the paper's tables", row["paper_recomputed"])]
    for scale, name in SCALES.items():
        label = name.capitalize()
        parts += [
            _detail(f"{label}: measure", row[f"{scale}_measure"]),
            _detail(f"{label}: note", row[f"{scale}_note"]),
            _detail(f"{label}: seeds to decide", row[f"{scale}_seeds_to_decide"]),
            _detail(f"{label}: from", row[f"{scale}_files"]),
            _detail(f"{label}: command", row[f"{scale}_command"], is_command=True),
        ]
    parts += [
        _detail("Note", row["note"]),
        _detail("Command", row["command"], is_command=True),
        _detail("Cost at the paper's scale", row["cost"]),
        _detail("Basis of the cost", row["cost_basis"]),
        _detail("Source", row["source"]),
    ]
    said = "".join(parts)
    return f"<details><summary>Details</summary><dl>{said}</dl></details>" if said else ""


def _detail(label: str, value: object, is_command: bool = False) -> str:
    if is_missing(value):
        return ""
    shown = command(str(value)) if is_command else esc(number(value))
    return f"<dt>{esc(label)}</dt><dd>{shown}</dd>"
