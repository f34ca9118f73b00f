"""The loss of matching images and texts among those of the whole global batch.

Legend: N pairs of this process, M of all processes, D embedding.
Source: arXiv:2103.00020 (CLIP).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from experiments.distributed import World


def contrastive_loss(images_ND: Tensor, texts_ND: Tensor, world: World) -> Tensor:
    """Mean of the cross entropies image -> text and text -> image.

        loss = 1/2 mean_i [-log softmax_j(x_i y_j)_i] + 1/2 mean_j [-log softmax_i(x_i y_j)_j]

    Args:
        images_ND: x, unit vectors times the scale of the logits; row k belongs to text k.
        texts_ND: y, unit vectors.
        world: The processes; all have as many pairs.

    Returns:
        This process's part, scalar: its rows against those of all. The mean over the processes is
        the loss of the global batch, and so are the gradients, averaged as gradients are.
    """
    with torch.autocast(images_ND.device.type, enabled=False):
        images_ND, texts_ND = images_ND.float(), texts_ND.float()
        right = torch.arange(len(images_ND), device=images_ND.device) + world.rank * len(images_ND)
        to_texts_NM = images_ND @ world.gather(texts_ND).T
        to_images_NM = texts_ND @ world.gather(images_ND).T
        return (
            functional.cross_entropy(to_texts_NM, right)
            + functional.cross_entropy(to_images_NM, right)
        ) / 2
