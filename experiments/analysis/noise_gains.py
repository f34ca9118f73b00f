"""How far Lion goes beside AdamW at one learning rate, where gradients are mostly noise.

Take a gradient of mean mu and deviation sigma >> |mu|, normal, independent from step to step. A
step of AdamW goes lr mu / sigma on average, one of Lion lr G mu / sigma; the random walk of many
steps is larger by about G, too. So AdamW's best learning rate over Lion's should be about G. Where
the mean rules, both go lr a step: then it is 1. Put to a test by `sweep=betas_and_steps`.
"""

from __future__ import annotations

import math

NAME = "noise_gains"


def gain(beta1: float, beta2: float) -> float:
    """G: the slope of the normal distribution at 0 over the deviation that the sign is taken of.

    That is of c = beta1 m + (1 - beta1) g, where m averages earlier gradients with beta2.

    >>> round(gain(0.9, 0.99), 1)
    6.7
    """
    variance = (1 - beta1) ** 2 + beta1**2 * (1 - beta2) / (1 + beta2)
    return math.sqrt(2 / math.pi / variance)
