"""Which pages there are: `conf/`, read without Hydra."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.config import ConfigError
from experiments.nearest import nearest

_HERE = Path(__file__).resolve().parent
CONF = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf"
"""The folder of the pages, `GROUP/PAGE.yaml`: an installed package has them within (setup.py)."""


def shipped(path: str) -> str:
    """A path below `results/` that a page names: from here if it is there, else the suite's own.

    So such a page works from any folder, and in an installed package, too.
    """
    own = CONF.parent / path
    is_ours = path.startswith("results/") and not os.path.exists(path) and own.is_file()
    return str(own) if is_ours else path


def script(name: str) -> str:
    """What people type for `scripts/NAME.py` or `run.py`: an installed package lacks both.

    A room with a command of its own is called by its name there; other scripts are in a checkout.
    """
    if CONF.parent != _HERE:
        return "python run.py" if name == "run" else f"python scripts/{name}.py"
    if name == "run":
        return "lion-experiments"
    is_room = (_HERE / name / "__main__.py").is_file()
    return f"python -m experiments.{name}" if is_room else f"python CHECKOUT/scripts/{name}.py"


def as_called(text: str) -> str:
    """A text that tells of `run.py`, as it is called here."""
    if CONF.parent != _HERE:
        return text
    return text.replace("python run.py", script("run")).replace(" run.py ", " -m run ")


def help_of(name: str, doc: str | None) -> dict[str, Any]:
    """For argparse: a command's name and what it does, as it is called here."""
    texts = {"prog": f"python scripts/{name}.py", "description": doc or ""}
    return {key: text.replace(texts["prog"], script(name)) for key, text in texts.items()}


def search_path(config_dir: str | None) -> list[str]:
    """The override that makes Hydra look into the user's folder of pages, too."""
    if not config_dir:
        return []
    path = str(Path(os.path.expanduser(config_dir)).resolve()).replace("'", r"\'")
    return [f"hydra.searchpath=['file://{path}']"]


def list_pages() -> Iterator[str]:
    """One line per group of `conf/`, without importing Hydra."""
    for folder in sorted(p for p in CONF.iterdir() if p.is_dir()):
        pages = sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml"))
        yield f"  {folder.name + ':':<12} {', '.join(pages)}"


_PROXIES = {
    "_from_": "finetune_proxy",
    "imagenet21k": "pretrain_proxy",
    "jft": "pretrain_proxy",
    "basic_": "lit_proxy",
    "imagen_": "diffusion_proxy",
    "llm_": "lm_proxy",
    "t5_": "t5_proxy",
}
"""Part of an experiment's name -> the proxy that trains in the same way."""


def proxy_of(experiment: str) -> str:
    """The proxy of the same family of models, e.g. resnet_proxy for resnet50_imagenet."""
    for part, page in _PROXIES.items():
        if part in experiment:
            return page
    family = re.match("[a-z]*", experiment)
    page = f"{family[0] if family else ''}_proxy"
    return page if os.path.exists(CONF / "experiment" / f"{page}.yaml") else "vit_proxy"


def load_page(group: str, name: str, changes: Sequence[str], folders: Sequence[Path]) -> Any:
    """A page of `conf/sweep` or `conf/launcher` with changes of the command line.

    Raises:
        ConfigError: if there is no such page.
    """
    from omegaconf import OmegaConf

    for folder in reversed(folders):
        if os.path.exists(folder / group / f"{name}.yaml"):  # False for a name that is too long
            page = OmegaConf.load(folder / group / f"{name}.yaml")
            return OmegaConf.merge(page, from_dotlist(group, changes))
    known = sorted({p.stem for folder in folders for p in (folder / group).glob("*.yaml")})
    raise ConfigError(f"{group}={name}: no such page{nearest(name, known, '--help')}")


def from_dotlist(group: str, changes: Sequence[str]) -> Any:
    """What `GROUP.KEY=VALUE` of a command line says, without the group.

    Raises:
        ConfigError: for what is no YAML value.
    """
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        return OmegaConf.from_dotlist(list(changes))
    except YAMLError as error:
        said = " ".join(str(error).split())
        raise ConfigError(
            f"{group}.{' '.join(changes)}: no value that can be read: {said}"
        ) from None


def groups_of(folders: Sequence[Path]) -> list[str]:
    """Names of the groups of pages."""
    return sorted({p.name for folder in folders for p in folder.iterdir() if p.is_dir()} | {"task"})
