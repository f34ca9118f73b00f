"""A coupled loss over micro-batches has the gradients of one batch, to the last weight."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pairs
import pytest
import torch
from torch import Tensor, nn

from experiments import global_batch
from experiments.accumulating import accumulate
from experiments.build import build
from experiments.config import ConfigError
from experiments.data.order import seed_all
from experiments.distributed import joined
from experiments.parts import build_parts
from experiments.tasks.task import Loss, check_task

WEIGHT, OTHERS = 5.0, 15.0
"""What this process's loss is over, and that of the other one."""
WORLD: Any = SimpleNamespace(size=2, sum=lambda weight: weight.add_(OTHERS))  # in place, as it is


class Noisy:
    """Embeddings with noise, of a locked part, and one that no loss asks for."""

    def encode(self, model: Any, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (x,) = batch
        noise = torch.rand(len(x), 3)
        return model["own"](x) * noise, model["locked"](x), model["idle"](x)

    def couple(self, model: Any, encoded: tuple[Tensor, ...], world: Any) -> Loss:
        own, locked, _ = encoded
        return Loss((own @ locked.T).logsumexp(1).mean(), torch.tensor(WEIGHT))


def test_micro_batches_with_noise_and_locked_parts_have_the_gradients_of_one_batch() -> None:
    seed_all(0)
    model = nn.ModuleDict({name: nn.Linear(4, 3) for name in ("own", "locked", "idle")})
    model["locked"].requires_grad_(False)
    micro_batches, task = [(torch.randn(2, 4),) for _ in range(3)], Noisy()

    rows = []
    for number, batch in enumerate(micro_batches):
        seed_all(number)
        rows.append(task.encode(model, batch))
    whole = tuple(map(torch.cat, zip(*rows, strict=True)))
    share = WEIGHT * WORLD.size / (WEIGHT + OTHERS)  # gradients are averaged afterwards
    expected = task.couple(model, whole, WORLD).mean * share
    wanted = torch.autograd.grad(expected, list(model["own"].parameters()))

    found = global_batch.accumulate(task, model, micro_batches, WORLD, seed_all)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected.detach())
    for parameter, gradient in zip(model["own"].parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert all(p.grad is None for p in model["locked"].parameters())
    assert all(p.grad is None or not p.grad.any() for p in model["idle"].parameters())


def test_a_weight_that_the_model_has_made_is_a_number() -> None:
    """Else training would lower the weight of what costs much."""
    embed = nn.Linear(1, 1, bias=False)
    nn.init.ones_(embed.weight)

    def couple(model: Any, encoded: tuple[Tensor, ...], world: Any) -> Loss:
        return Loss(encoded[0].mean(), WEIGHT * encoded[0].mean())

    task: Any = SimpleNamespace(encode=lambda model, batch: (model(batch[0]),), couple=couple)
    global_batch.accumulate(task, embed, [(torch.ones(2, 1),)] * 2, WORLD, seed_all)
    assert embed.weight.grad is not None
    assert float(embed.weight.grad) == pytest.approx(WEIGHT * WORLD.size / (WEIGHT + OTHERS))


def test_a_coupled_loss_of_nothing_is_nothing() -> None:
    """Its mean may be NaN, and the other process's loss is not."""
    seed_all(0)
    embed = nn.Linear(4, 3)

    def couple(model: Any, encoded: tuple[Tensor, ...], world: Any) -> Loss:
        return Loss(encoded[0].sum() + float("nan"), torch.tensor(0.0))

    task: Any = SimpleNamespace(encode=lambda model, batch: (model(batch[0]),), couple=couple)
    loss = global_batch.accumulate(task, embed, [(torch.ones(2, 4),)] * 2, WORLD, seed_all)
    assert float(loss) == 0.0
    assert embed.weight.grad is not None and not embed.weight.grad.any()


def test_embeddings_and_their_loss_have_the_precision_of_forward_passes() -> None:
    """As with one large micro-batch; backward passes stay outside."""
    embed, seen = nn.Linear(4, 3), []

    def encode(model: Any, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(torch.is_autocast_enabled("cpu"))
        return (model(batch[0]),)

    def couple(model: Any, encoded: tuple[Tensor, ...], world: Any) -> Loss:
        seen.append(torch.is_autocast_enabled("cpu"))
        encoded[0].register_hook(lambda _: seen.append(not torch.is_autocast_enabled("cpu")))
        return Loss(encoded[0].float().sum())

    def cast() -> Any:
        return torch.autocast("cpu", torch.bfloat16)

    task: Any = SimpleNamespace(encode=encode, couple=couple)
    global_batch.accumulate(task, embed, [(torch.ones(2, 4),)] * 2, WORLD, seed_all, cast)
    assert seen == [True] * 6


def test_running_statistics_take_each_micro_batch_once() -> None:
    seed_all(0)
    model = nn.ModuleDict({name: nn.Linear(4, 3) for name in ("locked", "idle")})
    model["own"] = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    alike = copy.deepcopy(model)
    micro_batches, task = [(torch.randn(5, 4),) for _ in range(3)], Noisy()
    global_batch.accumulate(task, model, micro_batches, WORLD, seed_all)  # type: ignore[arg-type]
    for (x,) in micro_batches:
        alike["own"](x)
    for name, buffer in alike.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name


def test_under_bf16_what_is_float32_in_one_batch_is_float32_in_micro_batches(
    tmp_path: Path,
) -> None:
    """The loss is; so are the gradients of the scale, the norms and what is looked up."""

    def gradients(micro: int | None) -> dict[str, Tensor]:
        changes = {"train__precision": "bf16", "train__micro_batch_size": micro}
        config = pairs.config(tmp_path, **changes)
        with joined(config.launch) as world:
            task = check_task(build(config.task, "task", data=config.data, model=config.model))
            parts = build_parts(config, task, world)
            accumulate(parts, 0, next(iter(task.batches(parts.plan, 0, 1))))
        return {n: p.grad for n, p in parts.model.named_parameters() if p.grad is not None}

    whole, cut = gradients(None), gradients(8)
    assert whole.keys() == cut.keys()
    exact = [
        name for name in whole if "norm" in name or name in ("log_scale", "text.embedding.weight")
    ]
    for name, gradient in whole.items():
        error = float((cut[name] - gradient).norm() / gradient.norm())
        assert error < (1e-5 if name in exact else 0.01), name
    assert not torch.allclose(cut["text_head.weight"], whole["text_head.weight"], rtol=1e-4)


CUT: dict[str, tuple[str, int | None, int, int, bool]] = {
    "no coupling": ("none", None, 4, 2, True),
    "one process": ("micro-batch", None, 16, 1, True),
    "processes would make them smaller": ("micro-batch", None, 8, 2, False),
    "smaller as it was asked for": ("micro-batch", 8, 8, 2, True),
    "one for each process": ("global batch", None, 8, 2, True),
    "several for a process": ("global batch", 4, 4, 2, False),
    "several for one process": ("global batch", 8, 8, 1, False),
}
"""Coupling, train.micro_batch_size, what it is for 16 examples, processes, whether it may be."""


@pytest.mark.parametrize("case", CUT)
def test_micro_batches_that_would_change_a_loss_are_refused(case: str) -> None:
    coupling, asked, micro, num_processes, is_right = CUT[case]
    config: Any = SimpleNamespace(train=SimpleNamespace(batch_size=16, micro_batch_size=asked))
    plain: Any = SimpleNamespace(coupling=coupling)
    with_embeddings: Any = SimpleNamespace(coupling=coupling, encode=None, couple=None)
    for task, is_allowed in (
        (plain, is_right),
        (with_embeddings, is_right or coupling == "global batch"),
    ):
        with contextlib.nullcontext() if is_allowed else pytest.raises(ConfigError):
            global_batch.check_coupling(task, config, micro, num_processes)
