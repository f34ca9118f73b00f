"""Learning from rewards: the estimate is unbiased, and what is drawn follows from the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from experiments.config import UserError
from experiments.data.order import BatchPlan
from experiments.distributed import World
from experiments.sweep.grouping import why_alone
from experiments.tasks.bandit import ContextualBandit, _draws, drawn
from run import compose

ALONE = World(0, 1, torch.device("cpu"))
NUM_DRAWS = 40_000


def task_of(**settings: Any) -> ContextualBandit:
    data = {"_target_": "experiments.data.bundled.digits", "name": "digits"}
    return ContextualBandit(data, {"_target_": "torch.nn.Identity"}, **settings)


class Scores(nn.Module):
    """The same scores for every image."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, images: Tensor) -> Tensor:
        return self.scores.expand(len(images), -1)


def test_an_action_is_drawn_as_often_as_it_is_likely() -> None:
    probabilities = torch.tensor([0.1, 0.6, 0.0, 0.3])
    draws = torch.arange(10_000) / 10_000
    actions = drawn(probabilities.log().expand(len(draws), -1), draws)
    assert actions.bincount(minlength=4).tolist() == pytest.approx([1000, 6000, 0, 3000], abs=2)
    ends = drawn(torch.tensor([[0.5, 0.5]]).log() - 1e-3, torch.tensor([0.99999994]))
    assert ends.tolist() == [1]  # probabilities that add up to less are no way out
    assert drawn(torch.tensor([[0.0, 1.0]]).log(), torch.zeros(1)).tolist() == [1]


@pytest.mark.parametrize("baseline", [0.0, 0.1, 0.7])
def test_the_gradient_is_that_of_the_expected_reward(baseline: float) -> None:
    torch.manual_seed(0)
    model = Scores(torch.tensor([0.5, -1.0, 0.2, *[0.0] * 7]))
    right = torch.zeros(NUM_DRAWS, dtype=torch.int64)
    draws = (torch.arange(NUM_DRAWS) + 0.5) / NUM_DRAWS  # every part of [0, 1) as often
    batch = torch.zeros(NUM_DRAWS, 1, 1, 1), right, draws
    task_of(baseline=baseline).loss(model, batch, ALONE).mean.backward()
    found = cast(Tensor, model.scores.grad).clone()
    # The loss itself, by hand: shares of each action times its reward and its surprise.
    p = model.scores.detach().softmax(0)
    rewards = torch.nn.functional.one_hot(torch.tensor(0), 10)
    loss = task_of(baseline=baseline).loss(model, batch, ALONE).mean.detach()
    assert float(loss) == pytest.approx(
        float(-(p * (rewards - baseline) * p.log()).sum()), rel=1e-3
    )
    model.zero_grad()
    (-model.scores.softmax(0)[0]).backward()  # of the expected reward of action 0
    assert torch.allclose(found, cast(Tensor, model.scores.grad), atol=2e-4)


def test_what_is_drawn_is_a_function_of_seed_epoch_and_example() -> None:
    task = task_of()

    def stream(seed: int, start: int, end: int, micro: int = 32) -> list[Tensor]:
        plan = BatchPlan(seed, task.num_train, 32, micro)
        return [torch.cat([b[2] for b in step]) for step in task.batches(plan, start, end)]

    whole = stream(0, 0, 40)  # 35 steps are an epoch
    assert all(map(torch.equal, whole[30:], stream(0, 30, 40)))
    assert all(map(torch.equal, whole[:3], stream(0, 0, 3, micro=8)))
    assert not torch.equal(whole[0], stream(1, 0, 1)[0])
    plan = BatchPlan(0, task.num_train, 32, 32)
    for step, epoch in ((3, 0), (36, 1)):
        (chosen,) = plan.micro_batches(step)
        assert torch.equal(whole[step], _draws(0, epoch, task.num_train)[torch.from_numpy(chosen)])
    others = [_draws(seed, epoch, 9).tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert len({number for of_nine in others for number in of_nine}) == 27


def test_the_pages_can_be_trained_together_and_a_baseline_out_of_range_is_refused() -> None:
    for page in ("bandit_proxy", "lstm_proxy"):
        assert why_alone(compose([f"experiment={page}", *SMALL])) == ""
    with pytest.raises(UserError, match="task.baseline=3: must be"):
        task_of(baseline=3)


SMALL = ["data.num_train=800", "data.num_val=200", "data.num_test=200"]


def test_rewards_alone_teach(tmp_path: Path) -> None:
    from experiments import runner

    config = compose(
        [
            "experiment=bandit_proxy", "optimizer=adamw", "optimizer.lr=3e-3", "train.epochs=12",
            "launch.progress=false", f"results_dir={tmp_path}",
        ]
    )  # fmt: skip
    config.data = {"_target_": "experiments.data.bundled.digits", "name": "digits"}
    config.model["num_inputs"] = 64
    top1 = {r["split"]: r["value"] for r in runner.run(config).results if r["metric"] == "top1"}
    assert top1["test"] > 50.0  # 10 % is chance
