"""What an optimizer remembers in attributes, which no checkpoint holds: a resumed run forgets it.

What a run saves is `Optimizer.state_dict()`: `state`, `param_groups`, and what a class adds there.
A counter in an attribute begins anew after a stop, and nothing fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from numbers import Number
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from experiments.distributed import local

Path = tuple[Any, ...]
"""An attribute's name, and the places within it."""
Leaf = Tensor | Number
Values = dict[Path, str]
"""What numbers and tensors are worth."""
_MOST = 1000
"""Elements of a tensor that are looked at, spread over it."""
_SAVED = ("state", "param_groups")


class Watch:
    """Compares an optimizer's attributes after the first step of a session with later ones.

    What is made at the first step and stays is a table, not a memory.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._num_steps = 0
        self._first: Values = {}
        self._is_said = False

    def stepped(self) -> None:
        """To be called after each step."""
        self._num_steps += 1
        if self._num_steps == 1:
            self._first = self._remembered({})

    def warning(self, saved: Mapping[str, Any]) -> str:
        """What to say, once, of attributes that have changed and are not saved; else "".

        Args:
            saved: The optimizer's state dict.
        """
        if self._num_steps < 2 or self._is_said:
            return ""
        added = {key: value for key, value in saved.items() if key not in _SAVED}
        kept = {_worth(leaf) for _, leaf in _leaves(added, set())}
        now = self._remembered({key: saved[key] for key in _SAVED if key in saved})
        changed = {
            str(path[0]): None
            for path, worth in now.items()
            if worth not in kept and worth != self._first.get(path)
        }
        if not changed:
            return ""
        self._is_said = True
        return (
            f"{type(self._optimizer).__name__} keeps {', '.join(changed)} in an attribute, which a "
            "checkpoint does not hold: stopped and called again, this run may end otherwise; keep "
            "it in self.state or in the groups, or give it with state_dict()"
        )

    def _remembered(self, saved: Mapping[str, Any]) -> Values:
        """All numbers and tensors in attributes, but for those that are saved as they are."""
        one, seen = self._optimizer, set()
        for known in (one.state, one.param_groups, saved):
            deque(_leaves(known, seen), maxlen=0)
        return {path: _worth(leaf) for path, leaf in _leaves(vars(one), seen)}


def _leaves(value: Any, seen: set[Any], path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """Numbers and tensors within a value, but for what was seen; what is met counts as seen.

    An optimizer within counts, too; a switch (such as whether something was said) does not.
    """
    if isinstance(value, Tensor):
        if _is_new(value, seen):
            yield path, value
        return
    if isinstance(value, Number) and not isinstance(value, bool):
        yield path, value
    if isinstance(value, Optimizer):
        value = vars(value)
    if not isinstance(value, Mapping | list | tuple | deque) or id(value) in seen:
        return
    seen.add(id(value))
    named = value.items() if isinstance(value, Mapping) else enumerate(value)
    for place, (key, one) in enumerate(named):
        if key != "defaults":
            yield from _leaves(one, seen, (*path, place if isinstance(key, Tensor) else key))


def _is_new(tensor: Tensor, seen: set[Any]) -> bool:
    """Whether its memory was not met before; it is from now on."""
    own = local(tensor)
    if own.layout is not torch.strided:
        return False
    try:
        place = "memory", own.untyped_storage().data_ptr()
    except RuntimeError:  # a tensor of other tensors, such as a quantized one, has none of its own
        place = "tensor", id(tensor)
    is_new = place not in seen
    seen.add(place)
    return is_new


def _worth(leaf: Leaf) -> str:
    if not isinstance(leaf, Tensor):
        return repr(leaf)
    flat = local(leaf).detach().reshape(-1)
    return str(flat[:: max(1, len(flat) // _MOST)].tolist())
