"""The registry of proxies: a family's data, model, and the learning rates that it is judged at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from experiments.config import ConfigError
from experiments.search.proxies.proxy import Proxy


@dataclass(frozen=True)
class Family:
    """One kind of model on one kind of data."""

    make: Callable[[], Proxy]
    lrs: tuple[float, ...]  # a factor of 4 apart, so that AdamW's and Lion's best lie inside
    what: str


def _mlp() -> Proxy:
    from experiments.search.proxies.examples import Examples
    from experiments.search.proxies.perceptron import Perceptron

    return Perceptron("mlp", Examples("mnist1d"))


def _language() -> Proxy:
    from experiments.search.proxies.language_model import LanguageModel
    from experiments.search.proxies.text import Text

    return LanguageModel("lm", Text())


def _convolution() -> Proxy:
    from experiments.search.proxies.convolution import Convolution
    from experiments.search.proxies.examples import Examples

    return Convolution("conv", Examples("digits"))


FAMILIES = {
    "mlp": Family(_mlp, (0.001, 0.004, 0.016, 0.064), "perceptron of 1,632 weights, MNIST-1D"),
    "lm": Family(_language, (0.001, 0.004, 0.016, 0.064), "transformer of 4,400, King James Bible"),
    "conv": Family(_convolution, (0.001, 0.004, 0.016, 0.064), "convolutions of 3,120, digits"),
}


def check(name: str) -> None:
    """Refuses a family that there is not.

    Raises:
        ConfigError: names those that there are.
    """
    if name not in FAMILIES:
        raise ConfigError(f"search.family={name}: no such family; there are: {', '.join(FAMILIES)}")


@cache
def proxy(name: str) -> Proxy:
    """The proxy of a family; made once per process."""
    return FAMILIES[name].make()
