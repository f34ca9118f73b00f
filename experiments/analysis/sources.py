"""Where the tables behind the figures lie, and how they are read.

results/paper/*.csv are the paper's numbers; results/studies/EXPERIMENT/NAME/ and results/proxies/
are ours.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.analysis.studies import DEFAULT_EXPERIMENT, read_study, study_path
from experiments.pages import script
from experiments.store import UserError

RESULTS = Path(__file__).resolve().parent.parent.parent / "results"
PAPER_COLUMNS = ("source",)

METRICS = {
    "imagenet_top1": "ImageNet",
    "real_top1": "ReaL",
    "v2_top1": "ImageNet-V2",
    "imagenet_a_top1": "ImageNet-A",
    "imagenet_r_top1": "ImageNet-R",
}
"""Test sets, as a reader knows them; all top-1 accuracies in %."""


PROXIES = {
    "vit_proxy": "a ViT of 39,322 parameters, 8 × 8 digits",
    "resnet_proxy": "a ResNet of 21,394 parameters, digits",
    "vit_mnist1d_proxy": "a ViT of 58,186 parameters, MNIST-1D signals",
    "mixer_proxy": "a Mixer of 20,958 parameters, MNIST-1D signals",
    "fashion": "a ViT of 80,586 parameters, 10,000 images of Fashion-MNIST",
    "vit_signals_proxy": "a ViT of 58,186 parameters, 20,000 signals",
}
"""Model and data of each experiment of ours, where a table does not say them."""


def paper(name: str, results: Path = RESULTS, version: str | None = "neurips") -> pd.DataFrame:
    """One table of the paper's numbers, without the column `source`.

    Args:
        name: File in results/paper, without .csv; the README there explains each.
        results: Folder of all results.
        version: Of the paper; None for all rows (some tables have no such column).

    Raises:
        UserError: where there is no such table.
    """
    table = _read(results / "paper" / f"{name}.csv", PAPER_COLUMNS).drop(columns="source")
    return table if version is None else table[table.version == version].reset_index(drop=True)


def study(name: str, results: Path = RESULTS, experiment: str | None = None) -> pd.DataFrame | None:
    """One of our studies, a row per run; None where it has not been run yet.

    Args:
        name: Of the study.
        results: Folder of all results.
        experiment: Whose study; by default that of `DEFAULT_EXPERIMENT`.

    Raises:
        UserError: where its table is damaged.
    """
    path = study_path(results, name, experiment)
    return None if path is None else read_study(path)


def noise(results: Path = RESULTS) -> pd.DataFrame | None:
    """Loss of our runs under noise on the weights, from scripts/landscape.py; None where not run.

    Of `DEFAULT_EXPERIMENT` where it was measured, else of the first experiment.

    Raises:
        UserError: where the table is damaged.
    """
    return next(iter(noises(results).values()), None)


def noises(results: Path = RESULTS) -> dict[str, pd.DataFrame]:
    """As `noise`, of every experiment by its name, `DEFAULT_EXPERIMENT` first."""
    needed = ("experiment", "optimizer", "seed", "noise", "scale", "loss")
    return {path.parent.parent.name: _read(path, needed) for path in noise_paths(results)}


def noise_path(results: Path = RESULTS) -> Path | None:
    """Where the table of `noise` lies; None where it was not measured."""
    return next(iter(noise_paths(results)), None)


def noise_paths(results: Path = RESULTS) -> list[Path]:
    """Where the tables of `noises` lie, that of `DEFAULT_EXPERIMENT` first."""
    found = sorted(results.glob("studies/*/landscape/noise.csv"))
    return sorted(found, key=lambda path: path.parent.parent.name != DEFAULT_EXPERIMENT)


def proxies(results: Path = RESULTS) -> dict[str, pd.DataFrame]:
    """The published comparisons on proxies, by name of the experiment.

    Raises:
        UserError: where there is none, or one is damaged.
    """
    paths = sorted((results / "proxies").glob("*.csv"))
    if not paths:
        raise _missing(results / "proxies")
    return {path.stem: read_study(path) for path in paths}


def claims(results: Path = RESULTS, with_verdicts: bool = True) -> pd.DataFrame:
    """The ledger of claims as it has been written, by claim; or the paper's list alone.

    Raises:
        UserError: where it is not there, or damaged.
    """
    if with_verdicts:
        return _read(results / "claims.csv", ("claim_id",)).set_index("claim_id")
    return _read(results / "paper" / "claims.csv", ("id",))


def _missing(path: Path) -> UserError:
    """What to do about a table that is not there."""
    if path.is_relative_to(RESULTS) and not RESULTS.is_dir():
        return UserError(
            f"{path} is missing: an installed package has no results/; name the folder of a "
            "checkout (results=), or work in one"
        )
    what = f"{script('claims')} writes it" if path.name == "claims.csv" else ""
    return UserError(f"{path} is missing or empty: {what or 'check it out from git again'}")


def _read(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no table ({error}): check it out or collect it anew") from None
    if missing := [column for column in needed if column not in table]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}: collect it anew")
    return table
