"""A run is what a bare loop of the field's own parts gives, from the same weights and batches.

Whatever a step is made of is on at once: noise in the model, mixed images or texts of unequal
length, micro-batches, clipping, warm-up, averages, bfloat16. Weights must agree to rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forked
import pytest
import texts
import tiny
import torch
from one_run import STEPS, values
from torch import Tensor, nn
from torch.nn import functional

from experiments import runner
from experiments.build import build
from experiments.config import RunConfig
from experiments.data.order import BatchPlan, derive, seed_all

TOTAL, WARMUP, LR, DECAY = 12, 4, 3e-3, 0.1
SHORT: dict[str, Any] = {
    **STEPS, "train__steps": TOTAL, "train__grad_clip_norm": 0.5, "launch__log_every_steps": 1,
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": LR, "weight_decay": DECAY},
    "schedule": {"warmup_steps": WARMUP, "final_fraction": 0.1},
}  # fmt: skip
VIT = {
    "_target_": "timm.models.VisionTransformer", "img_size": [6, 8], "patch_size": 2, "in_chans": 1,
    "num_classes": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "drop_path_rate": 0.3,
    "proj_drop_rate": 0.1, "pos_drop_rate": 0.1,
}  # fmt: skip
NETS: dict[str, Any] = {
    "batch norm": {},
    "vit": {"model": VIT, "param_groups__no_decay": ["pos_embed", "cls_token"]},
}


def begin(config: RunConfig) -> tuple[Any, nn.Module, Any]:
    """The task of a run, its initial model in training mode, and its micro-batches of a step."""
    task = build(config.task, "task", data=config.data, model=config.model)
    seed_all(derive(config.seed, "init"))
    model = task.build_model().train()
    size = config.train.micro_batch_size
    assert size is not None
    plan = BatchPlan(config.seed, task.num_train, config.train.batch_size, size)

    def batches(step: int) -> Any:
        for number, batch in enumerate(next(iter(task.batches(plan, step, step + 1)))):
            seed_all(derive(config.seed, "noise", step, number))
            yield batch

    return task, model, batches


def check_weights(found: dict[str, Tensor], wanted: nn.Module) -> None:
    for name, tensor in wanted.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("net", NETS)
def test_images_are_trained_as_by_timms_parts(tmp_path: Path, net: str, precision: str) -> None:
    from timm.data.mixup import Mixup
    from timm.loss import SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import ModelEmaV3, dispatch_clip_grad

    mixed = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "label_smoothing": 0.1}
    config = tiny.config(
        tmp_path, **SHORT, **NETS[net], **{f"task__{k}": v for k, v in mixed.items()},
        train__micro_batch_size=4, train__precision=precision,
    )  # fmt: skip
    assert runner.run(config).state == "finished"

    task, model, batches = begin(config)
    mixup = Mixup(**mixed, num_classes=4)  # type: ignore[arg-type]
    optimizer = create_optimizer_v2(model, opt="adamw", lr=LR, weight_decay=DECAY)
    schedule = CosineLRScheduler(
        optimizer, TOTAL - WARMUP, lr_min=0.1 * LR, warmup_t=WARMUP, warmup_prefix=True,
        t_in_epochs=False,
    )  # fmt: skip
    average, losses = None, {}
    for step in range(TOTAL):
        schedule.step_update(step + (step < WARMUP))  # our warm-up loses no step at lr 0
        parts = []
        for images, labels in batches(step):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                images, soft = mixup(images.clone(), labels)
                loss = SoftTargetCrossEntropy()(model(images).float(), soft) / 4
            loss.backward()
            parts.append(loss.item())
        losses[step + 1] = sum(parts)
        dispatch_clip_grad(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        if average is None:
            average = ModelEmaV3(model, decay=0.9)  # the first weights are the average
        else:
            average.update(model)
    assert average is not None
    assert values(config, "train", "loss") == pytest.approx(losses, rel=1e-5)
    saved = forked.weights(config)
    check_weights(saved["model"], model)
    averages = {name.removeprefix("module."): t for name, t in saved["average"].items()}
    check_weights(averages, average.module)
    for weights, shown in (("raw", model), ("ema", average.module)):
        images, labels = task.source.splits["test"]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            scores = shown.eval()(images).float()
        right = 100 * float((scores.argmax(1) == labels).float().mean())
        assert values(config, "test", "top1", weights)[TOTAL] == pytest.approx(right, abs=1e-3)
        loss = float(functional.cross_entropy(scores, labels))
        assert values(config, "test", "loss", weights)[TOTAL] == pytest.approx(loss, rel=1e-5)


@pytest.mark.skipif("text to text" not in texts.CASES, reason="transformers")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_answers_are_trained_as_by_transformers_own_loss(tmp_path: Path, precision: str) -> None:
    """Each token of a step weighs alike, though micro-batches have unequal numbers of them."""
    sections = {**texts.sections("text to text"), "model": {**texts.T5, "dropout_rate": 0.1}}
    config = tiny.config(
        tmp_path, **sections, **SHORT, train__batch_size=8, train__micro_batch_size=2,
        train__precision=precision, train__ema_decay=None, eval__batch_size=7,
    )  # fmt: skip
    assert runner.run(config).state == "finished"

    task, model, batches = begin(config)
    by_transformers: Any = model
    by_transformers.config.decoder_start_token_id = 0
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [{"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    groups = [{"params": matrices, "weight_decay": DECAY}, *others]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TOTAL - WARMUP, eta_min=0.1 * LR)

    def nats(batch: tuple[Tensor, ...]) -> tuple[Tensor, int]:
        tokens, is_real, answers = batch
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = by_transformers(input_ids=tokens, attention_mask=is_real, labels=answers).loss
        return loss, int((answers != -100).sum())

    losses = {}
    for step in range(TOTAL):
        if step < WARMUP:
            for group in optimizer.param_groups:
                group["lr"] = LR * (step + 1) / WARMUP
        count, total = 0, 0.0
        for batch in batches(step):
            loss, number = nats(batch)
            (loss * number).backward()
            count, total = count + number, total + loss.item() * number
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad /= count
        losses[step + 1] = total / count
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        if step >= WARMUP:
            cosine.step()
    assert values(config, "train", "loss") == pytest.approx(losses, rel=1e-5)
    check_weights(forked.weights(config)["model"], model.eval())
    with torch.no_grad():
        ones = [nats(task.source.batch(exam.pairs, [k])) for exam in task.source.exams[1:]
                for k in range(len(exam.pairs))]  # fmt: skip
    mean = sum(loss.item() * number for loss, number in ones) / sum(number for _, number in ones)
    assert values(config, "test", "loss")[TOTAL] == pytest.approx(mean, rel=1e-5)
