"""Steps on a GPU that is not there: tensors without numbers, which say that they lie on it.

Whatever mixes devices, reads a number or sends one fails here, as on a GPU it would fail or wait.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from experiments import runner
from experiments.build import build
from experiments.compose import compose
from experiments.distributed import World
from experiments.parts import Parts, build_parts
from experiments.tasks.task import check_task

GPU = torch.device("cuda", 0)
SLOW = [pytest.param(page, marks=pytest.mark.slow) for page in ("t5_proxy", "diffusion_proxy")]
PAGES = ["vit_proxy", "lm_proxy", "mlm_proxy", "lit_proxy", *SLOW]


class Sent(TorchDispatchMode):
    """Notes what is copied to or from the GPU; numbers may go with a kernel as its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_") and isinstance(out, Tensor):
            source = args[1] if name == "copy_" else args[0]
            if source.device.type != out.device.type and out.numel():
                self.copies.append(f"{name} of {tuple(source.shape)}")
        return out


def on_fake_gpu(parts: Parts, mode: FakeTensorMode) -> Parts:
    """The model and a plain optimizer there; its own is tested in tests/lion."""
    moved: dict[int, Any] = {}
    tables = [t for m in parts.model.modules() for t in (m._parameters, m._buffers)]
    known = [(table, name, x) for table in tables for name, x in table.items() if x is not None]
    data = {id(x): x.detach() for _, _, x in known}
    with mode:
        for table, name, x in known:
            if id(x) not in moved:
                fake = mode.from_tensor(data[id(x)]).to(GPU)
                is_param = isinstance(x, nn.Parameter)
                moved[id(x)] = nn.Parameter(fake, x.requires_grad) if is_param else fake
            table[name] = moved[id(x)]
        trained = [p for p in parts.model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, 0.1, foreach=True)
    world = World(0, 1, GPU)
    return replace(parts, optimizer=optimizer, peak_lrs=[0.1], world=world, prefetch=None)


def give_gradients(loss: Tensor, parts: Parts) -> None:
    """In place of a backward pass, for which autograd wants a driver."""
    assert loss.device == GPU and not loss.dim()
    for param in parts.model.parameters():
        if param.requires_grad:
            param.grad = torch.zeros_like(param)


@pytest.mark.skipif(
    torch.__version__.startswith("2.9."), reason="its convolution of a fake GPU aborts Python"
)
@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("page", PAGES)
def test_a_step_mixes_no_devices_and_waits_for_none(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ["launch.device=cpu", "train.precision=fp32", "train.ema_decay=null"]
    changes += ["train.grad_clip_norm=1.0", f"results_dir={tmp_path}"]
    config = compose([f"experiment={page}", *changes])
    task = check_task(build(config.task, "task", data=config.data, model=config.model))
    parts = build_parts(config, task, World(0, 1, torch.device("cpu")))
    batch = next(iter(task.batches(parts.plan, 0, 1)))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    parts = on_fake_gpu(parts, mode)
    monkeypatch.setattr(Tensor, "backward", lambda loss: give_gradients(loss, parts))
    with mode:
        fake = [tuple(mode.from_tensor(x).to(GPU) for x in micro) for micro in batch]
        runner._step(parts, 0, fake, 1.0)  # constants may be sent once
        with Sent() as sent:
            loss = runner._step(parts, 1, fake, 0.5)
    assert loss.device == GPU and loss.dtype == torch.float32
    assert not sent.copies


def test_what_waits_would_be_seen() -> None:
    with FakeTensorMode(), Sent() as sent:
        there = torch.ones(3, device=GPU)
        torch.full((2,), 0.5).to(GPU)
        there.cpu()
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        with pytest.raises(RuntimeError, match="device"):
            there + torch.ones(3)
    assert sent.copies == ["_to_copy of (2,)", "_to_copy of (3,)"]
