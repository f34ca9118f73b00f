"""Every parameter lands in exactly one of decay, no-decay and frozen, or an error names it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lion import Lion, param_groups


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.head = nn.Linear(4, 5)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.tensor(1.0))


def names_in(model, group):
    by_id = {id(p): name for name, p in model.named_parameters()}
    return [by_id[id(p)] for p in group["params"]]


def described(model, groups):
    return {g["name"]: (g["weight_decay"], names_in(model, g)) for g in groups}


def test_vectors_and_scalars_go_without_decay_by_default():
    model = Model()
    assert described(model, param_groups(model, 0.3)) == {
        "decay": (0.3, ["embed.weight", "block.0.weight"]),
        "no_decay": (0.0, ["scale", "block.0.bias", "block.1.weight", "block.1.bias", "head.bias"]),
    }


def test_everything_decays_if_asked():
    model = Model()
    (group,) = param_groups(model, 0.3, no_decay_1d=False)
    assert names_in(model, group) == [name for name, _ in model.named_parameters()]


def test_patterns_choose_and_star_crosses_dots():
    model = Model()
    groups = param_groups(model, 1.0, no_decay=["*.0.weight"], frozen=["*head*", "scale"])
    # The tied weight answers to head.weight too, and so is frozen.
    assert described(model, groups) == {
        "no_decay": (0.0, ["block.0.weight", "block.0.bias", "block.1.weight", "block.1.bias"])
    }
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["scale", "embed.weight", "head.bias"]


def test_factors_that_differ_late_are_two_factors():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    groups = param_groups(model, 1.0, decay_multipliers={"0.*": 0.1234567, "1.*": 0.12345671})
    assert [group["weight_decay"] for group in groups] == [0.1234567, 0.12345671]


def test_decay_is_multiplied_where_a_pattern_says_so():
    model = Model()
    groups = param_groups(model, 0.3, decay_multipliers={"head.*": 100, "block.*": 2, "*": 1})
    assert described(model, groups) == {
        "decay x 100": (30.0, ["embed.weight"]),  # tied: it answers to head.weight
        "decay x 2": (0.6, ["block.0.weight"]),
        "no_decay": (0.0, ["scale", "block.0.bias", "block.1.weight", "block.1.bias", "head.bias"]),
    }
    assert described(model, param_groups(model, 0.3, decay_multipliers={"*": 1})) == described(
        model, param_groups(model, 0.3)
    )
    for wrong, said in (({"haed.*": 2.0}, "matches no parameter"), ({"head.*": -1.0}, "head")):
        with pytest.raises(ValueError, match=said):
            param_groups(model, 0.3, decay_multipliers=wrong)


def test_result_goes_into_any_optimizer():
    for make in (Lion, torch.optim.AdamW, torch.optim.SGD):
        model = Model()
        optimizer = make(param_groups(model, 0.3, frozen=["embed.weight"]), lr=0.1)
        assert [g["weight_decay"] for g in optimizer.param_groups] == [0.3, 0.0]
        model.head(model.block(model.embed(torch.tensor([1])))).sum().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"frozen": ["blok.0.weight"]}, "'blok.0.weight' matches no .* is 'block.0.weight'"),
        ({"no_decay": ["HEAD.*"]}, "pattern 'HEAD.*' matches no parameter: the nearest name"),
        ({"frozen": ["block.*"], "no_decay": ["*.bias"]}, "'block.0.bias' matches both"),
        ({"frozen": ["embed*"], "no_decay": ["head.w*"]}, "'embed.weight' = 'head.weight' matches"),
        ({"frozen": ["*"]}, r"nothing to train: frozen=\['\*'\] takes all 7 parameters"),
        ({"weight_decay": -1.0}, "weight_decay must be finite and >= 0, got -1.0"),
    ],
    ids=str,
)
def test_mistakes_are_named_and_change_nothing(options, message):
    model = Model()
    with pytest.raises(ValueError, match=message):
        param_groups(model, **{"weight_decay": 0.1, **options})
    assert all(p.requires_grad for p in model.parameters())


def test_parameter_frozen_elsewhere_must_be_named():
    model = Model()
    model.scale.requires_grad_(False)
    with pytest.raises(ValueError, match="'scale' is in no group"):
        param_groups(model, 0.1)
    assert len(param_groups(model, 0.1, frozen=["scale"])) == 2


def test_model_without_parameters():
    with pytest.raises(ValueError, match="nothing to train"):
        param_groups(nn.ReLU(), 0.1)
    with pytest.raises(ValueError, match="the model has none"):
        param_groups(nn.ReLU(), 0.1, frozen=["x"])


NAMES = [name for name, _ in Model().named_parameters()]


@settings(max_examples=40, deadline=None)
@given(st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)), st.booleans())
def test_groups_partition_the_parameters(no_decay, frozen, no_decay_1d):
    model = Model()
    lists = {"no_decay": sorted(no_decay - frozen), "frozen": sorted(frozen)}
    if frozen == set(NAMES):
        return
    groups = param_groups(model, 0.1, no_decay_1d=no_decay_1d, **lists)
    grouped = [name for group in groups for name in names_in(model, group)]
    assert sorted([*grouped, *frozen]) == sorted(NAMES)
    assert all(p.requires_grad == (name not in frozen) for name, p in model.named_parameters())
