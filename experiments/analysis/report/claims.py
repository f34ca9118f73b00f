"""The claims page: what the paper says, and what the runs here say to it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis.report.page import command, esc, is_missing, not_run_yet, number
from experiments.store import UserError

NOT_RUN = "not run"
COLUMNS = (
    *("claim_id", "version", "task", "metric", "claim", "paper_low", "paper_high", "unit"),
    *("paper_consistency", "proxy_estimate", "proxy_low", "proxy_high", "proxy_n"),
    *("proxy_verdict", "paper_scale_verdict", "cost", "command", "note", "source"),
)
"""Columns that the page knows; any of them but the claim may be missing."""

PAPER_NAMES = {"id": "claim_id", "low": "paper_low", "high": "paper_high"}
"""Names in results/paper/claims.csv that differ from those of results/claims.csv."""

VERDICTS = {
    "proxy_verdict": "Proxy runs here",
    "paper_scale_verdict": "Paper scale",
    "paper_consistency": "The paper's own numbers",
}
"""Columns with verdicts, and what each is about."""

TOPICS = (
    ("Memory and speed", ("memory", "runtime", "deployment")),
    ("Batch size", ("batch size",)),
    ("Tuning", ("tuning",)),
    ("Betas", ("beta ablation", "momentum")),
    ("Optimizers", ("optimizer comparison", "sgd")),
    ("JFT", ("jft",)),
    ("ImageNet", ("imagenet", "scratch", "strong augmentation", "resnet")),
    ("Vision-language", ("basic", "lit")),
    ("Diffusion", ("diffusion", "imagen ")),
    ("Language", ("lm", "large-scale lm", "masked lm", "t5")),
    ("Flatness", ("landscape", "regularisation")),
    ("Search and rule", ("search", "simplification", "update")),
    ("Limits", ("limitation",)),
)
"""Topics, and how the tasks of results/paper/claims.csv begin that belong to them."""


def topic_of(task: object) -> str:
    """The topic of a task; a task that no topic knows is "Other"."""
    text = str(task).lower() + " "
    for topic, beginnings in sorted(TOPICS, key=lambda t: -max(map(len, t[1]))):
        if topic != "Limits" and text.startswith("limitation"):
            continue
        if any(text.startswith(b) for b in beginnings):
            return topic
    return "Other"


def read_claims(results: Path) -> tuple[pd.DataFrame, bool]:
    """The claims and whether they have verdicts (`results/claims.csv`) or not yet.

    Raises:
        UserError: if a table cannot be read, or has no claims in it.
    """
    judged, listed = results / "claims.csv", results / "paper/claims.csv"
    path = judged if judged.exists() else listed
    try:
        table = pd.read_csv(path).rename(columns=PAPER_NAMES)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from None
    if "claim" not in table:
        raise UserError(f"{path} has no column 'claim': run `python scripts/claims.py` again")
    table = table.reindex(columns=[*COLUMNS])
    for column in ("proxy_verdict", "paper_scale_verdict"):
        table[column] = table[column].astype(object).where(table[column].notna(), NOT_RUN)
    table["topic"] = [topic_of(task) for task in table.task]
    return table, path == judged


def body(claims: pd.DataFrame, is_judged: bool) -> str:
    """The page's content."""
    rows = [{str(k): v for k, v in row.items()} for row in claims.to_dict("records")]
    rows.sort(key=lambda row: not _is_judged(row))  # what was found stands first
    parts = [
        "<h1>The claims of the paper, and what was found here</h1>",
        '<p class="lead">Each line is a claim of '
        '<a href="https://arxiv.org/abs/2302.06675">arXiv:2302.06675</a> (the paper of the Lion '
        "optimizer) in our words. A <b>proxy</b> is a small model on small data: its verdict is "
        "about the proxy, and it never stands in for a run at the paper's scale.</p>",
    ]
    if not is_judged:
        parts.append(not_run_yet("Verdicts", "python scripts/claims.py"))
    parts += [f"<p>{_summary(rows)}</p>", _filters(rows), _list(rows)]
    return "\n".join(parts)


def _is_judged(row: dict[str, Any]) -> bool:
    """Whether runs here, at any scale, speak to the claim."""
    return any(_short(row[c]) != NOT_RUN for c in ("proxy_verdict", "paper_scale_verdict"))


def _summary(rows: list[dict[str, Any]]) -> str:
    proxy = Counter(_short(row["proxy_verdict"]) for row in rows)
    paper = Counter(_short(row["paper_scale_verdict"]) for row in rows)
    said = [f"{count} {esc(verdict)}" for verdict, count in proxy.items() if verdict != NOT_RUN]
    proxies = ", ".join(said) or "none judged"
    num_paper = len(rows) - paper[NOT_RUN]
    return (
        f"Of {len(rows)} claims, on proxies: <b>{proxies}</b>. At the paper's scale: "
        f"<b>{num_paper or 'none'} run here</b>."
    )


def _filters(rows: list[dict[str, Any]]) -> str:
    groups = []
    for column, label in VERDICTS.items():
        if groups == [] or len({_short(row[column]) for row in rows}) > 1:
            groups.append(_buttons(column, label, Counter(_short(r[column]) for r in rows)))
    order = {name: i for i, (name, _) in enumerate(TOPICS)}
    topics = Counter(row["topic"] for row in rows)
    ordered = {t: topics[t] for t in sorted(topics, key=lambda t: order.get(t, 99))}
    groups.append(_buttons("topic", "Topic", ordered))
    return (
        '<form class="filters" id="filters" role="search">'
        '<label>Search <input type="search" id="search" autocomplete="off" '
        'placeholder="words, e.g. batch 32K"></label>'
        f'{"".join(groups)}<p class="count" id="count" aria-live="polite">{len(rows)} claims</p>'
        "</form>"
    )


def _buttons(column: str, label: str, counts: dict[str, int]) -> str:
    buttons = "".join(
        f'<button type="button" aria-pressed="false" data-column="{esc(column)}" '
        f'data-value="{esc(value)}">{esc(value)} <small>{count}</small></button>'
        for value, count in counts.items()
        if value
    )
    group = f'<div class="chips" role="group" aria-label="{esc(label)}">'
    return f"{group}<b>{esc(label)}</b>{buttons}</div>"


def _short(verdict: object) -> str:
    """The verdict's own word: what follows a colon or bracket explains it."""
    if is_missing(verdict):
        return ""
    return str(verdict).split("(")[0].split(":")[0].split(";")[0].strip()


def _list(rows: list[dict[str, Any]]) -> str:
    heads = "".join(
        f"<th scope='col'>{h}</th>" for h in ("Claim", "Paper", "Proxy runs", "Verdict")
    )
    lines = "\n".join(_row(row) for row in rows)
    return (
        '<table class="claims" id="claims"><thead><tr>'
        f"{heads}</tr></thead><tbody>{lines}</tbody></table>"
        '<p class="nothing" id="nothing" hidden>No claim matches. '
        '<button type="button" id="reset">Show all</button></p>'
    )


def _row(row: dict[str, Any]) -> str:
    data = "".join(f' data-{c}="{esc(_short(row[c]))}"' for c in (*VERDICTS, "topic"))
    version = "" if row["version"] in ("neurips", None) else f" · {esc(row['version'])} version"
    about = ", ".join(str(row[c]) for c in ("task", "metric") if not is_missing(row[c]))
    said = row["claim"] if not is_missing(row["claim"]) else row["metric"]
    return (
        f'<tr id="{esc(row["claim_id"])}"{data}>'
        f'<td class="claim"><small>{esc(row["claim_id"])} · {esc(about)}{version}</small>'
        f"<p>{esc(said)}</p>{_details(row)}</td>"
        f'<td data-label="Paper">{_interval(row["paper_low"], row["paper_high"], row["unit"])}</td>'
        f'<td data-label="Proxy runs">{_proxy(row)}</td>'
        f'<td data-label="Verdict">{_badges(row)}</td></tr>'
    )


def _interval(low: object, high: object, unit: object) -> str:
    if is_missing(low) and is_missing(high):
        return '<span class="none">no number</span>'
    ends = [number(v, 8) for v in (low, high) if not is_missing(v)]
    are_two = "," in str(unit).partition("(")[2]  # "loss (AdamW, Lion)": a pair, not a range
    span = ends[0] if len(set(ends)) == 1 else (", " if are_two else " – ").join(ends)
    return f"<b>{esc(span)}</b> <small>{esc(unit)}</small>"


def _proxy(row: dict[str, Any]) -> str:
    if is_missing(row["proxy_estimate"]):
        return '<span class="none">none</span>'
    text = f"<b>{esc(number(row['proxy_estimate']))}</b>"
    if not is_missing(row["proxy_low"]) and not is_missing(row["proxy_high"]):
        text += f" <small>[{number(row['proxy_low'])}, {number(row['proxy_high'])}]</small>"
    n = row["proxy_n"]
    return text + ("" if is_missing(n) else f" <small>n = {esc(number(n))}</small>")


def _badges(row: dict[str, Any]) -> str:
    names = {"proxy_verdict": "proxy", "paper_scale_verdict": "paper scale"}
    badges = [_badge(label, row[column]) for column, label in names.items()]
    if not _is_judged(row):
        badges = [_badge("", NOT_RUN)]
    if not is_missing(row["paper_consistency"]):
        badges.append(_badge("numbers", row["paper_consistency"]))
    return "".join(badges)


def _badge(label: str, verdict: object) -> str:
    kind = _short(verdict).replace(" ", "-").lower()
    known = {"supported", "contradicted", "inconclusive", "consistent", "inconsistent", "not-run"}
    style = kind if kind in known else "other"
    about = f"<small>{esc(label)}</small> " if label else ""
    return f'<span class="badge {style}">{about}{esc(verdict)}</span> '


def _details(row: dict[str, Any]) -> str:
    parts = [
        f"<dt>{label}</dt><dd>{esc(row[column])}</dd>"
        for column, label in (("note", "Note"), ("cost", "Cost"), ("source", "Source"))
        if not is_missing(row[column])
    ]
    if not is_missing(row["command"]):
        parts.append(f"<dt>Command</dt><dd>{command(str(row['command']))}</dd>")
    if not parts:
        return ""
    return f"<details><summary>Details</summary><dl>{''.join(parts)}</dl></details>"
