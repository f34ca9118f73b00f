"""`job=search`: looks for optimizers by evolving programs, as the paper has found Lion.

    python run.py job=search                              # search=laptop
    python run.py job=search search=smoke seed=1
    python run.py job=search search=paper search.executor=slurm search.num_workers=64

Called again, it goes on where it stopped; a finished search is only reported. Everything lies in
`results/searches/NAME/`; `python scripts/search.py status` shows it.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config import RunConfig, UserError
from experiments.files import FULL
from experiments.pages import CONF
from experiments.search import session
from experiments.search.folder import SearchFolder
from experiments.search.settings import from_page

DEFAULT_PAGE = "laptop"
_UNWRITABLE = (*FULL, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


def main(config: RunConfig) -> int:
    """Searches; returns the exit code."""
    return start(config.search, config.seed, Path(config.results_dir).parent / "searches")


def start(page: Mapping[str, Any], seed: int, root: Path) -> int:
    """Begins a search, or goes on with it.

    Args:
        page: Settings; one without a name is a change of `conf/search/laptop.yaml`.
        seed: Of everything random in it.
        root: Folder of the searches.

    Raises:
        UserError: a setting that cannot be; a disk that is full.
    """
    settings = from_page(page if "name" in page else {**read_page(DEFAULT_PAGE), **page})
    try:
        return session.run(SearchFolder.create(settings, seed, root), settings)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise UserError(
            f"{error.filename or root}: cannot be written ({error.strerror}): make room, or look "
            "at the disk; the same command goes on, nothing that was told is lost"
        ) from error


def read_page(name: str) -> dict[str, Any]:
    """A page with the pages that it builds on, as Hydra composes it."""
    import yaml

    page = yaml.safe_load((CONF / "search" / f"{name}.yaml").read_text())
    merged: dict[str, Any] = {}
    for base in page.pop("defaults", []):
        merged |= {} if base == "_self_" else read_page(base)
    for key, value in page.items():
        within = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if within else value
    return merged
