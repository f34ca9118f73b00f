"""Whole runs on a GPU that is made of the CPU's memory: nothing of theirs mixes devices.

Steps, averages, clipping, telemetry, evaluations, checkpoints, and going on from one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pairs
import pytest
import texts
import tiny
import torch
from omegaconf import OmegaConf
from stand_in_gpu import GPU, OnGPU, plugged_in
from torch import Tensor

from experiments import runner
from experiments.compose import compose
from experiments.config import RunConfig
from experiments.pages import CONF
from experiments.sweep import graph_rewriting, vectorised
from experiments.sweep.stack import Stack

SHORT: dict[str, Any] = {
    "train__epochs": None, "train__steps": 4, "eval__every_epochs": None,
    "checkpoint__every_steps": 2, "launch__log_every_steps": 1,
}  # fmt: skip
WATCHED = {"tracking__telemetry_every_steps": 2}
DIFFUSION = (
    *("train.steps=4", "train.batch_size=16", "schedule.warmup_steps=2", "eval.every_steps=4"),
    *("task.num_time_steps=100", "task.judge.num_draws=1", "task.judge.num_shown=4"),
    *("task.judge.sampling.paper=null", "task.judge.sampling.quick.sampler=ddpm"),
    *("task.judge.sampling.quick.num_steps=2", "task.judge.sampling.quick.num_samples=20"),
    *("task.judge.sampling.quick.guidance=2.0", "task.condition_dropout=0.1"),
    *("task.learned_variance=true", "model.out_channels=2", "model.num_class_embeds=11"),
    *("model.block_out_channels=[8,16]", "launch.progress=false", "launch.log_every_steps=1"),
    *("checkpoint.every_steps=2", "eval.batch_size=512"),
)
RUNS: dict[str, Callable[[Path], RunConfig]] = {
    "images": lambda root: tiny.config(root, **SHORT, **WATCHED),
    "images, channels last": lambda root: tiny.config(
        root, **SHORT, train__channels_last=True, train__micro_batch_size=4
    ),
    "pairs": lambda root: pairs.config(root, root, train__steps=4, checkpoint__every_steps=2),
    "pairs, coupled": lambda root: pairs.config(
        root, train__steps=4, train__micro_batch_size=8, checkpoint__every_steps=2
    ),
    "pairs, features kept": lambda root: pairs.config(
        root,
        train__steps=4,
        checkpoint__every_steps=2,
        task__cache_features=True,
        param_groups__frozen=["image.*"],
    ),
}
for _name in ("causal", "causal nemotron, in chunks", "masked", "text to text"):
    if _name in texts.CASES:
        RUNS[_name] = lambda root, name=_name: tiny.config(root, **SHORT, **texts.sections(name))


def broken_off(config: RunConfig, monkeypatch: pytest.MonkeyPatch, after: int = 3) -> None:
    """As if the machine had gone."""
    step, count = runner._step, iter(range(99))

    def counted(*args: Any) -> Any:
        if next(count) == after:
            raise KeyboardInterrupt
        return step(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runner, "_step", counted)
        runner.run(config)


def found(outcome: runner.Outcome) -> list[tuple[Any, ...]]:
    assert outcome.state == "finished" and outcome.results
    return [(r["split"], r["metric"], r["weights"], r["value"]) for r in outcome.results]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_and_goes_on_from_its_checkpoint(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the precision of a GPU, bfloat16; made-up gradients depend on the weights alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = RUNS[name](tmp_path)
    with plugged_in(monkeypatch):
        whole = runner.run(replace(config, results_dir=str(tmp_path / "whole")))
        broken_off(config, monkeypatch)
        assert found(runner.run(config)) == found(whole)


@pytest.mark.slow
def test_samples_are_drawn_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["experiment=diffusion_proxy", "optimizer=lion", f"results_dir={tmp_path}", *DIFFUSION]
    with plugged_in(monkeypatch):
        measured = {metric for _, metric, *_ in found(runner.run(compose(words)))}
    assert {"eps_loss", "fd20_ddpm2_g2", "kd20_ddpm2_g2", "agreement20_ddpm2_g2"} <= measured


@pytest.mark.parametrize(
    "name", sorted(p.stem for p in (CONF / "optimizer").glob("*.yaml") if p.stem != "program")
)
def test_each_optimizer_steps_and_goes_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state comes from a file, on the CPU, and counters stay where its steps want them."""
    if name == "schedulefree":
        pytest.importorskip("schedulefree")
    page: Any = OmegaConf.to_container(OmegaConf.load(CONF / "optimizer" / f"{name}.yaml"))
    changes = {"train__ema_decay": None, "model__batch_norm": False, "eval__batch_size": 64}
    config = replace(tiny.config(tmp_path, **SHORT, **changes), optimizer=page, optimizer_name=name)
    with plugged_in(monkeypatch, plain=True):
        broken_off(config, monkeypatch)
        assert runner.run(config).state == "finished"


def test_runs_that_are_trained_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their settings are columns on the host; steps, evaluations and checkpoints on the GPU."""

    def gradients(self: Stack, weights: Any, *_: Any) -> tuple[dict[str, Tensor], Tensor]:
        named = {n: w for g, f in zip(self._groups, weights, strict=True)
                 for n, w in g.split(f).items()}  # fmt: skip
        losses = sum(w.flatten(1).square().sum(1) for w in named.values())
        return {n: 0.01 * torch.sin(100 * w) for n, w in named.items()}, losses  # type: ignore[return-value]

    changes = {"train__ema_decay": None, "model__batch_norm": False, "model__dropout": 0.0}
    config = tiny.config(tmp_path, **SHORT, **changes, train__precision="fp32")
    configs = [
        replace(config, optimizer={**config.optimizer, "lr": lr, "weight_decay": decay}, seed=seed)
        for lr, decay, seed in ((1e-3, 0.1, 0), (2e-3, 0.2, 0), (1e-3, 0.1, 1))
    ]
    monkeypatch.setattr(Stack, "_differentiate", gradients)  # autograd wants a driver
    monkeypatch.setattr(vectorised, "find_unused", lambda _: frozenset())
    monkeypatch.setattr(graph_rewriting, "rewrite", lambda *_: False)  # it looks at addresses
    with plugged_in(monkeypatch):
        ended = vectorised.run_group(configs, compile=False)
    assert [(one.state, one.message) for one in ended] == [("finished", "")] * 3


def test_what_a_gpu_would_refuse_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    host, rows = torch.ones(3), torch.tensor([0, 2])
    with plugged_in(monkeypatch):
        there = torch.arange(3.0, device=GPU)
        assert isinstance(there, OnGPU) and (there * torch.tensor(2.0)).tolist() == [0, 2, 4]
        assert there[rows].device == GPU and there.cpu().device.type == "cpu"
        assert there.sum().item() == 3 and type(there.to("cpu")) is torch.Tensor
        with pytest.raises(RuntimeError, match="same device"):
            there + host
        with pytest.raises(RuntimeError, match="indices"):
            host[rows.to(GPU)]
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        with torch.autocast("cuda", torch.bfloat16):
            assert (there[None] @ there[:, None]).dtype == torch.bfloat16
