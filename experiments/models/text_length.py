"""How long a text may be for a model with learned positions."""

from __future__ import annotations

from torch import nn

from experiments.config import ConfigError

_POSITIONS = ("wpe", "position_embeddings", "embed_positions")
"""What transformers calls tables of learned positions, in models of the kinds of GPT-2 and BERT."""


def check_length(model: nn.Module, length: int, setting: str) -> None:
    """Refuses texts that are longer than a model has positions for.

    It would fail at the first step, on a GPU without a word on why.

    Args:
        model: Any module.
        length: Tokens of a text.
        setting: That says so.

    Raises:
        ConfigError: names both numbers.
    """
    for name, module in model.named_modules():
        if name.rpartition(".")[2] not in _POSITIONS or not isinstance(module, nn.Embedding):
            continue
        if module.num_embeddings < length:
            raise ConfigError(
                f"{setting}={length}: the model has {module.num_embeddings} positions ({name}): "
                f"set {setting}={module.num_embeddings}, or give the model as many positions"
            )
