"""Foreign weights for models that use one tensor under several names."""

from __future__ import annotations

import re

from torch import Tensor, nn


def under_all_names(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights as files hold them, which write a tied tensor once, under all of its names.

    Names that transformers itself passes over in old files (a bias of T5 1.0 that nothing ever
    used) are left out.

    Args:
        state: By name.
        model: As built.
    """
    names_of: dict[int, list[str]] = {}
    own = model.state_dict(keep_vars=True)
    for name, tensor in own.items():
        names_of.setdefault(id(tensor), []).append(name)
    whole = dict(state)
    for names in names_of.values():
        there = next((state[name] for name in names if name in state), None)
        if there is not None:
            whole.update({name: there for name in names if name not in state})
    unused = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    return {
        name: tensor
        for name, tensor in whole.items()
        if name in own or not any(re.search(pattern, name) for pattern in unused)
    }
