"""Lion and its relatives (arXiv:2302.06675) as torch optimizers; needs PyTorch only.

`Lion` is the optimizer of the paper and `HeroLion` its bias-corrected early form; `PowerSign` and
`AddSign` are baselines; `param_groups` decides what decays; `rule` holds the formulas as functions.
"""

from lion import rule
from lion.baselines import AddSign, PowerSign
from lion.hero import HeroLion
from lion.lion import Lion
from lion.param_groups import param_groups

__all__ = ["AddSign", "HeroLion", "Lion", "PowerSign", "param_groups", "rule"]
