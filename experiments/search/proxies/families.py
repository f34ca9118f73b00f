"""The registry of proxies: a family's data, model, and the learning rates that it is judged at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from experiments import sources, trust
from experiments.build import explained, locate
from experiments.config import ConfigError
from experiments.search.proxies.proxy import Proxy


@dataclass(frozen=True)
class Family:
    """One kind of model on one kind of data."""

    make: Callable[[], Proxy]
    lrs: tuple[float, ...]  # a factor of 4 apart, so that AdamW's and Lion's best lie inside
    what: str
    stand_in: Callable[[], str] = str  # what is used of data that are not here; "" where they are


def _mlp() -> Proxy:
    from experiments.search.proxies.examples import Examples
    from experiments.search.proxies.perceptron import Perceptron

    return Perceptron("mlp", Examples("mnist1d"))


def _language() -> Proxy:
    from experiments.search.proxies.language_model import LanguageModel
    from experiments.search.proxies.text import Text, say_stand_in

    say_stand_in()
    return LanguageModel("lm", Text())


def _stand_in_text() -> str:
    from experiments.search.proxies.text import stand_in

    return stand_in()


def _convolution() -> Proxy:
    from experiments.search.proxies.convolution import Convolution
    from experiments.search.proxies.examples import Examples

    return Convolution("conv", Examples("digits"))


FAMILIES = {
    "mlp": Family(_mlp, (0.001, 0.004, 0.016, 0.064), "perceptron of 1,632 weights, MNIST-1D"),
    "lm": Family(
        _language,
        (0.001, 0.004, 0.016, 0.064),
        "transformer of 4,400, King James Bible",
        _stand_in_text,
    ),
    "conv": Family(_convolution, (0.001, 0.004, 0.016, 0.064), "convolutions of 3,120, digits"),
}


def check(name: str) -> None:
    """Refuses a family that there is not. The name is the user's own choice, and trusted.

    Raises:
        ConfigError: names those that there are.
    """
    if name not in FAMILIES and "." in name:
        _made(name)
        trust.note([{"task": {"_target_": name}}])
    family(name)


def family(name: str) -> Family:
    """One of ours, or one of the user's own: the dotted path of a function that returns a `Family`.

    Raises:
        ConfigError: there is none; a recorded search names code that was never used here.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if "." not in name:
        there = ", ".join(FAMILIES)
        own = "my_lab.my_family, a function that returns a Family"
        raise ConfigError(f"search.family={name}: no such family; there are: {there}; or {own}")
    if problem := trust.problem(name):
        said = f"if you trust it, say --trust {name} or {trust.VARIABLE}={name}"
        raise ConfigError(f"search.family={name} {problem}: {said}")
    return _made(name)


@cache
def _made(path: str) -> Family:
    with explained(f"search.family={path}: cannot be made"):
        made = locate(path, "search.family")()
    if not isinstance(made, Family):
        raise ConfigError(f"search.family={path}: must return a Family, not {type(made).__name__}")
    return made


def code(name: str) -> str:
    """Hash of the files that a family of one's own is made of; of ours what stands in for data
    that are not here, or "": workers and sessions whose codes differ do not judge alike.
    """
    return FAMILIES[name].stand_in() if name in FAMILIES else sources.hash_of([name])


def part(name: str) -> str:
    """What of a family it is that can differ, in a word."""
    return "data" if name in FAMILIES else "code"


def names(*more: str) -> tuple[str, ...]:
    """All of ours, and others once."""
    return tuple(dict.fromkeys((*FAMILIES, *more)))


@cache
def proxy(name: str) -> Proxy:
    """The proxy of a family; made once per process."""
    return family(name).make()
