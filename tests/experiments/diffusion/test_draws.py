"""Noise and time steps belong to a place in the global batch, whoever draws them."""

from __future__ import annotations

from dataclasses import replace

import torch

from experiments.data.order import BatchPlan
from experiments.diffusion.draws import stratified_draws, training_draws

PLAN = BatchPlan(seed=3, num_examples=64, batch_size=16, micro_batch_size=16)


def test_micro_batches_and_processes_draw_what_one_batch_draws() -> None:
    whole = training_draws(PLAN, 7, 0, (1, 2, 2), 100, 0.5)
    small = replace(PLAN, micro_batch_size=4, world_size=2)
    parts = [
        training_draws(replace(small, rank=rank), 7, number, (1, 2, 2), 100, 0.5)
        for rank in (0, 1)
        for number in replace(small, rank=rank).micro_numbers()
    ]
    for name in ("noise", "times", "dropped"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(whole, name))
    for plan, step in ((PLAN, 8), (replace(PLAN, seed=4), 7)):
        other = training_draws(plan, step, 0, (1, 2, 2), 100, 0.5)
        assert not torch.equal(other.noise, whole.noise)
        assert not torch.equal(other.times, whole.times)


def test_draws_have_the_distribution_that_they_should() -> None:
    plan = replace(PLAN, batch_size=4000, micro_batch_size=4000, num_examples=4000)
    found = training_draws(plan, 0, 0, (1, 2, 2), 10, 0.1)
    counts = torch.bincount(found.times, minlength=10)
    assert len(counts) == 10 and (counts - 400).abs().max() < 90
    assert abs(float(found.dropped.float().mean()) - 0.1) < 0.025
    assert abs(float(found.times[found.dropped].float().mean()) - 4.5) < 0.6, "of every time alike"
    assert abs(float(found.noise.mean())) < 0.03 and abs(float(found.noise.std()) - 1) < 0.03
    assert (
        abs(
            float(torch.corrcoef(torch.stack([found.times.float(), found.noise[:, 0, 0, 0]]))[0, 1])
        )
        < 0.08
    )


def test_draws_of_an_evaluation_cover_all_time_steps() -> None:
    generators = [torch.Generator().manual_seed(k) for k in range(500)]
    noise, times = stratified_draws(generators, 4, (1, 2, 2), 1000)
    assert noise.shape == (4, 500, 1, 2, 2) and times.shape == (4, 500)
    assert all((times[k] // 250 == k).all() for k in range(4))
    assert abs(float(times.float().mean()) - 499.5) < 15
    assert len(noise[:, 0].unique()) == 4 * 4, "each draw has a noise of its own"
    again, _ = stratified_draws([torch.Generator().manual_seed(7)], 4, (1, 2, 2), 1000)
    assert torch.equal(again[:, 0], noise[:, 7])
