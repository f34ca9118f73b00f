"""A plan against counts by hand, real steps of the same model, and the pages' headers."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import run
from experiments import sharding
from experiments.compose import compose
from experiments.config import JOBS, ConfigError, RunConfig
from experiments.distributed import World
from experiments.planner import in_words, memory, model_facts, plan
from experiments.planner.live_bytes import LiveBytes
from experiments.planner.memory import Activations, Parts
from experiments.planner.stand_ins import num_steps, task_without_data
from experiments.planner.trial import Blank

ROOT = Path(run.__file__).parent


def config(page: str, *changes: str) -> RunConfig:
    return compose([f"experiment={page}", "job=plan", *changes])


SAVING = "+model.activation_checkpointing=true"


@pytest.fixture(scope="module")
def proxy() -> dict[str, Any]:
    return plan.make(config("vit_proxy"))


def test_flops_of_a_vit_are_those_counted_by_hand() -> None:
    """Per image; attention goes back with 5 products for 2, the patches need no input gradient."""
    asked = config("vit_s16_imagenet")
    found = Blank(task_without_data(asked), asked, on_gpu=True).trial(2, False)
    width, depth, tokens, patches = 384, 12, 197, 196
    patch = 2 * patches * 3 * 16 * 16 * width
    linear = depth * 2 * tokens * 12 * width**2
    attention = depth * 4 * tokens**2 * width
    head = 2 * width * 1000
    forth_and_back = 2 * patch + 3 * linear + 3.5 * attention + 3 * head
    assert found.flops == 2 * forth_and_back
    assert found.flops_again == 0


def test_flops_of_a_language_model_and_what_checkpointing_computes_again() -> None:
    asked = config("lm_proxy")
    found = plan.make(asked)
    tokens, width, depth, vocab = 32, 32, 2, 67
    linear = 2 * tokens * (depth * 12 * width**2 + width * vocab)
    attention = depth * 4 * tokens**2 * width
    assert found["flops_per_step"] == 16 * (3 * linear + 3.5 * attention)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_grouped_convolution_goes_back_with_twice_its_flops(groups: int) -> None:
    model = nn.Conv2d(8, 8, 3, groups=groups, bias=False)
    images = torch.zeros(2, 8, 6, 6, requires_grad=True)
    with LiveBytes(model) as live:
        out = model(images)
        forward = live.flops
        out.sum().backward()
    assert forward == 2 * 2 * 4 * 4 * 8 * (8 // groups) * 9
    assert live.flops == 3 * forward


def test_state_is_what_the_optimizers_hold(proxy: dict[str, Any]) -> None:
    number, state = proxy["params_total"], proxy["optimizer_state_bytes"]
    assert state["lion"] == 4 * number
    assert state["lion_bf16"] == 2 * number
    assert number < state["lion_int8"] < 1.05 * number  # small tensors have a scale of their own
    assert 8 * number < state["adamw"] < 8 * number + 1000  # and a count of steps for each tensor
    assert 2 * number < state["adafactor"] < 3 * number  # momentum in bf16, factored second moment


def test_an_optimizer_that_must_be_told_that_it_trains_is_counted() -> None:
    found = plan.make(config("vit_proxy", "optimizer=schedulefree", "optimizer.lr=1e-3"))
    assert found["memory_bytes"]["optimizer_state"] == 2 * 4 * found["params_total"]  # z and v


def test_memory_is_that_of_a_real_step_to_the_byte() -> None:
    from torch.profiler import profile

    asked = config("vit_proxy", "train.batch_size=16")
    task = task_without_data(asked)
    predicted = Blank(task, asked, on_gpu=False).trial(16, False)
    model = task.build_model().train()
    batch = tuple(torch.zeros(t.shape, dtype=t.dtype) for t in task.example_batch(16))
    with profile(profile_memory=True) as profiler:
        task.loss(model, batch, World(0, 1, torch.device("cpu"))).mean.backward()
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    live = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    assert predicted.peak == peak


def test_checkpointing_takes_less_memory_and_more_flops() -> None:
    asked = config("vit_s16_imagenet")
    blank = Blank(task_without_data(asked), asked, on_gpu=True)
    plain = blank.trial(4, True)
    blank.checkpoint(True)
    saving = blank.trial(4, True)
    assert saving.activations < 0.35 * plain.activations
    assert saving.flops == plain.flops
    assert 0.9 * plain.flops / 3 < saving.flops_again < plain.flops / 3


@pytest.mark.parametrize("changes", [[], ["task.loss_chunk=8"], [SAVING]])
def test_only_checkpointed_blocks_let_their_casts_go(changes: list[str]) -> None:
    low = ["train.precision=bf16", "launch.device=cuda", "launch.num_processes=2"]
    found = plan.make(config("t5_proxy", *low, *changes))["memory_bytes_by_strategy"]
    ratio = found["fsdp"]["cast_weights"] / found["ddp"]["cast_weights"]
    assert (ratio < 0.9) if SAVING in changes else (ratio == 1)


def test_on_a_gpu_layer_norms_are_float32_and_attention_holds_no_scores() -> None:
    """A page's bf16 step: what is kept per token and block, in bytes of its width."""
    asked = config("vit_b16_imagenet")
    blank = Blank(task_without_data(asked), asked, on_gpu=True)
    each = Activations.through({n: blank.trial(n, True).activations for n in (2, 4)})
    scores = 12 * 12 * 197**2 * 2
    assert each.each < 95e6  # 12 blocks x 197 tokens x 768 x about 50 bytes
    assert each.each > 12 * 197 * 768 * 40
    assert scores > 11e6  # which would come on top, without fused attention


@pytest.fixture(scope="module")
def plans() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plans_script", ROOT / "scripts/plans.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(fixed: int, each: int) -> Activations:
    return Activations.through({size: fixed + each * size for size in (1, 2)})


PARTS = Parts(
    weights=400, gradients=400, optimizer_state=800, ema=0, shown=0, cast_weights=200,
    optimizer_step=0, rest=50, block=40, activations=line(10, 5), batch=line(0, 1),
)  # fmt: skip


def test_strategies_share_what_they_share() -> None:
    ddp, zero1, zero2, fsdp = (PARTS.on_device(way, 4, 2) for way in memory.STRATEGIES)
    assert ddp["total"] == 400 + 400 + 800 + 200 + 20 + 2
    assert zero1["total"] == ddp["total"] - 600
    assert zero2["total"] == zero1["total"] - 300
    assert fsdp["total"] == 100 + 100 + 200 + (50 + 2 * 40) + 50 + 200 + 20 + 2
    saving = replace(PARTS, frees_casts=True).on_device("fsdp", 4, 2)
    assert saving["cast_weights"] == 45 and saving["total"] == fsdp["total"] - 155
    single = replace(PARTS, rest=400, block=0).on_device("fsdp", 4, 2)
    assert single["gathered"] == 400 + 400  # no block is there to come
    alone = {way: PARTS.on_device(way, 1, 2)["total"] for way in memory.STRATEGIES}
    assert len(set(alone.values())) == 1


def test_the_fewest_devices_fit_and_one_less_does_not() -> None:
    for strategy in ("zero2", "fsdp"):
        number = memory.devices_to_fit(PARTS, strategy, 900, 64, None)
        assert number is not None and number > 1
        for tried, fits in ((number, True), (number // 2, False)):
            size = memory.micro_batch(64, None, tried)
            assert size and (PARTS.on_device(strategy, tried, size)["total"] <= 900) == fits
    assert memory.devices_to_fit(PARTS, "ddp", 900, 64, None) is None
    assert memory.micro_batch(64, 12, 8) == 8 and memory.micro_batch(64, 3, 8) == 2
    assert memory.micro_batch(64, None, 7) is None
    assert memory.largest_micro_batch(PARTS, 1900, 64) == 15


@pytest.mark.parametrize("asked", [None, 16])
def test_more_memory_sharing_or_checkpointing_never_needs_more_devices(asked: int | None) -> None:
    saving = replace(PARTS, activations=line(10, 1), frees_casts=True)
    last: dict[str, int] = {}
    for capacity in range(400, 2400, 50):
        needed = {
            way: memory.devices_to_fit(PARTS, way, capacity, 64, asked) or 10**9
            for way in memory.STRATEGIES
        }
        ways = list(memory.STRATEGIES)
        assert all(needed[a] >= needed[b] for a, b in zip(ways, ways[1:], strict=False))
        assert all(needed[way] <= last.get(way, 10**9) for way in ways)
        for way in ways:
            found = memory.devices_to_fit(saving, way, capacity, 64, asked)
            assert (found or 10**9) <= needed[way]
        last = needed
    assert last["ddp"] == 1


def test_activations_grow_with_the_examples_even_where_few_of_them_cost_nothing() -> None:
    """Up to 10 examples something else is the most: not so for ever."""
    counted = Activations.through({size: max(100, 10 * size) for size in (1, 4, 8, 64, 128)})
    assert [counted.at(size) for size in (1, 3, 4, 8, 64, 1000)] == [
        100,
        100,
        100,
        100,
        640,
        10_000,
    ]
    assert counted.each == 10
    assert all(counted.at(size) >= max(100, 10 * size) for size in range(1, 200))


def test_many_examples_are_counted_where_the_embedding_decides_of_few() -> None:
    """Of 16 sequences or fewer the gradient of the embedding is the most."""
    large = ["launch.device=cuda", "train.precision=bf16", "model.vocab_size=8192"]
    asked = config("lm_proxy", *large, "task.loss_chunk=8", "train.batch_size=64")
    blank = Blank(task_without_data(asked), asked, on_gpu=True)
    few, two, many, most = (blank.trial(number, False).activations for number in (1, 2, 32, 64))
    assert few == two < many
    asked.train.micro_batch_size = 1
    found = plan.parts_by_optimizer(asked)["lion"].activations
    assert found.at(1) == few and found.at(64) == pytest.approx(most, rel=0.02)


def test_the_table_needs_no_more_where_memory_or_sharing_is_more() -> None:
    for row in TABLE:
        ddp, fsdp = (
            [int(row[f"{way}_devices_of_{size}_gb"] or 10**9) for size in (24, 80)]
            for way in ("ddp", "fsdp")
        )
        assert fsdp[0] <= ddp[0] and fsdp[1] <= ddp[1], row["experiment"]
        assert ddp[1] <= ddp[0] and fsdp[1] <= fsdp[0], row["experiment"]


@pytest.mark.parametrize("page", ["vit_s16_imagenet", "llm_1b"])
def test_blocks_are_those_that_training_shards(page: str) -> None:
    asked = config(page)
    with torch.device("meta"):
        model = task_without_data(asked).build_model()
    rest, block = model_facts.rest_and_block(model)
    found = sharding.blocks(model)
    assert len(found) > 1 and rest + block * len(found) == model_facts.num_bytes(model.parameters())


def test_groups_name_the_parts_and_count_shared_weights_once(proxy: dict[str, Any]) -> None:
    assert sum(proxy["params_by_group"].values()) == proxy["params_total"] == 39_322
    model = nn.ModuleDict({"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)})
    model["b"].weight = model["a"].weight
    assert model_facts.groups(model) == {"a": 16}


def test_json_is_one_object_with_what_is_promised(
    capsys: pytest.CaptureFixture[str], proxy: dict[str, Any]
) -> None:
    assert run.run_job(config("vit_proxy", "plan.format=json")) == 0
    found = json.loads(capsys.readouterr().out)
    promised = "experiment optimizer params_total params_trained steps examples flops_per_step"
    promised += " memory_bytes devices_to_fit device_hours"
    assert set(promised.split()) <= set(found)
    assert found == json.loads(json.dumps(proxy))
    assert found["examples"] == found["steps"] * 64


def test_text_names_parts_optimizers_and_cards(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.run_job(config("lm_proxy", "launch.num_processes=2", "optimizer=adafactor")) == 0
    said = capsys.readouterr().out
    for word in ("optimizer state", "activations", "fsdp", "lion_int8", "H100-80GB", "in all"):
        assert word in said
    linear, attention = 2 * 32 * (2 * 12 * 32**2 + 32 * 67), 2 * 4 * 32**2 * 32
    flops = in_words._short(16 * (3 * linear + 3.5 * attention))  # of the batch, whoever computes
    assert f"FLOPs of a step    {flops}\n" in said


def test_data_need_not_be_there_but_only_the_text_knows_its_epochs() -> None:
    asked = config("lm_small_wiki40b", "train.steps=null", "train.epochs=2")
    with pytest.raises(ConfigError, match=r"set train.steps=NUMBER"):
        num_steps(asked, task_without_data(asked))


def test_features_that_are_not_there_cannot_be_counted() -> None:
    with pytest.raises(ConfigError, match="plan with task.cache_features=false, whose steps run"):
        plan.make(config("lit_proxy", "task.cache_features=true"))


def test_frozen_parameters_have_no_gradients_and_no_state() -> None:
    found = plan.make(config("vit_proxy", "param_groups.frozen=[blocks.*]"))
    trained = found["params_trained"]
    assert trained == found["params_total"] - found["params_by_group"]["blocks"]
    assert found["memory_bytes"]["gradients"] == found["memory_bytes"]["optimizer_state"]
    assert found["memory_bytes"]["gradients"] == 4 * trained


def test_jobs_are_in_the_help_and_in_the_message_for_a_misspelt_one() -> None:
    with pytest.raises(ConfigError, match="job=plna") as raised:
        compose(["job=plna"])
    for job in (*JOBS, "compare"):
        assert job in str(raised.value)
        assert job == "train" or f"job={job}" in run.HELP


TABLE = list(csv.DictReader((ROOT / "results/plan.csv").read_text().splitlines()))
HEADERS = {
    row["experiment"]: (run.CONF / "experiment" / f"{row['experiment']}.yaml").read_text()
    for row in TABLE
}


def test_every_page_is_in_the_table() -> None:
    there = {path.stem for path in (run.CONF / "experiment").glob("*.yaml")}
    in_table = {row["experiment"] for row in TABLE}
    assert there == in_table


def test_pairs_need_no_tokenizer_to_be_counted() -> None:
    asked = config("lit_b32_b", "model.text.pad_id=7")
    images, tokens = task_without_data(asked).example_batch(2)
    assert (images.shape, tokens.shape) == ((2, 3, 224, 224), (2, 16))
    with torch.device("meta"):
        task_without_data(asked).build_model()
    assert num_steps(asked, task_without_data(asked)) == asked.train.steps


@pytest.mark.parametrize("page", ["vit_proxy", "lm_proxy", "diffusion_proxy"])
def test_table_is_current(page: str, plans: ModuleType) -> None:
    (there,) = [row for row in TABLE if row["experiment"] == page]
    assert {k: str(v) for k, v in plans.row(page).items()} == there


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["experiment"])
def test_headers_have_their_cost_from_the_table(row: dict[str, str]) -> None:
    said = re.search(r"([\d.,]+) A100-hours a run", HEADERS[row["experiment"]])
    if said is None:
        assert row["experiment"].endswith("proxy") or row["experiment"] in NO_COST
        return
    if row["experiment"].startswith("t5_"):
        return  # the header is for pairs of 64 tokens, the table for the longest
    assert float(said[1].replace(",", "")) == pytest.approx(float(row["a100_hours"]), rel=0.06)


NO_COST = {"fashion", "imagen_base64", "imagen_sr256"}


def test_what_was_measured_is_within_ten_per_cent_of_what_was_predicted() -> None:
    rows = list(csv.DictReader((ROOT / "results/bench/memory.csv").read_text().splitlines()))
    assert {row["experiment"] for row in rows} >= {"vit_s16_imagenet", "vit_b16_imagenet"}
    for row in rows:
        predicted, measured = float(row["predicted_bytes"]), float(row["measured_bytes"])
        off = 100 * (predicted - measured) / measured
        assert float(row["deviation_percent"]) == pytest.approx(off, abs=0.06)
        assert abs(off) <= 10
