"""Bytes by hand: what each way of sharing splits, what a step adds, how many devices hold it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from experiments.planner import claim, in_words, memory, plan, stand_ins
from experiments.planner.memory import Activations, Parts

PARTS = Parts(
    weights=400, gradients=400, optimizer_state=800, ema=120, shown=0, cast_weights=200,
    optimizer_step=600, rest=50, block=40,
    activations=Activations.through({1: 15, 2: 20}), batch=Activations.through({1: 1, 2: 2}),
)  # fmt: skip


def test_averages_and_the_step_are_shared_and_a_step_adds_what_nothing_else_had_held() -> None:
    ways = {way: PARTS.on_device(way, 4, 2) for way in memory.STRATEGIES}
    always = 200 + 20 + 2  # casts, activations, batch
    assert ways["ddp"]["total"] == 400 + 400 + 800 + 120 + always + (600 - 200 - 20)
    assert ways["zero1"]["total"] == 400 + 400 + 200 + 30 + always
    assert ways["zero2"]["total"] == 400 + 100 + 200 + 30 + always
    assert ways["fsdp"]["total"] == 100 + 100 + 200 + 30 + (50 + 2 * 40) + 50 + always
    large = replace(PARTS, optimizer_step=4000).on_device("fsdp", 4, 2)
    assert large["total"] == ways["fsdp"]["total"] + 1000 - 200 - 180 - 20
    odd = replace(PARTS, weights=401).on_device("fsdp", 4, 2)
    assert odd["weights"] == 101, "the largest share"
    assert PARTS.checkpoint == 400 + 800 + 120


def test_the_fewest_devices_are_any_number_that_divides_the_batch() -> None:
    plain = replace(PARTS, optimizer_step=0)
    fixed = 400 + 400 + 800 + 120 + 200
    assert memory.devices_to_fit(plain, "ddp", fixed + 10 + 6 * 4, 12, None) == 3
    assert memory.devices_to_fit(plain, "ddp", fixed + 10 + 6 * 4 - 1, 12, None) == 4
    assert memory.devices_to_fit(plain, "ddp", fixed + 16, 12, 1) == 1
    assert memory.devices_to_fit(plain, "ddp", fixed + 16, 12, None) == 12
    assert memory.largest_micro_batch(plain, fixed + 10 + 6 * 4, 12) == 4, "to the last byte"


def test_the_most_at_a_time_is_in_the_pass_or_in_the_step() -> None:
    kept = 400 + 800 + 120 + 2

    def peak(passing: int, accumulates: bool = False) -> int:
        trial: Any = SimpleNamespace(peak=passing)
        return plan._peak(PARTS, trial, 2, accumulates)

    assert peak(5000) == kept + 5000
    assert peak(5000, accumulates=True) == kept + 5000 + 400, "of the micro-batches before"
    assert peak(10) == kept + 400 + 600


def test_a_group_of_hybrid_sharding_is_a_host() -> None:
    def shared(devices: int, size: int | None, strategy: str = "hsdp") -> dict[str, Any]:
        launch = SimpleNamespace(strategy=strategy, shard_size=size, num_processes=devices)
        config: Any = SimpleNamespace(launch=launch)
        return plan._in_groups(PARTS, config, 2)

    for devices, size, group in ((64, None, 8), (4, None, 4), (64, 16, 16)):
        assert shared(devices, size) == {"hsdp": PARTS.on_device("fsdp", group, 2)}
    assert shared(64, None, "ddp") == {}


@pytest.mark.parametrize(("epochs", "steps"), [(1.5, 93), (0.995, 62), (0.99, 61), (1e-6, 1)])
def test_steps_are_those_that_the_run_takes(epochs: float, steps: int) -> None:
    """As `experiments.parts` counts them: of 62 whole batches of 64 in 4,000 examples."""
    train = SimpleNamespace(steps=None, epochs=epochs, batch_size=64)
    config: Any = SimpleNamespace(train=train, data={"_target_": "x"}, seed=0)
    task: Any = SimpleNamespace(num_train=4000)
    assert stand_ins.num_steps(config, task) == steps


def test_hours_are_those_of_the_units_that_are_used() -> None:
    config: Any = SimpleNamespace(plan=SimpleNamespace(peak_fraction=0.5))
    flops = 312 * 10**12 * 3600
    low, high = (plan.device_hours(config, flops, is_low) for is_low in (True, False))
    assert low["A100-80GB"] == 2.0 and high["A100-80GB"] == pytest.approx(32.0)
    assert low["TPUv4-32GiB"] and high["TPUv4-32GiB"] is None


def test_the_claim_on_chips_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chip holds weights, gradients and state whole, and its share of the batch."""
    model = nn.Linear(10**4, 10**4, bias=False, device="meta")

    def trial(size: int, has_gradients: bool) -> Any:
        assert has_gradients
        return SimpleNamespace(activations=10**6 + 65 * 10**6 * size, cast_weights=10**6)

    blank = SimpleNamespace(trial=trial, model=model)
    monkeypatch.setattr(claim, "Blank", lambda *_, **__: blank)
    monkeypatch.setattr(claim, "task_without_data", lambda config: None)
    config: Any = SimpleNamespace(train=SimpleNamespace(batch_size=4096))
    found = {(row["state"], row["chips"]): row for row in claim.work_out(config)}
    kept = {"two moments": 14 * 10**8 + 10**6, "one momentum": 10 * 10**8 + 10**6}
    for (state, chips), row in found.items():
        images = 4096 // chips
        may = (32 * 2**30 - kept[state]) / images
        assert (row["images_a_chip"], row["bytes_without_images"]) == (images, kept[state])
        assert row["bytes_an_image_may_take"] == round(may)
        assert row["bytes_an_image_counted"] == 65 * 10**6
        assert row["fits"] == (may >= 65 * 10**6)
    fits = [found[state, chips]["fits"] for state in kept for chips in claim.CHIPS]
    assert fits == [False, True, True, True]


PLAN: dict[str, Any] = {
    "experiment": "x", "optimizer": "lion", "what": "a model", "params_total": 1_000_000,
    "params_trained": 250_000, "params_by_group": {"a": 750_000, "b": 250_000}, "steps": 1000,
    "batch_size": 64, "example": "image", "flops_per_step": 2 * 10**9,
    "flops_again_per_step": 0, "num_devices": 1, "micro_batch_size": 32, "precision": "fp32",
    "memory_bytes_by_strategy": {w: PARTS.on_device(w, 1, 2) for w in memory.STRATEGIES},
    "counted_for": "gpu", "basis": plan.BASIS, "usable_memory": 0.9,
    "checkpoint_bytes": 3 * 10**9,
    "activation_bytes": {"with_checkpointing": None, "without_checkpointing": 2 * 10**9},
    "largest_micro_batch": {"16": 8, "80": 100}, "micro_batch_at_most": None,
    "optimizer_state_bytes": {"lion": 4 * 10**9},
    "devices_to_fit_by_optimizer": {
        "lion": {"ddp": {"16": None, "80": 4}, "fsdp": {"16": 32, "80": 2}}
    },
    "peak_fraction": 0.4, "device_hours": {"A100-80GB": 12.3456, "V100-16GB": None},
}  # fmt: skip


def test_a_plan_in_words_says_its_numbers() -> None:
    lines = [" ".join(line.split()) for line in in_words.in_words(PLAN)]
    for said in (
        "parameters 1,000,000, 250,000 of them trained",
        "a 750 k, b 250 k",
        "steps 1,000, each of 64 x image",
        "FLOPs of a step 2 G",
        "of the run 2 T",
        "a checkpoint 3.00",
        "activations 2.00 without checkpointing",
        "largest micro-batch 16 GB: 8, 80 GB: 100",
        "not in it the device's context, workspaces and fragments: 10% of the memory is left for "
        "them",
        "lion 4.00 ddp - 4",
        "fsdp 32 2",
        "A100-80GB 12.3",
    ):
        assert said in lines, said
    assert not any("V100" in line for line in lines)
