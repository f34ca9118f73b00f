"""optax.lion along a trajectory, compiled by JAX as it is meant to be used."""

from __future__ import annotations

import os
import pickle
from typing import Any

import torch
from torch import Tensor

from scripts.conformance_lab.scenarios import BETAS, Grads
from scripts.conformance_lab.sessions import NotOffered
from scripts.conformance_lab.verdict import State

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
import jax.numpy as jnp
import optax


class OptaxSession:
    """optax.lion with an injected learning rate, so that a schedule needs no new compilation."""

    def __init__(self, weights: list[Tensor], lr: Any, weight_decay: float, maximize: bool) -> None:
        if maximize:
            raise NotOffered("it has no argument `maximize`")
        make = optax.inject_hyperparams(optax.lion, static_args=("b1", "b2", "weight_decay"))
        self._lion = make(
            learning_rate=float(lr), b1=BETAS[0], b2=BETAS[1], weight_decay=weight_decay
        )
        self._weights = [_to_jax(weight) for weight in weights]
        self._state: Any = self._lion.init(self._weights)
        self._update = jax.jit(self._stepped)

    def _stepped(self, grads: list, state: Any, weights: list) -> tuple[Any, Any]:
        updates, state = self._lion.update(grads, state, weights)
        return optax.apply_updates(weights, updates), state

    def step(self, grads: Grads, lr: float) -> None:
        """Take one step."""
        if any(grad is None for grad in grads):
            raise NotOffered("a JAX gradient is never missing")
        self._state.hyperparams["learning_rate"] = jnp.asarray(lr, jnp.float32)
        given = [_to_jax(grad) for grad in grads if grad is not None]
        self._weights, self._state = self._update(given, self._state, self._weights)

    def resume(self) -> None:
        """Save and load the state, a tree of arrays."""
        leaves, tree = jax.tree.flatten(self._state)
        self._state = jax.tree.unflatten(tree, pickle.loads(pickle.dumps(leaves)))

    def state(self) -> State:
        """Copies as torch tensors."""
        momenta = optax.tree_utils.tree_get(self._state, "mu")
        columns = ([_to_torch(x) for x in column] for column in (self._weights, momenta))
        return State(*columns, is_8_bit=[False] * len(self._weights))

    def notes(self) -> list[str]:
        """None: JAX arrays cannot be overwritten."""
        return []


def _to_jax(tensor: Tensor) -> jax.Array:
    dtype = jnp.bfloat16 if tensor.dtype == torch.bfloat16 else jnp.float32
    return jnp.asarray(tensor.float().numpy(), dtype)


def _to_torch(array: jax.Array) -> Tensor:
    dtype = torch.bfloat16 if array.dtype == jnp.bfloat16 else torch.float32
    return torch.tensor(jax.device_get(array.astype(jnp.float32))).to(dtype)
