"""Tables and sentences of README.md, RESULTS.md and results/*/README.md: made, not typed.

A block stands between `<!-- numbers: NAME -->` and `<!-- end -->`; `scripts/text_tables.py` writes
it anew from the committed tables, and a test holds that it is as it would be written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import sources, text_best_ratios, text_carried_over, text_ties, tuned
from experiments.analysis.drawing.names import name_of
from experiments.analysis.markdown import NO_STUDY, SAID, interval, table, test_mean
from experiments.analysis.sources import RESULTS, proxies, study
from experiments.analysis.statistics.comparison import choose, compare, compare_equals, has_loss
from experiments.analysis.statistics.difference import Difference
from experiments.analysis.statistics.ranking import rank
from experiments.analysis.text_adamw_betas import BLOCKS as ADAMW_BETAS_BLOCKS
from experiments.analysis.text_betas import betas_signals
from experiments.analysis.text_big_vision import BLOCKS as BIG_VISION_BLOCKS
from experiments.analysis.text_families import BLOCKS as FAMILY_BLOCKS
from experiments.analysis.text_flatness import flatness_signals, hessian
from experiments.analysis.text_noise_gains import BLOCKS as NOISE_GAIN_BLOCKS
from experiments.analysis.text_plans import sharded
from experiments.analysis.text_runs import run_table
from experiments.analysis.text_search import BLOCKS as SEARCH_BLOCKS
from experiments.analysis.text_since_2023 import BLOCKS as SINCE_2023_BLOCKS
from experiments.store import UserError

BLOCK = re.compile(r"(<!-- numbers: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str, results: Path = RESULTS) -> str:
    """The text with every block as the tables of now make it.

    Raises:
        UserError: for a block that nobody makes.
    """

    def made(found: re.Match[str]) -> str:
        if found[2] not in BLOCKS:
            raise UserError(f"no block of numbers {found[2]}; there are {', '.join(BLOCKS)}")
        return f"{found[1]}{BLOCKS[found[2]](results)}\n{found[3]}"

    return BLOCK.sub(made, text)


def demo(results: Path) -> str:
    """The published comparison of `make demo`, and its verdict."""
    runs = proxies(results)["vit_proxy"]
    chosen = [choose(runs, name) for name in ("adamw", "lion")]
    heads = ("optimizer", "picked lr", "weight decay", "validation %", "test %, mean ± s.e.", "n")
    rows = [(name_of(c.optimizer), f"{c.lr:g}", f"{c.weight_decay:g}", f"{c.val_mean:.2f}",
             test_mean(c), str(c.n)) for c in chosen]  # fmt: skip
    found = compare(runs, "lion", "adamw")
    shown = {"better": "Lion is better", "worse": "Lion is worse"}
    verdict = shown.get(found.verdict, "no difference is shown")
    said = (
        f"{table(heads, rows)}\n\nLion minus AdamW, each seed with what the others picked: "
        f"{interval(found)} points (95 %): **{verdict}**."
    )
    return " ".join(filter(None, [said, text_ties.sentence(text_ties.of_parts({"": runs}))]))


def of_proxies(results: Path) -> str:
    """The other published comparisons."""
    rows = []
    for name, runs in proxies(results).items():
        if name == "vit_proxy":
            continue
        adamw, lion = choose(runs, "adamw"), choose(runs, "lion")
        found = compare(runs, "lion", "adamw")
        loss = [interval(compare(runs, "lion", "adamw", "test_loss"), 3)] if has_loss(runs) else []
        said = SAID[found.verdict]
        if found.verdict == "inconclusive" and not found.low <= 0 <= found.high:
            said += f" ({found.reason})"
        rows.append((f"`{name}`", test_mean(adamw), test_mean(lion), interval(found), *loss, said))
    heads = ["proxy", "AdamW, test %", "Lion, test %", "Lion − AdamW, points [95 %]"]
    heads += ["in test loss, nats"] if all(len(row) == 6 for row in rows) else []
    if len(heads) == 4:
        rows = [row if len(row) == 5 else (*row[:4], row[5]) for row in rows]
    others = {f"`{name}`": runs for name, runs in proxies(results).items() if name != "vit_proxy"}
    ties = [text_ties.sentence({name: one}) for name, one in text_ties.of_parts(others).items()]
    return "\n\n".join(filter(None, [table([*heads, ""], rows), *ties]))


def heatmap(results: Path) -> str:
    """The picked cells, and their difference."""
    runs = study("heatmap", results)
    if runs is None:
        return NO_STUDY
    heads = ("", "lr", "weight decay", "validation", "test")
    chosen = [choose(runs, name) for name in ("adamw", "lion")]
    rows = [(name_of(c.optimizer), f"{c.lr:g}", f"{c.weight_decay:g}", f"{c.val_mean:.2f}",
             test_mean(c)) for c in chosen]  # fmt: skip
    text = f"{table(heads, rows)}\n\n{_difference(runs)}"
    edges = [name_of(c.optimizer) for c in chosen if c.on_edge]
    text += f" On the edge of its grid: {', '.join(edges)}." if edges else ""
    return " ".join(filter(None, [text, text_ties.sentence(text_ties.of_parts({"": runs}))]))


def _difference(runs: pd.DataFrame) -> str:
    found = compare(runs, "lion", "adamw")
    text = f"Lion − AdamW: {interval(found)} points of test accuracy ({SAID[found.verdict]}"
    text += f"; the pairs correlate by {found.correlation:+.2f})".replace("-", "−")
    if has_loss(runs):
        loss = compare(runs, "lion", "adamw", "test_loss")
        text += f", {interval(loss, 3)} nats of test loss ({SAID[loss.verdict]})"
    return f"{text}."


def batch_size(results: Path) -> str:
    """Lion minus AdamW at each batch size, by accuracy and by loss; Holm's over the sizes."""
    runs = study("batch_size", results)
    if runs is None:
        return NO_STUDY
    rows = []
    for item in tuned.differences(runs, "batch_size").itertuples():
        part = runs[runs.batch_size == item.batch_size]
        loss = "–"
        if has_loss(part):
            loss = interval(compare(part, "lion", "adamw", "test_loss"), 3)
        gain = interval(compare(part, "lion", "adamw"))
        rows.append((str(item.batch_size), gain, f"{item.p_holm:.2g}", SAID[item.verdict], loss))
    heads = ("batch", "Lion − AdamW, points [95 %]", "p (Holm, all sizes)", "by accuracy",
             "in test loss, nats [95 %]")  # fmt: skip
    parts = {f"batch {size}": part for size, part in runs.groupby("batch_size")}
    ties = text_ties.sentence(text_ties.of_parts(parts), unit=" points")
    return "\n\n".join(filter(None, [table(heads, rows), ties]))


def betas(results: Path) -> str:
    """Every pair of betas."""
    runs = study("betas", results)
    if runs is None:
        return NO_STUDY
    arms = tuned.tuned(runs, ["beta1", "beta2"] + ["optimizer"])
    arms = arms.assign(double=arms.beta1 != arms.beta2).sort_values(["double", "beta1", "beta2"])
    rows = [(f"{a.beta1:g}, {a.beta2:g}", f"{a.lr:g}" + (" (edge: not tuned)" if a.on_edge else ""),
             f"{a.val_mean:.2f}", f"{a.test_mean:.2f} ± {a.test_error:.2f}")
            for a in arms.itertuples()]  # fmt: skip
    return table(("betas", "picked lr", "validation", "test"), rows)


def optimizers(results: Path) -> str:
    """All optimizers against Lion, by accuracy and by loss."""
    runs = study("optimizers", results)
    if runs is None:
        return NO_STUDY
    ranks = rank(runs, "lion")
    rows = []
    for item in ranks.to_dict("records"):
        name = name_of(item["optimizer"])
        is_lion = item["optimizer"] == "lion"
        row = [f"**{name}**" if is_lion else name, f"{item['lr']:g}", f"{item['weight_decay']:g}"]
        row += [f"{item['test_mean']:.2f} ± {item['test_error']:.2f}"]
        for prefix, digits in (("", 2), ("loss_", 3)):
            row += _against(item, prefix, digits) if f"{prefix}difference" in ranks else []
        rows.append(row)
    heads = ["", "lr", "weight decay", "test", "Lion − it, points [95 %]", "verdict"]
    heads += ["in test loss, nats", "by loss"] if "loss_difference" in ranks else []
    ties = [f"{name_of(item.optimizer)} is {'; '.join(item.remarks)}" for item in ranks.itertuples()
            if item.remarks]  # fmt: skip
    said = [f"Picks with a remark: {'. '.join(ties)}."] if ties else []
    for column, digits, unit in (("test", 2, " points"), ("test_loss", 3, " nats of test loss")):
        if column == "test" or "loss_difference" in ranks:
            others = {name_of(name): compare_equals(runs, "lion", name, column)
                      for name in ranks.optimizer if name != "lion"}  # fmt: skip
            said.append(text_ties.sentence(others, digits, unit))
    return "\n\n".join(filter(None, [table(heads, rows), *said]))


def _against(item: dict[str, Any], prefix: str, digits: int) -> list[str]:
    if item["verdict"] == "reference":
        return ["", ""]
    found = Difference(*(item[f"{prefix}{name}"] for name in ("difference", "low", "high")), 0)
    return [interval(found, digits), SAID[item[f"{prefix}verdict"]]]


ASKED = (
    ("C005", "Is tuned Lion better than tuned AdamW?", "ViT-B/16: +1.96"),
    ("C050", "Is Lion's best learning rate smaller?", "3 to 10 ×"),
    ("C051", "Is its best weight decay larger?", "3 to 10 ×"),
    ("C052", "Is Lion less sensitive to both?", "yes"),
    ("C049", "Does Lion gain with the batch size?", "yes"),
    ("C040", "Are two betas better than one?", "yes"),
    ("C037", "Is Lion the best of ten?", "yes"),
    ("C039", "Does it learn in fewer steps?", "yes"),
    ("C063", "Does Lion end in flatter regions?", "yes"),
)
ANSWERS = {"supported": "Yes", "contradicted": "No", "inconclusive": "Not shown"}


def short(results: Path) -> str:
    """The main questions, answered by results/claims.csv."""
    claims = sources.claims(results)
    rows = []
    for name, question, theirs in ASKED:
        row = claims.loc[name]
        if row.proxy_verdict not in ANSWERS:
            continue
        numbers = f"{row.proxy_estimate:.3g} [{row.proxy_low:.3g}, {row.proxy_high:.3g}]"
        said = f"{row.proxy_measure}: {numbers} {row.proxy_unit}, n = {row.proxy_n:.0f}"
        word = ANSWERS[row.proxy_verdict]
        if row.proxy_unit == "x":  # asked is whether it is larger, not whether by 3 to 10 times
            word = "Yes" if row.proxy_low > 1 else "No" if row.proxy_high < 1 else "Not shown"
        if _contradict(row):
            word = "The two contradict, at the settings found"
            said = f"{said}; {row.proxy_note.rpartition('; ')[2]}"
        answer = f"**{word}.** {said}".replace(" -", " −").replace("[-", "[−")
        rows.append((question, answer, theirs, name))
    return table(("question", "answer on `vit_proxy`", "the paper's, elsewhere", "claim"), rows)


def _contradict(row: Any) -> bool:
    """Whether two measures of one claim leave out 0 on opposite sides: the note ends with one."""
    last = str(row.proxy_note).rpartition("; ")[2]
    found = re.search(r"under noise of .*\[([-+.\de]+), ([-+.\de]+)\]$", last)
    if row.proxy_verdict != "inconclusive" or row.proxy_unit != "nats" or not found:
        return False
    low, high = (float(end) for end in found.groups())
    return (row.proxy_low > 0 and high < 0) or (row.proxy_high < 0 and low > 0)


BLOCKS: dict[str, Callable[[Path], str]] = {
    "demo": demo,
    "proxies": of_proxies,
    "short": short,
    "heatmap": heatmap,
    "batch_size": batch_size,
    "betas": betas,
    "betas_signals": betas_signals,
    "optimizers": optimizers,
    "hessian": hessian,
    "flatness_signals": flatness_signals,
    "sharded": sharded,
    "runs": run_table,
    "carried_over": text_carried_over.block,
    **text_best_ratios.BLOCKS,
    **NOISE_GAIN_BLOCKS,
    **ADAMW_BETAS_BLOCKS,
    **FAMILY_BLOCKS,
    **BIG_VISION_BLOCKS,
    **SEARCH_BLOCKS,
    **SINCE_2023_BLOCKS,
}
"""Name of a block -> what makes it."""
