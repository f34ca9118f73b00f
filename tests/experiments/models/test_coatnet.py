"""CoAtNet-7 over timm's stages: its size, and that a small one is timm's and can be trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from experiments.models.coatnet import CoAtNet, coatnet7
from experiments.models.position_embeddings import resized

SMALL: dict[str, Any] = {
    "widths": (8, 12, 16, 32, 48), "depths": (1, 1, 1, 2, 1), "block_types": "CCCTT",
    "strides": (2, 2, 2, 1, 2), "stem_width": 8, "head_width": 16,
}  # fmt: skip


def test_the_trunk_of_coatnet7_has_its_size() -> None:
    """2,440 M with a head: arXiv:2106.04803, Table 3; with heads it stands on the pages."""
    with torch.device("meta"):
        model = coatnet7(num_classes=0, hidden_head=False)
        output = model(torch.empty(1, 3, 224, 224))
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}" == "2429.46"
    assert output.shape == (1, 3072) and model.num_features == 3072


@pytest.mark.parametrize("hidden", [None, 64])
def test_where_stages_shrink_it_is_timms_own(hidden: int | None) -> None:
    """The same names, weights and outputs as timm's class with the same numbers."""
    from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitTransformerCfg

    settings = MaxxVitCfg(
        embed_dim=(8, 16, 32, 64), depths=(1, 2, 2, 1), stem_width=8, head_hidden_size=hidden,
        transformer_cfg=MaxxVitTransformerCfg(dim_head=16),
    )  # fmt: skip
    theirs = MaxxVit(settings, img_size=64, num_classes=5, drop_path_rate=0.3)
    ours = CoAtNet(
        (8, 16, 32, 64), (1, 2, 2, 1), "CCTT", (2, 2, 2, 2), 8, 16, 5,
        hidden_size=hidden, img_size=64, drop_path_rate=0.3,
    )  # fmt: skip
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))
    assert _rates(ours) == pytest.approx(_rates(theirs)) and _rates(ours)[-1] == pytest.approx(0.3)
    fresh = CoAtNet((8, 16, 32, 64), (1, 2, 2, 1), "CCTT", (2, 2, 2, 2), 8, 16)
    assert _spreads(fresh) == pytest.approx(_spreads(MaxxVit(settings)), rel=0.15)


def _rates(model: nn.Module) -> list[Any]:
    return [m.drop_prob for m in model.modules() if type(m).__name__ == "DropPath"]


def _spreads(model: nn.Module) -> list[float]:
    """Of fresh weights: the same kind of initialisation has the same."""
    named = model.named_parameters()
    return [float(p.detach().std()) for n, p in named if n.endswith("mlp.fc1.weight")]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_small_one_trains(checkpointing: bool) -> None:
    torch.manual_seed(0)
    model = CoAtNet(
        **SMALL, num_classes=3, hidden_size=48, img_size=64, activation_checkpointing=checkpointing
    )
    stage: Any = model.stages[3]
    assert stage(torch.randn(1, 16, 4, 4)).shape == (1, 32, 4, 4)  # wider, and as large as before
    images, labels = torch.randn(6, 3, 64, 64), torch.arange(6) % 3
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
    assert losses[0] == pytest.approx(1.1, abs=0.4) and losses[-1] < 0.3 * losses[0]


def trained(settings: dict[str, Any], compiled: bool = False, **more: Any) -> CoAtNet:
    """A model after two forward and backward passes."""
    torch.manual_seed(0)
    model = CoAtNet(**settings, num_classes=3, **more)
    call: Any = torch.compile(model, backend="aot_eager") if compiled else model
    for seed in range(2):
        torch.manual_seed(seed)
        call(torch.randn(4, 3, more["img_size"], more["img_size"])).square().mean().backward()
    return model


ONE_BLOCK = {**SMALL, "widths": (8,), "depths": (1,), "block_types": "C", "strides": (2,)}


@pytest.mark.parametrize(
    ("settings", "more", "compiled"),
    [(SMALL, {"img_size": 64, "drop_path_rate": 0.3}, False), (ONE_BLOCK, {"img_size": 8}, True)],
    ids=["all blocks", "compiled"],
)
def test_what_is_computed_again_has_the_same_gradients_and_is_counted_once(
    settings: dict[str, Any], more: dict[str, Any], compiled: bool
) -> None:
    plain = trained(settings, **more)
    again = trained(settings, compiled, **more, activation_checkpointing=True)
    assert any("running" in name for name, _ in plain.named_buffers())
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(again.get_buffer(name), buffer)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(again.get_parameter(name).grad, parameter.grad)


def test_relative_positions_are_resampled_for_larger_images() -> None:
    small, large = (CoAtNet(**SMALL, num_classes=0, img_size=side) for side in (64, 128))
    state = small.state_dict()
    fitted = resized(state, large)
    tables = [name for name in state if name.endswith("relative_position_bias_table")]
    assert len(tables) == 3
    for name in tables:
        assert fitted[name].shape == large.state_dict()[name].shape != state[name].shape
        assert fitted[name].mean() == pytest.approx(float(state[name].mean()), abs=0.05)
    large.load_state_dict(fitted)
    assert large(torch.randn(1, 3, 128, 128)).shape == (1, 48)


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="must be lists of one length"):
        CoAtNet(**{**SMALL, "depths": (1, 2)})
