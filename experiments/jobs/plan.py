"""`job=plan`: what a run would cost, before it starts. No data, no GPU, seconds.

    python run.py job=plan experiment=vit_b16_imagenet
    python run.py job=plan experiment=llm_7b optimizer=adafactor launch.num_processes=64
    python run.py job=plan experiment=vit_b16_imagenet plan.format=json

`launch.num_processes` is the number of devices; `launch.device=cpu` counts as on a CPU.
"""

from __future__ import annotations

import json
import sys

from experiments.config import RunConfig
from experiments.files import end_output, say
from experiments.planner import plan
from experiments.planner.in_words import in_words


def main(config: RunConfig) -> int:
    """Counts and prints; returns the exit code."""
    found = plan.make(config)
    text = json.dumps(found) if config.plan.format == "json" else "\n".join(in_words(found))
    say(f"{text}\n", sys.stdout)
    end_output()
    return 0
