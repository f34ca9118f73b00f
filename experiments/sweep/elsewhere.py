"""What must be plain before runs are sent to other machines than the one that plans them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.config import ConfigError, RunConfig
from experiments.precision import resolved


def has_gpus(launcher: Mapping[str, Any]) -> bool:
    """Whether a page of `conf/launcher` asks for GPUs of other machines."""
    asked = launcher.get("gpus_per_task") or launcher.get("gpus_per_worker")
    return bool(asked) or "gpu" in json.dumps(launcher.get("extra"))


def check_precision(configs: Sequence[RunConfig]) -> None:
    """Refuses what would be another run on workers with GPUs than is planned here.

    Raises:
        ConfigError: names both ways.
    """
    for config in configs:
        is_auto = config.train.precision == "auto" and config.launch.device != "cpu"
        if is_auto and resolved(config) == "fp32":
            raise ConfigError(
                "train.precision=auto: fp32 on this machine, which has no GPU, and bf16 on workers "
                "that have one: say train.precision=bf16 or train.precision=fp32"
            )
