"""The paper's figures and tables, as interactive panels from `results/paper/*.csv`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from experiments.analysis.figures.lr_wd_heatmaps import CLIP
from experiments.analysis.report import panels, paper_curves
from experiments.analysis.report.colour_scale import scale_of
from experiments.analysis.report.panels import Figure, Panel, axis, category_axis, plain
from experiments.analysis.report.paper_tables import (
    DIGITISED,
    NO_SPREAD,
    TRANSCRIBED,
    metric_name,
    read,
)


def all_figures(paper: Path) -> list[Figure]:
    """Every figure of the paper that has a table here; each says where its numbers are from."""
    makers = (
        *(batch_size, heatmaps, imagenet, comparison, jft_compute, paper_curves.diffusion),
        *(paper_curves.retrieval, paper_curves.language, in_context, glue, zero_shot),
        *(paper_curves.imagen, flatness),
    )
    return [figure for make in makers if (figure := _try(make, paper)) is not None]


def _try(make: Callable[[Path], Figure], paper: Path) -> Figure | None:
    try:
        return make(paper)
    except FileNotFoundError:
        return None


def batch_size(paper: Path) -> Figure:
    """Accuracy against batch size."""
    table = read(paper, "batch_size_ablation")
    table = table.loc[table.groupby(["optimizer", "batch_size"]).uncertainty.idxmin()]
    traces = []
    for name, mine in table.groupby("optimizer"):
        notes = [f" ± {u:g}" for u in mine.uncertainty]
        traces.append(panels.points(name, mine.batch_size, mine.value, mine.uncertainty, notes))
    ticks = sorted(table.batch_size.unique())
    layout = {
        "xaxis": axis(
            "batch size", type="log", tickvals=ticks, ticktext=[_short(t) for t in ticks]
        ),
        "yaxis": axis("top-1 accuracy, %"),
    }
    panel = Panel("ViT-B/16 on ImageNet, 300 epochs", traces, layout, "digitised")
    caption = (
        "ImageNet accuracy against batch size, epochs fixed. Both optimizers tuned at every batch "
        f"size. {DIGITISED} (4,096 and 32K: also in the text); bars are reading errors; {NO_SPREAD}"
    )
    return Figure("batch_size", "Batch size", caption, ["paper/batch_size_ablation.csv"], [panel])


def heatmaps(paper: Path) -> Figure:
    """Accuracy over learning rate and weight decay, both optimizers on one scale."""
    table = read(paper, "lr_wd_heatmap")
    table = table.assign(said=[f" ± {u:g}" for u in table.uncertainty])
    scale, drawn = scale_of(table.value, "%"), []
    for name in ("AdamW", "Lion"):
        mine = table[table.optimizer == name]
        layout = {"xaxis": axis("learning rate", type="category"), "yaxis": _decay_axis()}
        traces = panels.heatmap(mine, "value", scale, "%")
        drawn.append(Panel(f"{name}, ViT-B/16 on ImageNet", traces, layout, "digitised"))
    caption = (
        "ImageNet top-1 accuracy, %, over learning rate and weight decay, on one colour scale "
        f"that ends {CLIP:g} points below the best. "
        "Provenance: the paper's figure, digitised from its colours (± 0.05; one cell is 0.18 "
        f"from the table); {NO_SPREAD}"
    )
    sources = ["paper/lr_wd_heatmap.csv"]
    return Figure("lr_wd_heatmap", "Learning rate and weight decay", caption, sources, drawn)


def _decay_axis() -> dict[str, object]:
    return axis("weight decay", type="category")


def imagenet(paper: Path) -> Figure:
    """ImageNet from scratch and after ImageNet-21K."""
    scratch, pretrained = read(paper, "imagenet_from_scratch"), read(paper, "imagenet21k")
    scratch = scratch.assign(row=scratch.model + [_aug(v) for v in scratch.randaug_mixup])
    pretrained = pretrained.assign(row=pretrained.model + " (21K)")
    table = pd.concat([scratch, pretrained])
    drawn = _dot_panels(table, ["imagenet_top1", "real_top1", "v2_top1"], "top-1 accuracy, %")
    drawn.append(gains(table[table.metric == "imagenet_top1"], "ImageNet: Lion minus AdamW"))
    caption = (
        "ImageNet top-1 accuracy from scratch (+ aug: RandAugment and Mixup) and after "
        f"pre-training on ImageNet-21K (21K). {TRANSCRIBED}; means of 3 runs, {NO_SPREAD}"
    )
    sources = ["paper/imagenet_from_scratch.csv", "paper/imagenet21k.csv"]
    return Figure("imagenet", "ImageNet", caption, sources, drawn)


def gains(table: pd.DataFrame, title: str) -> Panel:
    """Lion's value minus AdamW's, one row per value of `row` that has both."""
    wide = table.pivot(index="row", columns="optimizer", values="value")
    wide = (
        wide.dropna(subset=["Lion", "AdamW"]).reindex(table.row.drop_duplicates()).dropna(how="all")
    )
    notes = [f" points ({a:g} and {b:g})" for a, b in zip(wide.Lion, wide.AdamW, strict=True)]
    trace = panels.dots("Lion", list(wide.index), (wide.Lion - wide.AdamW).round(3), notes)
    layout = {
        "xaxis": axis("gain, points", zeroline=True, rangemode="tozero"),
        "yaxis": category_axis(),
    }
    return Panel(title, [trace], layout, height=340)


def _aug(flag: object) -> str:
    return " + aug" if flag == "yes" else ""


def comparison(paper: Path) -> Figure:
    """Ten optimizers on two models."""
    table = read(paper, "optimizer_comparison")
    table = table[table.metric == "imagenet_top1"]
    drawn = []
    for model, mine in table.groupby("model", sort=False):
        ordered = mine.sort_values("value", ascending=False)
        traces = [
            panels.dots(name, [name], [value], [""])
            for name, value in zip(ordered.optimizer, ordered.value, strict=True)
        ]
        layout = {"xaxis": axis("top-1 accuracy, %"), "yaxis": category_axis()}
        drawn.append(
            Panel(f"{model} + aug on ImageNet", traces, layout, height=110 + 21 * len(traces))
        )
    caption = (
        "ImageNet top-1 accuracy with ten optimizers, best on top. Ablation_b is Lion with one "
        f"beta b. {TRANSCRIBED}; {NO_SPREAD}"
    )
    sources = ["paper/optimizer_comparison.csv"]
    return Figure("optimizers", "Optimizer comparison", caption, sources, drawn)


def jft_compute(paper: Path) -> Figure:
    """Accuracy against pre-training compute."""
    table = read(paper, "jft_compute")
    costs = sorted(table.pretrain_exaflops.unique())
    drawn = []
    for metric, panel in table.groupby("metric", sort=False):
        traces = []
        for name, mine in panel.groupby("optimizer"):
            notes = [f", {model}" for model in mine.model_and_budget]
            none = [0.0] * len(mine)
            flops = mine.pretrain_exaflops
            trace = panels.points(name, flops, mine.accuracy, none, notes)
            trace["error_x"] = {"type": "data", "array": mine.pretrain_exaflops_unc.tolist()}
            traces.append(trace)
        layout = {
            "xaxis": axis(
                "pre-training, exaFLOPs",
                type="log",
                tickvals=costs,
                ticktext=[f"{c:g}" for c in costs],
            ),
            "yaxis": axis("top-1 accuracy, %"),
        }
        drawn.append(Panel(metric_name(metric), traces, layout, "digitised"))
    caption = (
        "Accuracy of ViTs pre-trained on JFT-300M against the cost of pre-training. Provenance: "
        f"cost digitised (± 5 exaFLOPs), accuracy from the paper's table; {NO_SPREAD}"
    )
    return Figure(
        "jft_compute", "JFT: accuracy and compute", caption, ["paper/jft_compute.csv"], drawn
    )


def in_context(paper: Path) -> Figure:
    """One-shot averages of large language models."""
    table = read(paper, "llm_in_context")
    table = table[table.task.str.contains("average", case=False)]
    table = table.assign(metric=table.task, row=table.model_size)
    drawn = _dot_panels(table, list(table.metric.unique()), "average score, %", height=220)
    caption = f"One-shot scores of language models, averages. {TRANSCRIBED}; {NO_SPREAD}"
    sources = ["paper/llm_in_context.csv"]
    return Figure("in_context", "In-context learning", caption, sources, drawn)


def glue(paper: Path) -> Figure:
    """T5 fine-tuned on GLUE."""
    table = read(paper, "glue")
    drawn = []
    for model, mine in table.groupby("model", sort=False):
        rows = mine.metric.str.replace("_default", "").str.replace("_", " ")
        table = mine.assign(row=rows, metric=model)
        drawn += _dot_panels(table, [model], "score", height=380)
    caption = f"T5 fine-tuned on GLUE: best validation score per task. {TRANSCRIBED}; {NO_SPREAD}"
    return Figure("glue", "GLUE", caption, ["paper/glue.csv"], drawn)


def zero_shot(paper: Path) -> Figure:
    """LiT and BASIC on ImageNet without training on it."""
    lit, basic = read(paper, "lit"), read(paper, "basic")
    lit = lit[lit.metric == "imagenet_zeroshot_top1"]
    basic = basic[basic.metric == "zeroshot_imagenet"]
    table = pd.concat([lit, basic]).assign(metric="imagenet_zeroshot_top1")
    table = table.assign(row=table.model).drop_duplicates(["row", "optimizer"])
    drawn = _dot_panels(table, ["imagenet_zeroshot_top1"], "top-1 accuracy, %")
    caption = f"Zero-shot ImageNet accuracy of LiT and BASIC. {TRANSCRIBED}; {NO_SPREAD}"
    sources = ["paper/lit.csv", "paper/basic.csv"]
    return Figure("zero_shot", "Zero-shot: LiT and BASIC", caption, sources, drawn)


def flatness(paper: Path) -> Figure:
    """Training loss with and without noise on the weights."""
    table = read(paper, "landscape")
    kept = ["train_loss_L", "perturbed_train_loss_L_N"]
    table = table[table.metric.isin(kept)]
    table = table.assign(row=[metric_name(m) for m in table.metric], metric="ViT-B/16 on ImageNet")
    drawn = _dot_panels(table, ["ViT-B/16 on ImageNet"], "loss, nats", height=190)
    drawn[0].layout["xaxis"]["rangemode"] = "tozero"
    caption = (
        "Training loss at the end, and its mean under Gaussian noise on the weights. "
        f"{TRANSCRIBED}; the paper does not state the noise; {NO_SPREAD}"
    )
    return Figure("landscape", "Flatness", caption, ["paper/landscape.csv"], drawn)


def _dot_panels(
    table: pd.DataFrame, metrics: Sequence[str], label: str, height: int = 340
) -> list[Panel]:
    """One panel per metric; one row per value of `row`, one dot per optimizer."""
    drawn = []
    for metric in metrics:
        mine = table[table.metric == metric]
        traces = []
        for name in sorted(mine.optimizer.unique(), key=lambda n: n != "Lion"):
            series = mine[mine.optimizer == name]
            traces.append(panels.dots(name, series.row, series.value, [""] * len(series)))
        layout = {"xaxis": axis(label), "yaxis": category_axis(categoryarray=_rows(mine))}
        drawn.append(Panel(metric_name(metric), traces, layout, height=height))
    return drawn


def _rows(table: pd.DataFrame) -> list[str]:
    return [plain(row) for row in table.row.drop_duplicates()]


def batch_axis(sizes: Sequence[float]) -> dict[str, object]:
    """A logarithmic axis with a tick at each batch size that was tried."""
    return axis("batch size", type="log", tickvals=sizes, ticktext=[_short(s) for s in sizes])


def _short(number: float) -> str:
    return f"{number / 1024:g}K" if number >= 16384 else f"{number:g}"
