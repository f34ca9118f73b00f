"""Frozen models that lie in a folder of this machine, as transformers saves them.

Nothing is fetched, only safetensors are read, and every weight must be there: transformers would
draw what is missing at random, and say so in a warning alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from experiments.config import ConfigError
from experiments.packages import get


def load_whole(name: str, folder: Path, key: str, what: str) -> Any:
    """A model in float32 and in evaluation mode.

    Args:
        name: Its class in transformers.
        folder: With config.json and model.safetensors.
        key: Of the configuration, for messages.
        what: It must be, in words.

    Raises:
        ConfigError: where the folder holds something else, or too little.
    """
    try:
        import transformers

        kind: Any = getattr(transformers, name)
        # A checkpoint in half precision would otherwise also compute in it.
        model, told = kind.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except ImportError as error:
        raise ConfigError(f"{key}: {error}: {get('transformers')}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(f"{key}={folder}: no {what} ({reason})") from error
    if lacking := sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]])):
        raise ConfigError(
            f"{key}={folder}: no {what}: {len(lacking)} of its weights are not there, such as "
            f"{lacking[0]}"
        )
    return model.eval()


def load_part(name: str, folder: Path, key: str) -> Any:
    """A tokenizer or an image processor, by its class in transformers.

    Raises:
        ConfigError: where the folder lacks its files.
    """
    try:
        import transformers

        return getattr(transformers, name).from_pretrained(folder, local_files_only=True)
    except ImportError as error:
        raise ConfigError(f"{key}: {error}: {get('transformers')}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(f"{key}={folder}: {name} finds nothing to read ({reason})") from error
