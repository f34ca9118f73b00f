"""Cross entropy of tokens: in single precision, over what is scored, in chunks and at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments.models.token_loss import (
    IGNORED,
    DeferredLinear,
    chunked_token_loss,
    deferred,
    mean_token_loss,
    token_losses,
)

TARGETS = torch.tensor([[3, IGNORED, 0, 6, 2], [IGNORED, 1, 1, IGNORED, 5]])


def by_hand(logits: torch.Tensor) -> torch.Tensor:
    """Nats of the seven tokens that are scored."""
    log_p = logits.double().log_softmax(-1)
    return torch.stack([-log_p[b, t, TARGETS[b, t]] for b, t in (TARGETS != IGNORED).nonzero()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_are_those_of_the_scored_tokens_in_single_precision(dtype: torch.dtype) -> None:
    logits = 3 * torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted, each = by_hand(logits).float(), token_losses(logits, TARGETS)
    torch.testing.assert_close(each[TARGETS != IGNORED], wanted)
    assert each[TARGETS == IGNORED].tolist() == [0.0] * 3
    torch.testing.assert_close(mean_token_loss(logits, TARGETS), wanted.mean())


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunks_give_the_loss_and_the_gradients_of_the_whole(
    dtype: torch.dtype, chunk: int
) -> None:
    torch.manual_seed(0)
    head, hidden = DeferredLinear(4, 7).to(dtype), torch.randn(2, 5, 4).to(dtype).requires_grad_()
    with deferred(nn.Sequential(head)) as found:
        assert found is head and head(hidden) is hidden
    whole = mean_token_loss(head(hidden), TARGETS)
    parts = chunked_token_loss(hidden, head, TARGETS, chunk)
    assert parts.dtype == torch.float32
    torch.testing.assert_close(parts, whole)
    of = [hidden, head.weight, head.bias]
    close = {"rtol": 0.05, "atol": 0.01} if dtype == torch.bfloat16 else {}
    found = torch.autograd.grad(parts, of), torch.autograd.grad(whole, of)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **close)
