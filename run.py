"""Composes one configuration, runs one job, prints one line.

    python run.py                                              # the default proxy, with Lion
    python run.py experiment=vit_b16_imagenet optimizer=lion   # a page of the paper
    python run.py ... --cfg job                                # print every number, run nothing

Heavy imports are lazy: `--help` needs the standard library only, `--cfg job` Hydra only.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.checks import check
from experiments.config import ConfigError, ImageTaskConfig, RunConfig, UserError, from_dict
from experiments.data import locate

CONF = Path(__file__).resolve().parent / "conf"

HELP = """\
Train one model with one optimizer; record it, resume it, compare it.

  python run.py                                            the default proxy, with Lion
  python run.py experiment=vit_b16_imagenet optimizer=lion data.root=/data/imagenet
  python run.py experiment=vit_proxy optimizer=adamw optimizer.lr=2e-3 seed=1
  python run.py launch.num_processes=8 ...                 several processes on this machine
  torchrun --nproc_per_node=8 run.py ...                   the same, or across machines
  python run.py -m optimizer=lion,adamw seed=0,1,2 ...     several runs, one after another
  python run.py job=landscape run=RUN_ID                   how flat a finished run lies

Calling the same command again goes on where it stopped; a finished run is not repeated.

Pages (choose with group=page):
{pages}

Every key can be set with key=value; experiments/config.py explains them. Flags go before overrides:
  --cfg job          print every number of the run, run nothing
  -m, --multirun     run every combination of comma-separated values
  --config-dir DIR   add a folder with pages of your own
  --hydra-help       all other flags (they are Hydra's)
Exit codes: 0 finished or diverged (a diverged run is a result), 1 failed, 2 wrong configuration or
missing data, 130 or 143 stopped by SIGINT or SIGTERM after saving."""


def main() -> int:
    """Runs the command line.

    Returns:
        The exit code: see `HELP`.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(HELP.format(pages="\n".join(_list_pages())))
        return 0
    exit_codes: list[int] = []
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that Hydra raises, and we explain

    import hydra
    from hydra.core.hydra_config import HydraConfig

    def job(composed: Any) -> None:
        hydra_config = HydraConfig.get()
        choices, given = hydra_config.runtime.choices, hydra_config.overrides.task
        exit_codes.append(_report(lambda: run_job(_finish(composed, choices, given))))

    register_schema()
    decorated = hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(job)
    failed = _report(lambda: decorated() or 0)
    return max([failed, *exit_codes])


def run_job(config: RunConfig) -> int:
    """Runs one checked configuration, in this process or in `launch.num_processes` of them.

    Returns:
        The exit code of the run.
    """
    # Missing data is said before anything heavy is imported.
    locate.check_section(config.data, proxy=_proxy_of(config.experiment))
    if config.job == "landscape":
        from experiments import landscape

        return landscape.main(config)
    if config.launch.num_processes > 1 and "RANK" not in os.environ:
        from experiments import launch

        return launch.run(config)
    from experiments import runner

    return runner.main(config)


def compose(overrides: Sequence[str], config_dir: str | None = None) -> RunConfig:
    """Composes and checks a configuration without running it.

    Args:
        overrides: As on the command line, e.g. `["experiment=vit_proxy", "optimizer.lr=1e-3"]`.
        config_dir: A folder with more pages, searched beside ours.

    Raises:
        ConfigError: one line with the remedy.
    """
    import hydra

    register_schema()
    extra = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            composed = hydra.compose("config", [*overrides, *extra], return_hydra_config=True)
        except Exception as error:
            raise ConfigError(_explain(error, overrides)) from error
        return _finish(composed, composed.hydra.runtime.choices, overrides)


def register_schema() -> None:
    """Makes the dataclasses known to Hydra, so that pages and overrides are checked by them."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(name="schema", node=RunConfig)
    store.store(group="task", name="image", node=ImageTaskConfig)


def _finish(composed: Any, choices: Mapping[str, Any], overrides: Sequence[str]) -> RunConfig:
    """Turns what Hydra composed into a checked `RunConfig`; page names become its names."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    plain.update(experiment=choices["experiment"], optimizer_name=choices["optimizer"])
    config = from_dict({str(key): value for key, value in plain.items()})
    _check_recipe(choices)
    if config.run:
        config = _recorded(config, overrides)
    check(config)
    return config


def _recorded(asked: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The configuration of `run=<run id>`, with what was asked of the job.

    Raises:
        UserError: for an unknown run, another job, or a key that would be ignored.
    """
    from experiments.identity import run_id
    from experiments.store import read_config

    taken = ("job", "run", "landscape", "launch", "results_dir", "hydra")
    keys = [override.split("=")[0].lstrip("+~") for override in overrides]
    ignored = [key for key in keys if key.split(".")[0].split("/")[0] not in taken]
    if asked.job != "landscape" or ignored:
        what = f"{ignored[0]} cannot be changed" if ignored else "it needs job=landscape"
        raise ConfigError(f"run={asked.run} takes a recorded run as it is: {what}")
    config = from_dict(read_config(Path(asked.results_dir) / asked.run))
    for key in ("job", "landscape", "results_dir"):
        setattr(config, key, getattr(asked, key))
    for key in (key.partition(".")[2] for key in keys if key.startswith("launch.")):
        setattr(config.launch, key, getattr(asked.launch, key))
    if run_id(config) != asked.run:
        raise ConfigError(f"run={asked.run} was recorded by another version: give its command line")
    return config


def _check_recipe(choices: Mapping[str, Any]) -> None:
    """The recipe of an experiment may be missing; one that the user names must be there, and fit.

    Numbers of one optimizer must not reach another.
    """
    experiment, optimizer = choices["experiment"], choices["optimizer"]
    recipe = choices.get("recipe") or f"{experiment}/{optimizer}"
    if recipe == f"{experiment}/{optimizer}":
        return
    folder, _, page = recipe.rpartition("/")
    if folder != experiment or not f"{page}_".startswith(f"{optimizer}_"):
        raise ConfigError(
            f"recipe={recipe} is not for experiment={experiment} with optimizer={optimizer}: "
            f"its name must be {experiment}/{optimizer}, or begin with {experiment}/{optimizer}_"
        )
    from hydra.core.global_hydra import GlobalHydra

    found = GlobalHydra.instance().config_loader().get_group_options(f"recipe/{folder}")
    if page not in found:
        raise ConfigError(f"recipe={recipe}: no such page{_nearest(page, found)}")


def _report(work: Callable[[], int]) -> int:
    """Runs `work`; what the user can mend becomes one line and exit code 2."""
    try:
        return work()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except UserError as error:
        line = str(error)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("hydra", "omegaconf"):
            raise
        line = _explain(error, sys.argv[1:])
    print(f"error: {line}", file=sys.stderr)
    return 2


def _explain(error: BaseException, overrides: Sequence[str]) -> str:
    """One line for an error of Hydra or OmegaConf, with the nearest right name."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__
    text = "\n".join(texts)
    if missing := re.search(r"Could not find '([^']*)'", text):
        options = re.findall(r"^\t([\w./]+)$", text, flags=re.M)
        group, _, page = missing[1].rpartition("/")
        return f"{group}={page}: no such page{_nearest(page, options)}"
    if unknown := re.search(r"Could not override '([^']*)'", text):
        key = unknown[1]
        return f"{key}: no such key{_nearest(key, _known_keys(overrides))}"
    if wrong := re.search(r"(Value '.*' of type .* could not be .*)\n\s*full_key: (\S+)", text):
        return f"{wrong[2]}: {wrong[1][0].lower()}{wrong[1][1:]}"
    return " ".join(text.split("\nSee https")[0].split())


def _known_keys(overrides: Sequence[str]) -> list[str]:
    """Every dotted key of the configuration that the chosen pages give."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()} | {"task"}
    chosen = [o for o in overrides if o.split("=")[0].lstrip("+~") in groups]
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            plain = OmegaConf.to_container(hydra.compose("config", chosen))
    except Exception:  # the pages themselves are at fault: then only their groups can be named
        return sorted(groups)
    return [*_flatten(plain), *groups]


def _flatten(tree: Any, prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")


def _nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean X?`, or the list where it is short and nothing is near."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    near = [n for n in near if _likeness(name, n) > _likeness(name, near[0]) - 0.01]
    if not near:  # the right word in the wrong place: optimizer.learning.lr
        tail = name.rpartition(".")[2]
        near = [k for k in known if k.rpartition(".")[2] == tail][:1]
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are: {', '.join(known)}" if 0 < len(known) <= 20 else "; see --cfg job"


def _proxy_of(experiment: str) -> str:
    """The proxy of the same family of models, e.g. resnet_proxy for resnet50_imagenet."""
    family = re.match("[a-z]*", experiment)
    page = f"{family[0] if family else ''}_proxy"
    return page if (CONF / "experiment" / f"{page}.yaml").exists() else "vit_proxy"


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _list_pages() -> Iterator[str]:
    """One line per group of `conf/`, without importing Hydra."""
    for folder in sorted(p for p in CONF.iterdir() if p.is_dir()):
        pages = sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml"))
        yield f"  {folder.name + ':':<12} {', '.join(pages)}"


if __name__ == "__main__":
    sys.exit(main())
