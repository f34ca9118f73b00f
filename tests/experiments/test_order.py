"""Every example once per epoch, the same at any world size, and the same tomorrow."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.config import ConfigError
from experiments.data import order
from experiments.data.giant_order import shuffled
from experiments.data.order import BatchPlan, derive, epoch_order, epoch_slice, seed_all


def test_an_epoch_has_each_example_at_most_once_and_leaves_out_less_than_a_batch() -> None:
    plan = BatchPlan(3, num_examples=50, batch_size=12, micro_batch_size=4)
    assert plan.steps_per_epoch == 4
    for epoch in (0, 5):
        steps = range(4 * epoch, 4 * epoch + 4)
        seen = np.concatenate([i for step in steps for i in plan.micro_batches(step)])
        assert len(seen) == len(set(seen.tolist())) == 48
        assert {plan.epoch_of(step) for step in steps} == {epoch}
        assert set(seen.tolist()) < set(range(50))


def test_no_example_is_left_out_for_good() -> None:
    plan = BatchPlan(0, num_examples=50, batch_size=12, micro_batch_size=12)
    seen = np.concatenate([i for step in range(40) for i in plan.micro_batches(step)])
    assert set(seen.tolist()) == set(range(50))


@pytest.mark.parametrize(("world", "micro"), [(1, 3), (2, 6), (2, 2), (4, 3), (6, 1)])
def test_world_size_and_micro_batches_only_cut_the_same_batch(world: int, micro: int) -> None:
    whole = BatchPlan(1, 40, batch_size=12, micro_batch_size=12)
    for step in (0, 2, 3, 17):
        parts, numbers = [], []
        for rank in range(world):
            plan = replace(whole, micro_batch_size=micro, rank=rank, world_size=world)
            assert len(plan.micro_batches(step)) == len(plan.micro_numbers())
            parts += plan.micro_batches(step)
            numbers += plan.micro_numbers()
        assert numbers == list(range(12 // micro))  # so no noise is drawn twice
        assert all(len(part) == micro for part in parts)
        assert np.concatenate(parts).tolist() == whole.micro_batches(step)[0].tolist()


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(epoch_order(seed, epoch, 30)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_is_the_same_on_every_machine_and_version() -> None:
    """Golden: a change here changes every result."""
    assert derive(0, "init") == 5621797835976536519
    assert derive(1, "order", 2) == 1671847539343688486
    assert epoch_order(0, 0, 10).tolist() == [2, 4, 9, 3, 0, 6, 5, 7, 8, 1]
    plan = BatchPlan(4, 10, 4, 2)
    assert [part.tolist() for part in plan.micro_batches(3)] == [[3, 8], [2, 9]]


def test_noise_differs_by_step_micro_batch_example_and_seed() -> None:
    plans = [BatchPlan(seed, 8, 4, 2) for seed in (0, 1)]
    seeds = [plan.noise_seed(s, m) for plan in plans for s in range(4) for m in range(2)]
    seeds += [plan.example_seed(e, i) for plan in plans for e in range(4) for i in range(8)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_positions_that_read_alike_have_seeds_of_their_own() -> None:
    assert len({derive(1, 23), derive(12, 3), derive(123), derive("123"), derive("1", 23)}) == 5


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_all_generators_are_set(seed: int) -> None:
    seed_all(seed)
    first = draws()
    assert all(a != b for a, b in zip(first, draws(), strict=True))
    seed_all(seed)
    assert draws() == first
    generator = torch.Generator().manual_seed(seed)  # each by the seed, whatever the others do
    numbers = np.random.RandomState(seed % 2**32).rand(), torch.rand((), generator=generator)
    assert first == (random.Random(seed).random(), numbers[0], float(numbers[1]))


def test_a_batch_larger_than_the_data_is_refused_with_the_largest_that_fits() -> None:
    BatchPlan(0, num_examples=10, batch_size=10, micro_batch_size=10)
    with pytest.raises(ConfigError, match="train.batch_size=11 .* set train.batch_size=10 or less"):
        BatchPlan(0, num_examples=10, batch_size=11, micro_batch_size=11)


@pytest.mark.parametrize("num_examples", [1, 2, 3, 7, 64, 1000, 12_345, 2**17 + 1])
@pytest.mark.parametrize("key", [0, 2**63 - 1])
def test_a_giant_order_has_each_example_once(num_examples: int, key: int) -> None:
    found = shuffled(np.arange(num_examples), num_examples, key)
    assert found.dtype == np.int64
    assert np.array_equal(np.sort(found), np.arange(num_examples))


def test_a_giant_order_is_shuffled_like_a_permutation() -> None:
    """Each bound is 5 standard deviations of a uniform permutation or more."""
    size = 20_000
    for key in range(4):
        found = shuffled(np.arange(size), size, key).astype(float)
        for lag in (1, 2, 64):
            assert abs(np.corrcoef(found[:-lag], found[lag:])[0, 1]) < 5 / size**0.5
        assert abs(np.corrcoef(np.arange(size), found)[0, 1]) < 5 / size**0.5
        hits, _, _ = np.histogram2d(np.arange(size), found, bins=10)
        assert ((hits - size / 100) ** 2 / (size / 100)).sum() < 81 + 5 * (2 * 81) ** 0.5
        assert (np.diff(found) == 1).sum() < 1 + 5  # Poisson(1)
        assert (found == np.arange(size)).sum() < 1 + 5


def test_a_position_gets_any_example_over_the_keys() -> None:
    keys, size = 3000, 30
    for position in (0, 17, 29):
        found = [
            int(shuffled(np.array([position]), size, derive(key, "x"))[0]) for key in range(keys)
        ]
        counts = np.bincount(found, minlength=size)
        assert ((counts - keys / size) ** 2 / (keys / size)).sum() < 29 + 5 * (2 * 29) ** 0.5


def test_orders_of_neighbouring_keys_and_epochs_have_nothing_in_common() -> None:
    first, second = (shuffled(np.arange(5000), 5000, key) for key in (8, 9))
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / 5000**0.5
    epochs = [epoch_slice(1, epoch, 3 * 10**9, 0, 5) for epoch in (0, 1)]
    assert not set(epochs[0]) & set(epochs[1])


def test_a_giant_set_costs_no_more_than_the_batch() -> None:
    """Golden: a change here changes every result of a set of this size."""
    plan = BatchPlan(3, num_examples=3 * 10**9, batch_size=4096, micro_batch_size=1024)
    seen = np.concatenate(plan.micro_batches(700_000))
    assert len(set(seen.tolist())) == 4096 and seen.min() >= 0 and seen.max() < 3 * 10**9
    assert seen.max() - seen.min() > 2.9 * 10**9
    assert seen[:3].tolist() == [989290942, 1340658852, 2892024192]


def test_ranks_and_slices_of_a_giant_set_cut_the_same_order(monkeypatch) -> None:
    monkeypatch.setattr(order, "GIANT", 39)
    monkeypatch.setattr(order, "epoch_order", None)  # must not be needed
    whole = BatchPlan(1, 40, batch_size=12, micro_batch_size=12)
    cut = [replace(whole, micro_batch_size=3, rank=rank, world_size=2) for rank in range(2)]
    everything = []
    for step in range(3):
        parts = [part for plan in cut for part in plan.micro_batches(step)]
        assert np.concatenate(parts).tolist() == whole.micro_batches(step)[0].tolist()
        everything += np.concatenate(parts).tolist()
    assert len(set(everything)) == 36 and set(everything) < set(range(40))


@pytest.mark.parametrize("num_examples", [10, 40])
def test_up_to_the_limit_the_order_is_todays(monkeypatch, num_examples: int) -> None:
    monkeypatch.setattr(order, "GIANT", num_examples)
    for start, end in ((0, num_examples), (3, 7)):
        expected = epoch_order(5, 2, num_examples)[start:end]
        assert np.array_equal(epoch_slice(5, 2, num_examples, start, end), expected)
    monkeypatch.setattr(order, "GIANT", num_examples - 1)
    other = epoch_slice(5, 2, num_examples, 0, num_examples)
    assert not np.array_equal(other, epoch_order(5, 2, num_examples))


@pytest.mark.parametrize(
    ("size", "micro", "num_processes", "num_examples", "fits"),
    [
        (12, 12, 1, 11, "train.batch_size=11 or less"),
        (12, 6, 2, 11, "train.batch_size=10"),  # 11 would be refused next
        (12, 4, 1, 11, "train.batch_size=8"),
        (16, 4, 2, 7, "train.batch_size=6 and train.micro_batch_size=null"),
        (12, 4, 3, 2, "launch.num_processes=2 and train.batch_size=2"),
    ],
)
def test_a_batch_that_is_too_large_is_told_one_that_is_not_refused_next(
    size: int, micro: int, num_processes: int, num_examples: int, fits: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        BatchPlan(0, num_examples, size, micro, 0, num_processes)
    assert str(refusal.value).endswith(f"larger than the training set: set {fits}")
