"""`job=search`: looks for optimizers by evolving programs, as the paper has found Lion.

    python run.py job=search                              # search=laptop
    python run.py job=search search=smoke seed=1
    python run.py job=search search=paper search.executor=slurm search.num_workers=64

Called again, it goes on where it stopped; a finished search is only reported. Everything lies in
`results/searches/NAME/`; `python scripts/search.py status` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config import RunConfig
from experiments.search import session
from experiments.search.folder import SearchFolder
from experiments.search.settings import from_page

PAGES = Path(__file__).resolve().parents[2] / "conf" / "search"
DEFAULT_PAGE = "laptop"


def main(config: RunConfig) -> int:
    """Searches; returns the exit code."""
    return start(config.search, config.seed, Path(config.results_dir).parent / "searches")


def start(page: Mapping[str, Any], seed: int, root: Path) -> int:
    """Begins a search, or goes on with it.

    Args:
        page: Settings; those that are missing come from `conf/search/laptop.yaml`, unless the page
            has a name of its own.
        seed: Of everything random in it.
        root: Folder of the searches.
    """
    import yaml

    if "name" not in page:
        text = (PAGES / f"{DEFAULT_PAGE}.yaml").read_text()
        page = {**yaml.safe_load(text), **page}
    settings = from_page(page)
    return session.run(SearchFolder.create(settings, seed, root), settings)
