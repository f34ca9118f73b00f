"""A causal transformer of one layer on text folded to 32 characters.

Pre-norm, RMSNorm, two heads, learned positions, ReLU; D = 4,400. K: lanes, N: tokens of a batch,
d: width, H: heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.search.proxies.proxy import Batch, Layout, Parameter, cross_entropy, relu_back
from experiments.search.proxies.text import Text

EPSILON = 1e-6


class LanguageModel:
    """Predicts each next character; the loss is nats per character."""

    def __init__(self, name: str, text: Text, width: int = 16, num_heads: int = 2) -> None:
        self.name = name
        self._text = text
        self.width, self.num_heads = width, num_heads
        narrow, wide = width**-0.5, (4 * width) ** -0.5
        symbols = text.num_symbols
        self.layout = Layout(
            (
                Parameter("embedding", (symbols, width), 0.5),
                Parameter("position", (text.length, width), 0.5),
                Parameter("norm_attention", (width,), 0.0, 1.0),
                Parameter("attention_in", (width, 3 * width), narrow),
                Parameter("attention_out", (width, width), narrow),
                Parameter("norm_mlp", (width,), 0.0, 1.0),
                Parameter("mlp_in", (width, 4 * width), narrow),
                Parameter("mlp_out", (4 * width, width), wide),
                Parameter("norm_output", (width,), 0.0, 1.0),
                Parameter("output", (width, symbols), narrow),
            )
        )
        ahead = torch.ones(text.length, text.length, dtype=torch.bool).triu(1)
        self._mask = torch.zeros(text.length, text.length).masked_fill(ahead, -1e9)

    def training(self, stream: int, num_steps: int) -> Sequence[Batch]:
        """See `Proxy`."""
        return self._text.training(stream, num_steps)

    def validation(self, window: int, part: str) -> Batch:
        """See `Proxy`."""
        return self._text.validation(window, part)

    def loss(self, weights: Tensor, batch: Batch) -> Tensor:
        """See `Proxy`."""
        return self._forward(self.layout.views(weights), batch)[0]

    def loss_and_gradient(self, weights: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Proxy`; the derivative is written out, which is quicker than autograd."""
        w = self.layout.views(weights)
        losses, kept = self._forward(w, batch)
        gradient = torch.empty_like(weights)
        self._backward(w, self.layout.views(gradient), batch, kept)
        return losses, gradient

    def _forward(self, w: list[Tensor], batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        lanes, sequences, length, symbols = batch.inputs.shape
        flat = (lanes, sequences * length)
        one_hot = batch.inputs.reshape(*flat, symbols)
        position = w[1][:, None].expand(-1, sequences, -1, -1).reshape(*flat, self.width)
        x0 = torch.baddbmm(position, one_hot, w[0])
        n1, s1 = _norm(x0)
        a1 = n1 * w[2][:, None]
        q, k, v = self._heads(torch.bmm(a1, w[3]), sequences)
        share = torch.baddbmm(self._mask, q, k.mT, alpha=(self.width // self.num_heads) ** -0.5)
        share = share.softmax(-1)
        mixed = self._merged(torch.bmm(share, v), sequences, lanes)
        x1 = torch.baddbmm(x0, mixed, w[4])
        n2, s2 = _norm(x1)
        a2 = n2 * w[5][:, None]
        hidden = torch.bmm(a2, w[6]).relu_()
        x2 = torch.baddbmm(x1, hidden, w[7])
        n3, s3 = _norm(x2)
        a3 = n3 * w[8][:, None]
        losses, slope = cross_entropy(torch.bmm(a3, w[9]), batch.targets.reshape(flat))
        attended = n1, s1, a1, q, k, v, share, mixed
        return losses, (one_hot, *attended, n2, s2, a2, hidden, n3, s3, a3, slope)

    def _backward(
        self, w: list[Tensor], to: list[Tensor], batch: Batch, kept: tuple[Tensor, ...]
    ) -> None:
        """Fills the gradient's views `to` from what the forward pass kept."""
        one_hot, n1, s1, a1, q, k, v, share, mixed, n2, s2, a2, hidden, n3, s3, a3, slope = kept
        lanes, sequences, length, _ = batch.inputs.shape
        to[9].copy_(torch.bmm(a3.mT, slope))
        dx2 = _norm_back(torch.bmm(slope, w[9].mT), n3, s3, w[8], to[8])
        to[7].copy_(torch.bmm(hidden.mT, dx2))
        dh = relu_back(torch.bmm(dx2, w[7].mT), hidden)
        to[6].copy_(torch.bmm(a2.mT, dh))
        dx1 = _norm_back(torch.bmm(dh, w[6].mT), n2, s2, w[5], to[5]).add_(dx2)
        to[4].copy_(torch.bmm(mixed.mT, dx1))
        dmixed = self._heads(torch.bmm(dx1, w[4].mT), sequences)[0]
        dv = torch.bmm(share.mT, dmixed)
        dshare = torch.bmm(dmixed, v.mT)
        dscore = torch.ops.aten._softmax_backward_data(dshare, share, -1, share.dtype)
        dscore.mul_((self.width // self.num_heads) ** -0.5)
        dq, dk = torch.bmm(dscore, k), torch.bmm(dscore.mT, q)
        dqkv = torch.cat([self._merged(part, sequences, lanes) for part in (dq, dk, dv)], -1)
        to[3].copy_(torch.bmm(a1.mT, dqkv))
        dx0 = _norm_back(torch.bmm(dqkv, w[3].mT), n1, s1, w[2], to[2]).add_(dx1)
        to[0].copy_(torch.bmm(one_hot.mT, dx0))
        to[1].copy_(dx0.view(lanes, sequences, length, self.width).sum(1))

    def _heads(self, x: Tensor, sequences: int) -> tuple[Tensor, ...]:
        """(K, N, j d) to j tensors of (K sequences H, length, d / H)."""
        lanes, tokens, width = x.shape
        length, parts = tokens // sequences, width // self.width
        shape = (lanes, sequences, length, parts, self.num_heads, self.width // self.num_heads)
        split = x.view(shape).permute(3, 0, 1, 4, 2, 5).contiguous()
        return split.view(parts, -1, length, shape[-1]).unbind(0)

    def _merged(self, x: Tensor, sequences: int, lanes: int) -> Tensor:
        """(K sequences H, length, d / H) to (K, N, d)."""
        length = x.shape[1]
        shape = (lanes, sequences, self.num_heads, length, -1)
        return x.view(shape).transpose(2, 3).reshape(lanes, sequences * length, self.width)


def _norm(x: Tensor) -> tuple[Tensor, Tensor]:
    """RMSNorm without its gain, and the factor that it multiplied by: (K, N, d), (K, N, 1)."""
    scale = (x * x).mean(-1, keepdim=True).add_(EPSILON).rsqrt_()
    return x * scale, scale


def _norm_back(
    slope: Tensor, normed: Tensor, scale: Tensor, gain: Tensor, to_gain: Tensor
) -> Tensor:
    """Through gain and RMSNorm: fills the gain's gradient, returns that of the input."""
    to_gain.copy_((slope * normed).sum(1))
    slope.mul_(gain[:, None])
    along = (slope * normed).mean(-1, keepdim=True)
    return slope.sub_(normed * along).mul_(scale)
