"""Many optimizers against one, over paired seeds, with a correction for asking many times."""

from __future__ import annotations

import pandas as pd

from experiments.analysis.statistics.comparison import choose, paired_difference, paired_values
from experiments.analysis.statistics.power import ALPHA
from experiments.analysis.statistics.uncertainty import holm, paired_test


def rank(results: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Compares each optimizer's chosen setting with the reference's.

    Args:
        results: A study, or `comparison.final_results`.
        reference: The optimizer that the others are compared with.

    Returns:
        One row per optimizer, best test mean first: the numbers of `comparison.Chosen`;
        difference (reference minus this one, points) with its 95 % interval low, high and n
        pairs; p_t of the paired t-test and p_holm, adjusted for all optimizers; p_sign_flip;
        verdict on the reference: better, worse or inconclusive, by p_holm.

    Raises:
        ValueError: where an optimizer has no setting that finished with every seed.
    """
    chosen = {name: choose(results, name) for name in sorted(results.optimizer.unique())}
    if reference not in chosen:
        raise ValueError(f"no runs of {reference}; there are {', '.join(chosen)}")
    rows = []
    for name, setting in chosen.items():
        row = {**vars(setting), "num_seeds": setting.n}
        if name != reference:
            difference = paired_difference(results, chosen[reference], setting)
            pairs = paired_values(results, chosen[reference], setting)
            test = paired_test(pairs.ours, pairs.theirs)
            row |= {"difference": difference.mean, "low": difference.low, "high": difference.high}
            row |= {"num_pairs": test.n, "p_t": test.p_t, "p_sign_flip": test.p_sign_flip}
            row["sd"] = test.sd
        rows.append(row)
    table = pd.DataFrame(rows).drop(columns="n")
    others = table.optimizer != reference
    if others.any():
        table.loc[others, "p_holm"] = holm(table.p_t[others])
        pairs = zip(table.difference, table.p_holm, strict=True)
        table["verdict"] = [_verdict(d, p) for d, p in pairs]
    return table.sort_values("test_mean", ascending=False, ignore_index=True)


def _verdict(difference: float, p_holm: float) -> str:
    if p_holm != p_holm:
        return "reference"
    if p_holm >= ALPHA:
        return "inconclusive"
    return "better" if difference > 0 else "worse"
