"""The small nets: their sizes as the pages say, a gradient for every weight, and sparse rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from experiments.build import build
from experiments.models.small_nets import BagOfWords, SmallLSTM
from run import compose

SIZES = {"mlp": 7434, "cnn": 2474, "lstm": 5706, "bandit": 7434, "verses": 12_602}


@pytest.mark.parametrize("family", SIZES)
def test_a_page_says_how_large_its_net_is_and_the_net_knows_nothing_at_first(family: str) -> None:
    config = compose([f"experiment={family}_proxy"])
    torch.manual_seed(0)
    model: Any = build(config.model, "model")
    assert sum(p.numel() for p in model.parameters()) == SIZES[family]
    is_text = family == "verses"
    x = torch.randint(1, 1501, (256, 1, 1, 48)).float() if is_text else torch.randn(256, 1, 1, 40)
    num_classes = 66 if is_text else 10
    labels = torch.arange(256) % num_classes
    loss = functional.cross_entropy(model(x), labels)
    assert loss.item() == pytest.approx(math.log(num_classes), rel=0.15)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_lstm_is_torchs_own_layer() -> None:
    torch.manual_seed(0)
    ours = SmallLSTM()
    layer = torch.nn.LSTM(8, 32, batch_first=True)
    layer.load_state_dict({f"{name}_l0": value for name, value in ours.cell.state_dict().items()})
    x = torch.randn(5, 1, 1, 40)
    expected = ours.head(layer(x.view(5, 5, 8))[0][:, -1])
    assert torch.allclose(ours(x), expected, atol=1e-6)
    with pytest.raises(ValueError, match="patch=7 must divide length=40"):
        SmallLSTM(patch=7)


def test_only_the_rows_of_words_that_are_there_have_a_gradient() -> None:
    torch.manual_seed(0)
    model = BagOfWords(num_words=9, width=4, num_classes=3)
    texts = torch.tensor([[2.0, 5.0, 0.0], [5.0, 0.0, 0.0]])[:, None, None]
    functional.cross_entropy(model(texts), torch.tensor([0, 2])).backward()
    grad = model.embedding.weight.grad
    assert grad is not None
    assert grad.abs().sum(1).nonzero().flatten().tolist() == [2, 5]
    alone = model(torch.tensor([[[[5.0, 0.0, 0.0]]]]))
    assert torch.allclose(model(texts)[1:], alone)
