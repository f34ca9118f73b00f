"""Composes one configuration, runs one job, prints one line.

    python run.py                                              # the default proxy, with Lion
    python run.py experiment=vit_b16_imagenet optimizer=lion   # a page of the paper
    python run.py ... --cfg job                                # print every number, run nothing

Heavy imports are lazy: `--help` needs the standard library only, `--cfg job` Hydra only.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from experiments import inherited, start_from, trust
from experiments.build import TRACEBACK_VARIABLE
from experiments.compose import compose as compose
from experiments.compose import compose_cells as compose_cells
from experiments.compose import finish, page_folders, register_schema, take_lazy_help
from experiments.config import JOBS, WITHOUT_DATA, RunConfig, UserError
from experiments.data import locate
from experiments.explain import check_flags, explain
from experiments.overrides import quoted_arguments
from experiments.pages import CONF, as_called, list_pages, proxy_of, script

HELP = """\
Train one model with one optimizer; record it, resume it, compare it.

  python run.py                                            the default proxy, with Lion
  python run.py experiment=vit_b16_imagenet optimizer=lion data.root=/data/imagenet
  python run.py experiment=vit_proxy optimizer=adamw optimizer.lr=2e-3 seed=1
  python run.py launch.num_processes=8 ...                 several processes on this machine
  torchrun --nproc_per_node=8 run.py ...                   the same, or across machines
  python run.py -m optimizer=lion,adamw seed=0,1,2 ...     every combination: a sweep
  python run.py -m sweep=lr_wd launcher=local ...          a fair grid for each optimizer
  python run.py job=plan experiment=NAME                   what it would cost: memory, FLOPs, hours
  python run.py job=compare experiment=NAME                Lion against AdamW, both tuned
  python run.py job=evaluate run=RUN_ID                    measure a finished run once more
  python run.py job=landscape run=RUN_ID                   how flat a finished run lies
  python run.py job=search search=laptop                   evolve optimizers as the paper has Lion

Calling the same command again goes on where it stopped; a finished run is not repeated.

Pages (choose with group=page):
{pages}

Every key can be set with key=value; experiments/config.py explains them. Flags:
  --cfg job          print every number of the run, run nothing
  -m, --multirun     run every combination of comma-separated values, and of the page sweep=NAME;
                     launcher=NAME says where; {sweep} shows how it goes
  --config-dir DIR   add a folder with pages of your own
  --trust NAME,NAME  code outside of this suite, torch, timm, ... that a run or sweep of somebody
                     else may call: a dotted path or a package (yours is known after its first run)
  --hydra-help       all other flags (they are Hydra's)
LION_TRACEBACK=1 in the environment shows where an error comes from.
Exit codes: 0 finished or diverged (a diverged run is a result), 1 failed, 2 wrong configuration or
missing data, 129, 130 or 143 stopped by SIGHUP, SIGINT or SIGTERM after saving."""


def main() -> int:
    """Runs the command line.

    Returns:
        The exit code: see `HELP`.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        return _show(as_called(HELP).format(pages="\n".join(list_pages()), sweep=script("sweep")))
    if _report(_read_trust):
        return 2
    sys.argv[1:] = quoted_arguments(sys.argv[1:])
    if "job=compare" in sys.argv[1:]:
        from experiments.compare import page

        return _report(lambda: page.main(sys.argv[1:]))
    if any(re.match(r"(-m|--multirun)$|(sweep|launcher)[.=]", a) for a in sys.argv[1:]):
        from experiments.sweep import command

        code = _report(lambda: command.main(sys.argv[1:]))
        if code != command.NOT_A_SWEEP:
            return code
    began: list[bool] = []
    exit_codes: list[int] = []
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that Hydra raises, and we explain

    import hydra
    from hydra.core.hydra_config import HydraConfig

    def job(composed: Any) -> None:
        began.append(True)
        hydra_config = HydraConfig.get()
        choices, given = hydra_config.runtime.choices, hydra_config.overrides.task

        def work() -> int:
            config = finish(composed, choices, given, page_folders(hydra_config))
            if not composed.run:  # pages that the user has chosen, not somebody's record
                trust.note([vars(config)])
            return run_job(config)

        exit_codes.append(_report(work))

    register_schema()
    take_lazy_help()
    if _report(_check_flags):
        return 2
    decorated = hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(job)
    failed = _report(lambda: decorated() or 0, is_composing=lambda: not began)
    return max([failed, *exit_codes])


def run_job(config: RunConfig) -> int:
    """Runs one checked configuration, in this process or in `launch.num_processes` of them.

    Returns:
        The exit code of the run.
    """
    # Missing data is said before anything heavy is imported; a plan needs none.
    if config.job not in (*WITHOUT_DATA, "search"):  # which has data of its own
        locate.check_section(config.data, proxy=proxy_of(config.experiment))
    if config.job == "train":
        start_from.check(config)
    is_parallel = config.job in ("train", "evaluate")
    if not is_parallel and config.job not in WITHOUT_DATA:
        inherited.refuse_several(f"job={config.job}")
    if is_parallel and config.launch.num_processes > 1 and inherited.place()[1] == 1:
        from experiments import launch

        return launch.run(config)
    return importlib.import_module(JOBS[config.job]).main(config)


def _show(text: str) -> int:
    """Prints; that `head` or a pager has read enough is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _report(work: Callable[[], int], is_composing: Callable[[], bool] = lambda: False) -> int:
    """Runs `work`; what the user can mend becomes one line and exit code 2.

    While pages are composed, that is whatever goes wrong.
    """
    try:
        return work()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except UserError as error:
        line = str(error)
    except Exception as error:
        is_of_hydra = type(error).__module__.split(".")[0] in ("hydra", "omegaconf")
        if os.environ.get(TRACEBACK_VARIABLE) or not (is_of_hydra or is_composing()):
            raise
        line = explain(error, sys.argv[1:], _config_dir(sys.argv[1:]))
    print(f"error: {line}", file=sys.stderr)
    return 2


def _read_trust() -> int:
    """Takes `--trust NAME` off the command line."""
    sys.argv[1:] = _without_trust(sys.argv[1:])
    return 0


def _check_flags() -> int:
    """Refuses a flag that there is not, before Hydra shows all of its own."""
    check_flags(sys.argv[1:], _config_dir(sys.argv[1:]))
    return 0


def _without_trust(arguments: list[str]) -> list[str]:
    """The command line without `--trust NAME`, which is noted."""
    left: list[str] = []
    for text in arguments:
        if left and left[-1] == "--trust":
            left.pop()
            trust.add(text)
        elif text.startswith("--trust="):
            trust.add(text.partition("=")[2])
        else:
            left.append(text)
    if left and left[-1] == "--trust":
        raise UserError("--trust needs a NAME: a dotted path or a package")
    return left


def _config_dir(arguments: list[str]) -> str | None:
    """What `--config-dir` says."""
    pairs = zip(arguments, arguments[1:], strict=False)
    apart = [value for flag, value in pairs if flag in ("--config-dir", "-cd")]
    joined = [text.partition("=")[2] for text in arguments if text.startswith("--config-dir=")]
    return next(iter([*apart, *joined]), None)


if __name__ == "__main__":
    sys.exit(main())
