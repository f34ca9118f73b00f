"""Optimizers as the paper writes them: in figures, tables and the report."""

from __future__ import annotations

NAMES = {
    "lion": "Lion",
    "lion_single_beta": "sign momentum 0.9",
    "lion_single_beta_99": "sign momentum 0.99",
    "hero_lion": "Hero-Lion",
    "adamw": "AdamW",
    "adafactor": "Adafactor",
    "sgd": "SGD",
    "radam": "RAdam",
    "nadam": "NAdam",
    "adabelief": "AdaBelief",
    "amsgrad": "AMSGrad",
    "powersign": "PowerSign",
    "addsign": "AddSign",
    "clion": "Cautious Lion",
    "lionc": "Lion, corrected decay",
    "cadamw": "Cautious AdamW",
    "adopt": "ADOPT",
    "mars": "MARS",
    "laprop": "LaProp",
    "lamb": "LAMB",
    "muon": "Muon",
    "schedulefree": "Schedule-Free AdamW",
    "adamw, fused": "AdamW, fused",
}
"""Pages of conf/optimizer as the figures call them."""


def name_of(optimizer: str) -> str:
    """How figures call an optimizer, given its page in conf/optimizer or the paper's name."""
    return NAMES.get(optimizer, optimizer)
