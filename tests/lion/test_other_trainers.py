"""Lion in training loops of others: gradient scaling, steps in the backward pass, transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from lion import Lion

INPUTS = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(32) % 2
STEPS = 5
SETTINGS: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


def loss(net: nn.Module) -> torch.Tensor:
    return functional.cross_entropy(net(INPUTS), LABELS)


def plain(without: int = -1) -> list[torch.Tensor]:
    """Weights after STEPS steps, one of them left out."""
    net = model()
    optimizer = Lion(net.parameters(), **SETTINGS)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(net).backward()
        if step != without:
            optimizer.step()
    return list(net.parameters())


def are_equal(net: nn.Module, weights: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(net.parameters(), weights, strict=True))


@pytest.mark.parametrize("fused", [None, False])
def test_a_scaled_gradient_that_overflows_is_a_step_left_out(fused: bool | None) -> None:
    net = model()
    optimizer = Lion(net.parameters(), **SETTINGS, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(STEPS):
        optimizer.zero_grad()
        scaler.scale(loss(net)).backward()
        if step == 2:
            next(net.parameters()).grad.fill_(torch.inf)  # type: ignore[union-attr]
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 512.0
    assert are_equal(net, plain(without=2))


def test_steps_in_the_backward_pass() -> None:
    """Each gradient is used as soon as it is there, and given up: no two are in memory."""
    net = model()
    optimizers = {param: Lion([param], **SETTINGS) for param in net.parameters()}

    def step(param: torch.Tensor) -> None:
        optimizers[param].step()  # type: ignore[index]
        optimizers[param].zero_grad()  # type: ignore[index]

    for param in net.parameters():
        param.register_post_accumulate_grad_hook(step)
    for _ in range(STEPS):
        loss(net).backward()
    assert are_equal(net, plain())


def test_the_trainer_of_transformers_takes_it_and_resumes_exactly(tmp_path: Path) -> None:
    """As lion/README.md says; biases and norms are not decayed, as with the Trainer's own AdamW."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    numbers = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    sizes = transformers.BertConfig(vocab_size=9, num_hidden_layers=1, **numbers)
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, 9, (32, 4), generator=generator)
    data = [{"input_ids": row, "labels": torch.tensor(i % 2)} for i, row in enumerate(tokens)]

    def trained(folder: str, begin: str | None = None) -> tuple[Any, list[torch.Tensor]]:
        torch.manual_seed(0)
        net = transformers.BertForSequenceClassification(sizes)
        arguments = transformers.TrainingArguments(
            str(tmp_path / folder), per_device_train_batch_size=8, gradient_accumulation_steps=2,
            max_steps=4, save_steps=2, weight_decay=0.3, use_cpu=True, report_to=[],
            disable_tqdm=True,
        )  # fmt: skip
        trainer = transformers.Trainer(
            net, arguments, train_dataset=data, optimizer_cls_and_kwargs=(Lion, {"lr": 1e-3})
        )
        trainer.train(resume_from_checkpoint=begin and str(tmp_path / begin))
        return trainer.optimizer.optimizer, [param.detach() for param in net.parameters()]

    optimizer, weights = trained("whole")
    assert type(optimizer) is Lion
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    _, again = trained("again", begin="whole/checkpoint-2")
    assert all(torch.equal(a, b) for a, b in zip(weights, again, strict=True))
