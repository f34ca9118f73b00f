"""Claims of the paper that need more than one subtraction: trends, rankings, curves, ratios."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from experiments.analysis.claims.paper_tables import PaperCheck, Recomputed, Tables, holds
from experiments.analysis.statistics.crossing import times_sooner


def compute(ours: str, theirs: str, metric: str, ratio: float) -> PaperCheck:
    """Ours with Lion is at least as good as theirs with AdamW, at so many times less compute."""

    def check(tables: Tables) -> Recomputed:
        rows = [
            {"model_and_budget": ours, "optimizer": "Lion", "metric": metric},
            {"model_and_budget": theirs, "optimizer": "AdamW", "metric": metric},
        ]
        accuracy = [tables.value("jft_compute", row, "accuracy") for row in rows]
        cost = [tables.value("jft_compute", row, "pretrain_exaflops") for row in rows]
        text = (
            f"{metric}: {accuracy[0]:g} with Lion, {ours}, against {accuracy[1]:g} with AdamW, "
            f"{theirs}, at {cost[1] / cost[0]:.2f} x less compute (claimed {ratio:g})"
        )
        agrees = accuracy[0] >= accuracy[1] and abs(cost[1] / cost[0] / ratio - 1) < 0.12
        return Recomputed(agrees, text)

    return check


def steps_to_adamw(dataset: str, size: str, claimed: float) -> PaperCheck:
    """Steps to AdamW's last value on digitised curves, as the figure of it has them."""

    def check(tables: Tables) -> Recomputed:
        found = sooner(tables, dataset, size)
        text = f"AdamW's last value {found:.2f} x sooner (claimed {claimed:g})"
        return holds(abs(found / claimed - 1) < 0.12, text)

    return check


def sooner(tables: Tables, dataset: str, size: str) -> float:
    """How many times sooner Lion is at AdamW's last value; NaN where it never is."""
    rows = tables.rows("lm_curves", {"dataset": dataset, "model_size": size})
    curves = dict(iter(rows.rename(columns={"log_perplexity": "value"}).groupby("optimizer")))
    found = times_sooner(curves["Lion"], curves["AdamW"])
    return float("nan") if found is None else found


def sooner_with_size(tables: Tables) -> Recomputed:
    """The speed-up grows with the size of the model, on both data sets."""
    agrees, texts = True, []
    for dataset, sizes in (("PG-19", ("small", "medium", "large")),
                           ("Wiki-40B", ("small", "medium"))):  # fmt: skip
        found = [sooner(tables, dataset, size) for size in sizes]
        agrees &= found == sorted(found)
        said = ", ".join(f"{size} {x:.2f} x" for size, x in zip(sizes, found, strict=True))
        texts.append(f"{dataset}: {said}")
    return holds(agrees, "; ".join(texts))


def diffusion_steps(tables: Tables) -> Recomputed:
    where = {"resolution": "256x256", "optimizer": "Lion"}
    lion = tables.rows("diffusion_fid_curves", where)
    first = int(lion[lion.fid <= 4.7].step.min())
    return holds(first == 440_000, f"Lion at FID 4.7 at step {first} (claimed 440K of 1M)")


def diffusion_end(tables: Tables) -> Recomputed:
    best = [
        tables.rows("diffusion_fid_curves", {"resolution": "256x256", "optimizer": o}).fid.min()
        for o in ("Lion", "AdamW")
    ]
    text = f"lowest digitised FID {best[0]:g} and {best[1]:g} (claimed 4.1 and 4.7)"
    return holds(abs(best[0] - 4.1) <= 0.05 and abs(best[1] - 4.7) <= 0.05, text)


def diffusion_gap(tables: Tables) -> Recomputed:
    gaps = []
    for size in ("64x64", "128x128", "256x256"):
        rows = tables.rows("diffusion_fid_curves", {"resolution": size})
        last = rows.sort_values("step").groupby("optimizer").fid.last()
        gaps.append(last["AdamW"] - last["Lion"])
    text = f"gap at 64, 128, 256 px: {', '.join(f'{g:.2f}' for g in gaps)}"
    return holds(gaps == sorted(gaps), text)


def retrieval(tables: Tables) -> Recomputed:
    gains = []
    for direction in ("img2txt", "txt2img"):
        for metric in ("R@1", "R@10"):
            where = {"dataset": "Flickr30K", "direction": direction, "metric": metric}
            rows = tables.rows("retrieval_curves", where)
            last = rows.sort_values("step").groupby("optimizer").value.last()
            gains.append(last["Lion"] - last["AdamW"])
    claimed = (1.70, 0.60, 2.14, 0.20)
    agrees = all(abs(g - c) < 0.03 for g, c in zip(gains, claimed, strict=True))
    return holds(agrees, f"digitised gains {', '.join(f'{g:.2f}' for g in gains)}")


def beats_palm(tables: Tables) -> Recomputed:
    where = {"group": "average"}
    pairs = []
    for group in ("NLG", "NLU"):
        row = {**where, "task": f"Average {group}"}
        ours = tables.value(
            "llm_in_context", {**row, "model_size": "7.5B", "optimizer": "Adafactor"}
        )
        theirs = tables.value("llm_in_context", {**row, "optimizer": "PaLM (reference)"})
        pairs.append((group, ours, theirs))
    text = "; ".join(f"{g}: {a:g} against {b:g}" for g, a, b in pairs)
    return holds(all(a > b for _, a, b in pairs), text)


def glue_wins(tables: Tables) -> Recomputed:
    wins = {}
    for model in ("T5-Base", "T5-Large", "T5-11B"):
        rows = tables.rows("glue", {"model": model})
        wide = rows[rows.metric != "average"].pivot(
            index="metric", columns="optimizer", values="value"
        )
        wins[model] = int((wide.Lion >= wide.AdamW).sum())
    text = ", ".join(f"{m} {n}" for m, n in wins.items())
    return holds(list(wins.values()) == [10, 12, 10], f"scores of 12: {text}")


def ranking(tables: Tables) -> Recomputed:
    firsts, seconds = [], []
    for model in ("ViT-S/16", "ViT-B/16"):
        where = {"model": model, "metric": "imagenet_top1"}
        rows = tables.rows("optimizer_comparison", where).sort_values("value", ascending=False)
        firsts.append(rows.optimizer.iloc[0])
        seconds.append(rows.optimizer.iloc[1])
    text = f"first {firsts[0]}, {firsts[1]}; second {seconds[0]}, {seconds[1]}"
    return holds(firsts == ["Lion", "Lion"] and seconds[0] != seconds[1], text)


ADAPTIVE = ("AdamW", "RAdam", "NAdam", "AdaBelief", "AMSGrad")


def all_below(lower: Sequence[str], upper: Sequence[str]) -> PaperCheck:
    """Each of some optimizers is worse than each of the others, on both ViTs."""

    def check(tables: Tables) -> Recomputed:
        agrees, texts = True, []
        for model in ("ViT-S/16", "ViT-B/16"):
            rows = tables.rows("optimizer_comparison", {"model": model, "metric": "imagenet_top1"})
            values = rows.set_index("optimizer").value
            best, worst = values[list(lower)].max(), values[list(upper)].min()
            agrees &= best < worst
            texts.append(f"{model}: best {best:g} of {len(lower)}, worst {worst:g} of the others")
        return holds(agrees, "; ".join(texts))

    return check


def by_batch(tables: Tables) -> pd.DataFrame:
    rows = tables.read("batch_size_ablation")
    return rows.groupby(["batch_size", "optimizer"]).value.mean().unstack()


def best_batch(tables: Tables) -> Recomputed:
    best = by_batch(tables).idxmax()
    text = f"best at {best.AdamW} for AdamW, {best.Lion} for Lion"
    return holds((best.AdamW, best.Lion) == (256, 4096), text)


def batch_gain(size: int, claimed: float) -> PaperCheck:
    def check(tables: Tables) -> Recomputed:
        row = by_batch(tables).loc[size]
        gain = row.Lion - row.AdamW
        text = f"{row.Lion:.2f} - {row.AdamW:.2f} = {gain:+.2f} (claimed {claimed:+g})"
        return holds(abs(gain - claimed) < 0.06, text)

    return check


def batch_trend(tables: Tables) -> Recomputed:
    table = by_batch(tables)
    gains = (table.Lion - table.AdamW).tolist()
    text = f"gain from batch 64 to 32K: {', '.join(f'{g:+.2f}' for g in gains)}"
    return holds(gains == sorted(gains), text)


def _ratios(tables: Tables, column: str, over: str = "AdamW") -> pd.Series:
    """AdamW (or another) over Lion, per model of the later version's hyper-parameter table."""
    rows = tables.rows("hyperparameters", {"version": "neurips"})
    rows = rows[rows.optimizer.isin([over, "Lion"]) & (rows.group != "README example")]
    keys = ["group", "model", "resolution", "randaug_magnitude", "dropout"]
    wide = rows.pivot_table(index=keys, columns="optimizer", values=column, dropna=False)
    return (wide[over] / wide.Lion).dropna()


def lr_ratio(tables: Tables) -> Recomputed:
    """AdamW's lr over Lion's lies in 3 to 10; Adafactor's, which the claim leaves out, beside.

    A row's lr x weight decay stands in a column of its own, so a changed lr shows there.
    """
    found, other = _ratios(tables, "lr"), _ratios(tables, "lr", "Adafactor")
    text = f"AdamW over Lion: {_counted(found)}; Adafactor over Lion: {_counted(other)}"
    rows = tables.rows("hyperparameters", {"version": "neurips"})
    rows = rows[rows.optimizer.isin(["AdamW", "Lion", "Adafactor"])]
    products = (rows.lr * rows.weight_decay / rows.effective_wd).dropna()
    agrees = found.min() >= 2.999 and found.max() <= 10.001 and products.between(0.99, 1.01).all()
    if not other.between(2.999, 10.001).all():
        text += " (outside 3 to 10)"
    if not products.between(0.99, 1.01).all():
        text += "; a row's lr x weight decay is not what its own column says"
    return holds(agrees, text)


def _counted(ratios: pd.Series) -> str:
    """Every ratio with the number of rows that have it."""
    counts = ratios.round(1).value_counts().sort_index()
    return ", ".join(f"{ratio:g} x in {count}" for ratio, count in counts.items())


def decay_ratio(tables: Tables) -> Recomputed:
    found, product = 1 / _ratios(tables, "weight_decay"), _ratios(tables, "effective_wd")
    text = (
        f"weight decay, Lion over AdamW: {found.min():.3g} to {found.max():.3g}; "
        f"lr x weight decay, AdamW over Lion: {product.min():.3g} to {product.max():.3g}"
    )
    same = product.between(0.99, 1.01).mean()
    text += f", equal in {100 * same:.0f} % of {len(product)} rows"
    return holds(found.min() >= 2.999 and found.max() <= 10.001 and same > 0.5, text)


def heatmap(tables: Tables) -> Recomputed:
    spans = tables.read("lr_wd_heatmap").groupby("optimizer").value.agg(["min", "max"])
    text = "; ".join(f"{o}: {s['min']:g} to {s['max']:g}" for o, s in spans.iterrows())
    span = spans["max"] - spans["min"]
    return holds(span.Lion < span.AdamW, f"{text} (one run per cell, digitised)")


def memory_of_betas(tables: Tables) -> Recomputed:
    """An average with beta remembers about 1 / (1 - beta) steps: Lion's two betas as published."""
    rows = tables.rows("hyperparameters", {"optimizer": "Lion", "group": "scratch ImageNet"})
    pairs = rows[["beta1", "beta2"]].drop_duplicates()
    factors = sorted({round((1 - b1) / (1 - b2), 6) for b1, b2 in pairs.to_numpy()})
    text = "; ".join(f"betas {b1:g}, {b2:g}" for b1, b2 in pairs.to_numpy())
    said = ", ".join(f"{factor:g} x" for factor in factors)
    return holds(factors == [10.0], f"{text}: {said} (claimed 10 x)")
