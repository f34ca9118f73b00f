"""A sharded model (FSDP2's DTensors) steps exactly as the whole one, on every path."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from lion import AddSign, HeroLion, Lion, PowerSign, loop, momentum, sharded_momentum


@pytest.fixture
def mesh():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_sharded_equals_whole(mesh, monkeypatch):
    monkeypatch.setattr(loop, "BLOCK", 8)
    for make in (
        Lion,
        lambda params, **options: Lion(params, fused=False, **options),
        lambda params, **options: Lion(params, momentum_dtype="bfloat16", **options),
        lambda params, **options: Lion(params, momentum_dtype="int8", **options),
        lambda params, **options: Lion(params, momentum_dtype="int8", fused=False, **options),
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


def make_pair(mesh, placement, **options):
    """A DTensor parameter and an optimizer of it."""
    param = nn.Parameter(distribute_tensor(torch.ones(6, 4), mesh, [placement]))
    return param, Lion([param], lr=0.5, **options)


@pytest.mark.parametrize("placement", [Shard(0), Shard(1), Replicate()])
def test_shards_are_stepped_by_the_kernels_that_plain_tensors_get(mesh, monkeypatch, placement):
    seen = []
    real = loop.update
    monkeypatch.setattr(loop, "update", lambda *a, **k: (seen.extend(a[0]), real(*a, **k)))
    param, optimizer = make_pair(mesh, placement, fused=False)
    param.grad = distribute_tensor(torch.ones(6, 4), mesh, [placement])
    optimizer.step()
    assert [type(x) for x in seen] == [torch.Tensor]
    assert param.full_tensor().eq(0.5).all()
    assert isinstance(optimizer.state[param]["exp_avg"], DTensor)
    assert optimizer.state[param]["exp_avg"].placements == (placement,)


def test_a_gradient_that_is_laid_out_otherwise_goes_through_dtensor(mesh):
    param, optimizer = make_pair(mesh, Shard(0))
    param.grad = distribute_tensor(torch.ones(6, 4), mesh, [Replicate()])
    optimizer.step()
    assert param.full_tensor().eq(0.5).all()


def test_residuals_of_sharded_weights_are_sharded(mesh):
    param = nn.Parameter(distribute_tensor(torch.ones(6, 4).bfloat16(), mesh, [Shard(0)]))
    optimizer = Lion([param], lr=1e-3, kahan_sum=True)
    for _ in range(50):
        param.grad = distribute_tensor(torch.ones(6, 4).bfloat16(), mesh, [Shard(0)])
        optimizer.step()
    torch.testing.assert_close(
        param.full_tensor().float(), torch.full((6, 4), 0.95), rtol=0, atol=0.003
    )
    assert isinstance(optimizer.state[param]["kahan_comp"], DTensor)


def in_pieces(shape: tuple[int, ...], number: int) -> dict[str, torch.Tensor]:
    """The int8 state that so many processes would save, and the momentum that it stands for."""
    torch.manual_seed(0)
    whole = torch.randn(shape)
    pieces = list(whole.split(-(-shape[0] // number)))
    states, momenta = [], []
    most = -(-pieces[0].numel() // 256)
    for piece in pieces:
        param = nn.Parameter(torch.zeros_like(piece))
        optimizer = Lion([param], lr=0.1, momentum_dtype="int8")
        param.grad = piece
        optimizer.step()
        state = optimizer.state[param]
        scale = state["exp_avg_scale"]
        states.append((state["exp_avg"], torch.cat([scale, scale.new_zeros(most - len(scale))])))
        momenta.append(momentum.decode(state["exp_avg"], scale, torch.float32))
    rows = [scale for _, scale in states] + [torch.zeros(most)] * (number - len(pieces))
    codes = torch.cat([codes for codes, _ in states])
    return {"exp_avg": codes, "exp_avg_scale": torch.stack(rows), "momentum": torch.cat(momenta)}


@pytest.mark.parametrize("shape,number", [((5, 200), 2), ((5, 200), 3), ((2, 3), 4), ((7,), 2)])
def test_int8_momenta_of_any_number_of_processes_are_loaded_by_one(shape, number):
    saved = in_pieces(shape, number)
    wanted = saved.pop("momentum")
    for dtype, tolerance in (("float32", 0.0), ("int8", wanted.abs().max().item() / 127)):
        param = nn.Parameter(torch.zeros(shape))
        optimizer = Lion([param], momentum_dtype=dtype)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": {0: saved}})
        state = optimizer.state[param]
        found = momentum.decode(state["exp_avg"], state.get("exp_avg_scale"), torch.float32)
        torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance * 1.001)


def test_int8_blocks_that_stay_are_not_rounded_again(mesh):
    saved = in_pieces((4, 128), 2)  # each piece is one block
    wanted = saved.pop("momentum")
    plain = nn.Parameter(torch.zeros(4, 128))
    param = nn.Parameter(distribute_tensor(torch.zeros(4, 128), mesh, [Shard(0)]))
    sharded = {**saved, "exp_avg": distribute_tensor(saved["exp_avg"], mesh, [Shard(0)])}
    for tensor, state in ((plain, saved), (param, sharded)):
        optimizer = Lion([tensor], momentum_dtype="int8")
        optimizer.load_state_dict({**optimizer.state_dict(), "state": {0: state}})
        codes, scale = (optimizer.state[tensor][key] for key in ("exp_avg", "exp_avg_scale"))
        if tensor is param:
            codes, scale = codes.full_tensor(), scale.full_tensor()[0]
        assert torch.equal(codes, saved["exp_avg"])
        assert torch.equal(momentum.decode(codes, scale, torch.float32), wanted)


def test_int8_momenta_are_refused_where_blocks_have_no_place(mesh):
    param = nn.Parameter(distribute_tensor(torch.ones(6, 4), mesh, [Shard(1)]))
    with pytest.raises(ValueError, match="not a DTensor that is cut in another way: use"):
        Lion([param], momentum_dtype="int8")
    saved = in_pieces((5, 200), 2)
    optimizer = Lion([nn.Parameter(torch.zeros(5, 200))], momentum_dtype="int8")
    state = {"exp_avg": saved["exp_avg"], "exp_avg_scale": saved["exp_avg_scale"][:, :2]}
    with pytest.raises(ValueError, match="its parameter 4 blocks"):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": {0: state}})


def test_int8_gradients_laid_out_otherwise_are_refused(mesh):
    param, optimizer = make_pair(mesh, Shard(0), momentum_dtype="int8")
    param.grad = distribute_tensor(torch.ones(6, 4), mesh, [Replicate()])
    with pytest.raises(RuntimeError, match="laid out otherwise than the parameter: redistribute"):
        optimizer.step()


@pytest.mark.parametrize("index", [0, 1])
def test_each_process_takes_the_saved_scales_of_its_own_shard(monkeypatch, index):
    rows = sharded_momentum.Rows(2, index, 300)
    monkeypatch.setattr(sharded_momentum, "_rows", lambda _: rows)
    scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(sharded_momentum.own_scales(scale, torch.zeros(3, 100)), scale[index])
