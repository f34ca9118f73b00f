"""What `search.slurm` may say. Standard library only: it is checked before anything starts."""

from __future__ import annotations

from typing import Any

from experiments.config import ConfigError

_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("partition", "account"), (str,)),
    **dict.fromkeys(("timeout_min", "cpus_per_task"), (int,)),
    **{"mem_gb": (int, float), "setup": (list,), "extra": (dict,)},
}
"""Types of the values."""


def check(options: dict[str, Any]) -> None:
    """Refuses settings that there are not, or that cannot be.

    Raises:
        ConfigError: names the key.
    """
    for key, value in options.items():
        if key not in _KINDS:
            raise ConfigError(f"search.slurm.{key}: there are: {', '.join(_KINDS)}")
        kinds, is_number = _KINDS[key], isinstance(value, int | float)
        if value is not None and (
            not isinstance(value, kinds) or isinstance(value, bool) or is_number and not value > 0
        ):
            said = " or ".join(kind.__name__ for kind in kinds)
            more = ", more than 0" if int in kinds else ""
            raise ConfigError(f"search.slurm.{key}={value}: must be {said}{more}")
