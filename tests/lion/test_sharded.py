"""A sharded model (FSDP2's DTensors) steps exactly as the whole one, on every path."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from lion import AddSign, HeroLion, Lion, PowerSign, loop


@pytest.fixture
def mesh():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_sharded_equals_whole(mesh, monkeypatch):
    monkeypatch.setattr(loop, "BLOCK", 8)  # blocks are for plain tensors; a shard must not be cut
    for make in (
        Lion,
        lambda params, **options: Lion(params, foreach=True, **options),
        HeroLion,
        PowerSign,
        AddSign,
    ):
        torch.manual_seed(0)
        whole = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        sharded = fully_shard(copy.deepcopy(whole), mesh=mesh)
        optimizers = [make(m.parameters(), lr=0.1, weight_decay=0.1) for m in (whole, sharded)]
        for _ in range(3):
            x = torch.randn(5, 4)
            for model, optimizer in zip((whole, sharded), optimizers, strict=True):
                optimizer.zero_grad()
                model(x).square().sum().backward()
                optimizer.step()
        for param, shard in zip(whole.parameters(), sharded.parameters(), strict=True):
            assert torch.equal(param, shard.full_tensor())
