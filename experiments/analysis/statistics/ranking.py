"""Many optimizers against one, over paired seeds, with a correction for asking many times."""

from __future__ import annotations

import pandas as pd

from experiments.analysis.statistics.comparison import choose, compare, has_loss
from experiments.analysis.statistics.difference import ALPHA, NOT_TUNED
from experiments.analysis.statistics.uncertainty import holm
from experiments.headline import of_table


def rank(results: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Compares each tuned optimizer with the reference, as `comparison.compare` does.

    The exact test is a guard against tiny samples and odd distributions; it is not corrected for
    the number of questions. Student's p is, by Holm's method.

    Args:
        results: A study, or `comparison.final_results`.
        reference: The optimizer that the others are compared with.

    Returns:
        One row per optimizer, best test mean first: the numbers of `comparison.Chosen`; difference
        (reference minus this one, one seed left out of each pick) with its 95 % interval low, high,
        sd, correlation and num_pairs; p_t of the paired t-test and p_holm, adjusted for all
        optimizers; p_exact; verdict on the reference: better, worse, inconclusive or
        not tuned, by p_holm. Where the loss was measured beside another headline, also
        loss_difference, loss_low, loss_high, loss_p_holm and loss_verdict.

    Raises:
        ValueError: where an optimizer has no setting that finished with every shared seed.
    """
    chosen = {name: choose(results, name) for name in sorted(results.optimizer.unique())}
    if reference not in chosen:
        raise ValueError(f"no runs of {reference}; there are {', '.join(chosen)}")
    with_loss = has_loss(results)
    rows = []
    for name, setting in chosen.items():
        row = {**vars(setting), "num_seeds": setting.n, "verdict": "reference"}
        if name != reference:
            row |= _judged(results, reference, name)
            if with_loss:
                found = _judged(results, reference, name, "test_loss")
                row |= {f"loss_{key}": value for key, value in found.items()}
        rows.append(row)
    table = pd.DataFrame(rows).drop(columns="n")
    for prefix in ("", "loss_") if with_loss else ("",):
        _correct(table, prefix)
    ascending = of_table(results).better == "lower"
    return table.sort_values("test_mean", ascending=ascending, ignore_index=True)


def _judged(results: pd.DataFrame, reference: str, name: str, column: str = "test") -> dict:
    found = compare(results, reference, name, column)
    return {
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "sd": found.sd,
        "correlation": found.correlation,
        "num_pairs": found.n,
        "p_t": found.p_t,
        "p_exact": found.p_exact,
        "verdict": found.verdict,
    }


def _correct(table: pd.DataFrame, prefix: str) -> None:
    """Adds p_holm; what it does not show is inconclusive."""
    others = table[f"{prefix}p_t"].notna() if f"{prefix}p_t" in table else table.optimizer.isna()
    if not others.any():
        return
    p_holm, verdict = f"{prefix}p_holm", f"{prefix}verdict"
    table.loc[others, p_holm] = holm(table.loc[others, f"{prefix}p_t"])
    lost = others & (table[p_holm] >= ALPHA) & (table[verdict] != NOT_TUNED)
    table.loc[lost, verdict] = "inconclusive"
