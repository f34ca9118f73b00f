"""The learning rate over a run, as a pure function of the step.

Source: arXiv:2302.06675, section 4: cosine decay with 10K warm-up steps by default, linear decay
for small language models, constant for diffusion and fine-tuning. Inverse square root with a
cool-down: arXiv:2106.04560, section 3.5 and appendix.
"""

from __future__ import annotations

import math

from experiments.config import ConfigError, ScheduleConfig


def warmup_length(schedule: ScheduleConfig, total_steps: int) -> int:
    """Number of warm-up steps.

    Raises:
        ConfigError: if the warm-up leaves no step to train at the peak.
    """
    steps = schedule.warmup_steps
    if steps is None:
        steps = round(schedule.warmup_fraction * total_steps)
    if not 0 <= steps < total_steps:
        raise ConfigError(
            f"schedule.warmup_steps={steps} must be smaller than the {total_steps} steps of the "
            f"run: set schedule.warmup_steps={max(0, total_steps // 20)} or train longer"
        )
    return steps


def factor(schedule: ScheduleConfig, step: int, total_steps: int) -> float:
    """Learning rate of a step, divided by the peak.

    Warm-up: (step + 1) / warmup, so that no step is lost at lr 0. Then, with progress
    p = (step - warmup) / (total - warmup) in [0, 1) and final fraction f:
    cosine f + (1 - f) (1 + cos(pi p)) / 2, linear f + (1 - f) (1 - p), constant 1, and with the
    timescale T rsqrt 1 / sqrt(1 + (step - warmup) / T). The last C = `cooldown_steps` of constant
    and rsqrt are multiplied by (total - step) / C.

    Args:
        schedule: Shape and warm-up.
        step: 0-based optimizer step.
        total_steps: Steps of the whole run.

    Returns:
        A factor in [0, 1].

    Raises:
        ConfigError: for a shape that is not there.
    """
    warmup = warmup_length(schedule, total_steps)
    cooldown = _cooldown(schedule, step, warmup, total_steps)
    if step < warmup:
        return (step + 1) / warmup
    if schedule.name == "constant":
        return cooldown
    if schedule.name == "rsqrt":
        return cooldown / math.sqrt(1.0 + (step - warmup) / schedule.timescale)
    progress = min(1.0, (step - warmup) / (total_steps - warmup))
    if schedule.name == "linear":
        shape = 1.0 - progress
    elif schedule.name == "cosine":
        shape = 0.5 * (1.0 + math.cos(math.pi * progress))
    else:
        raise ConfigError(f"schedule.name={schedule.name}: no shape of experiments/schedule.py")
    return schedule.final_fraction + (1.0 - schedule.final_fraction) * shape


def _cooldown(schedule: ScheduleConfig, step: int, warmup: int, total_steps: int) -> float:
    """1, and over the last steps of a run linearly down; the last step still has a share.

    Raises:
        ConfigError: for a cool-down that would begin before the warm-up ends.
    """
    steps = schedule.cooldown_steps
    if steps > total_steps - warmup:
        raise ConfigError(
            f"schedule.cooldown_steps={steps}: only {total_steps - warmup} of the {total_steps} "
            f"steps come after the warm-up: set schedule.cooldown_steps="
            f"{max(0, (total_steps - warmup) // 10)} or train longer"
        )
    return min(1.0, (total_steps - step) / steps) if steps else 1.0
