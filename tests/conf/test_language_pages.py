"""The language pages and their recipes hold the paper's numbers, and its models' sizes."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import pytest
import torch

import run
from experiments.build import build
from experiments.config import RunConfig

Compose = Callable[..., RunConfig]
Row = dict[str, str]

PARAMS = {  # millions; the paper rounds to three digits
    "lm_small_wiki40b": "110.42",
    "lm_medium_wiki40b": "336.13",
    "lm_small_pg19": "110.42",
    "lm_medium_pg19": "336.13",
    "lm_large_pg19": "730.68",
    "mlm_small_c4": "110.42",
    "mlm_medium_c4": "336.13",
    "mlm_large_c4": "730.68",
    "llm_1b": "1072.84",
    "llm_2b": "2135.17",
    "llm_7b": "7491.56",
    "t5_base_glue": "222.90",
    "t5_large_glue": "737.67",
    "t5_11b_glue": "11307.32",
}
SMALL = [page for page in PARAMS if page.startswith(("lm_", "mlm_"))]
SIZE_OF = {"1b": "1.1B", "2b": "2.1B", "7b": "7.5B"}
DATA_OF = {"wiki40b": "Wiki-40B", "pg19": "PG-19", "c4": "C4"}
BASELINE_OF = {"llm": "adafactor"}  # else adamw
FLOPS = 0.4 * 312e12


def read(name: str) -> list[Row]:
    with open(run.CONF.parent / "results" / "paper" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


SETUP = {(r["experiment"], r["quantity"]): r["value"] for r in read("training_setup")}


def parts(page: str) -> tuple[str, str, str]:
    """Family, size and data of a page."""
    family, size, *data = page.split("_")
    return family, size, data[0] if data else ""


def table_rows(page: str) -> dict[str, Row]:
    """The page's rows of the hyperparameter table, by optimizer."""
    family, size, data = parts(page)
    if family == "t5":
        model = "T5-Base, Large, 11B"
    elif family == "llm":
        model = "7.5B" if size == "7b" else "1.1B & 2.1B"
    else:
        is_wiki = (size, data) == ("medium", "wiki40b")
        model = "Medium on Wiki-40B" if is_wiki else "Small; Medium on PG-19 and C4; Large"
    found = [r for r in read("hyperparameters") if r["model"] == model]
    return {row["optimizer"].lower(): row for row in found if row["version"] == "neurips"}


def recipes(page: str) -> tuple[str, str]:
    return "lion", BASELINE_OF.get(parts(page)[0], "adamw")


@pytest.mark.parametrize("page", PARAMS)
def test_recipes_train_with_the_numbers_of_the_table(page: str, composed: Compose) -> None:
    rows = table_rows(page)
    assert set(rows) == set(recipes(page))
    there = {path.stem for path in (run.CONF / "recipe" / page).glob("*.yaml")}
    assert there == set(rows)
    for optimizer, row in rows.items():
        settings = composed(f"experiment={page}", f"optimizer={optimizer}").optimizer
        assert settings["lr"] == float(row["lr"])
        assert settings["weight_decay"] == float(row["weight_decay"] or 0)
        if optimizer == "adafactor":
            betas = [settings["momentum"], settings["beta2_cap"]]
        else:
            betas = settings["betas"]
        assert betas == [float(row["beta1"]), float(row["beta2"])]
        if optimizer == "adamw":
            assert settings["eps"] == 1e-6  # the sentence on language tasks


@pytest.mark.parametrize("page", PARAMS)
def test_length_batch_and_schedule_are_those_of_the_text(page: str, composed: Compose) -> None:
    config = composed(f"experiment={page}", "optimizer=lion")
    train, (family, _, data) = config.train, parts(page)
    assert config.provenance.experiment_source and config.provenance.experiment_assumed
    assert train.micro_batch_size and train.batch_size % (8 * train.micro_batch_size) == 0
    if family == "t5":
        assert train.steps == int(SETUP["T5 fine-tuning on GLUE", "steps"])
        assert train.batch_size == int(SETUP["T5 fine-tuning on GLUE", "batch size"])
        assert config.schedule.name == SETUP["T5 fine-tuning on GLUE", "lr schedule"] == "constant"
        assert config.model["dropout_rate"] == float(table_rows(page)["lion"]["dropout"])
        assert config.task["judge_by"] == "average"
        return
    tokens = train.batch_size * config.data["length"]
    text = (run.CONF / "experiment" / f"{page}.yaml").read_text()
    assert f"{tokens:,} tokens" in text and train.steps is not None
    assert config.schedule.warmup_steps == 10_000
    if family == "llm":
        assert tokens == pytest.approx(3e6, rel=0.05)
        whole = float(SETUP["large-scale LM", "training tokens"])
        assert train.steps * tokens == pytest.approx(whole, rel=1e-5)
        assert config.data["name"] == "c4_for_glam" and "c4_for_glam" in text
        return
    small = "small-scale LM (Wiki-40B, PG-19)"
    assert tokens == int(SETUP[small, "tokens per batch"])
    assert train.steps == int(SETUP[small, "steps"])
    assert config.schedule.name == "linear"
    assert config.eval.every_steps == 2_500  # the grid of the curves
    if data != "c4":
        assert config.data["length"] == int(SETUP[DATA_OF[data], "context length"])
        unit = SETUP[DATA_OF[data], "perplexity unit"]
        assert config.task["per_word"] == unit.startswith("word")


@pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers")
@pytest.mark.parametrize("page", PARAMS)
def test_model_has_the_parameter_count_of_the_paper(page: str, composed: Compose) -> None:
    config = composed(f"experiment={page}", "optimizer=lion")
    with torch.device("meta"):
        model = build(config.model, "model")
    count = sum(p.numel() for p in model.parameters()) / 1e6
    text = (run.CONF / "experiment" / f"{page}.yaml").read_text()
    assert f"{count:.2f}" == PARAMS[page]
    assert f"({PARAMS[page]} M parameters)" in text
    family, size, _ = parts(page)
    if family == "t5":
        official = {r["model"].lower(): r["params"] for r in read("glue")}[f"t5-{size}"]
        number = float(official[:-1]) * (1000 if official.endswith("B") else 1)
        assert count == pytest.approx(number, rel=0.05)  # T5's own rounding: 220, 770 M, 11 B
        return
    name = SIZE_OF.get(size, size.capitalize())
    row = next(r for r in read("lm_architectures") if r["model"] == name)
    if row["params"].endswith("B"):
        assert f"{count / 1000:.2f}B" == row["params"]
    else:
        assert f"{count:.0f}M" == row["params"]
    shape = (row["n_layers"], row["d_model"], row["n_heads"], row["d_ff"], row["vocab"])
    model_config = config.model
    keys = (
        ("n_layer", "n_embd", "n_head")
        if family != "llm"
        else (*("num_hidden_layers", "hidden_size", "num_attention_heads"),)
    )
    ours = [model_config[key] for key in keys]
    ours += [model_config.get("intermediate_size", 4 * ours[1])]
    assert (*map(str, ours), f"{model_config['vocab_size'] // 1000}K") == shape


@cache
def header(page: str) -> str:
    found = re.match(r"(#.*\n)*", (run.CONF / "experiment" / f"{page}.yaml").read_text())
    assert found
    return found[0]


@pytest.mark.parametrize("page", PARAMS)
def test_targets_in_the_header_are_the_papers(page: str) -> None:
    family, size, data = parts(page)
    text = header(page)
    if family == "lm":
        for optimizer in ("AdamW", "Lion"):
            wanted = (DATA_OF[data], size, optimizer)
            curve = {
                int(r["step"]): float(r["log_perplexity"])
                for r in read("lm_curves")
                if (r["dataset"], r["model_size"], r["optimizer"]) == wanted
            }
            value = curve[max(curve)]
            assert max(curve) >= 122_500
            shown = re.search(rf"^#   {optimizer} +(\d\.\d\d\d)$", text, re.M)
            assert shown and float(shown[1]) == pytest.approx(value, abs=0.001)  # as digitized
    elif family == "mlm":
        for row in (r for r in read("mlm_c4") if r["model_size"] == size):
            assert re.search(rf"^#   {row['optimizer']} +{row['value']}$", text, re.M)
    elif family == "t5":
        for row in read("glue"):
            if row["model"].lower() == f"t5-{size}" and row["metric"] == "average":
                assert re.search(
                    rf"^#   {row['optimizer']} +{float(row['value']):.2f}$", text, re.M
                )
    else:
        rows = read("llm_in_context")
        for group in ("NLG", "NLU"):
            means = {
                r["optimizer"]: r["value"]
                for r in rows
                if (r["task"], r["model_size"]) == (f"Average {group}", SIZE_OF[size])
                and r["tokens_billion"] == "300"
            }
            assert f"#   {group}  {means['Adafactor']} / {means['Lion']}\n" in text


@pytest.mark.parametrize("page", [p for p in PARAMS if not p.startswith("t5")])
def test_cost_in_the_header_is_that_of_its_formula(page: str, composed: Compose) -> None:
    config = composed(f"experiment={page}", "optimizer=lion")
    assert config.train.steps is not None
    tokens = config.train.steps * config.train.batch_size * config.data["length"]
    hours = 6 * float(PARAMS[page]) * 1e6 * tokens / FLOPS / 3600
    shown = re.search(r"Cost \(estimate\): ([\d,.]+) A100-hours", header(page))
    assert shown and hours < float(shown[1].replace(",", "")) < 1.25 * hours  # attention is more
