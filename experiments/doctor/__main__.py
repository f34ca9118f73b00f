"""Why did it diverge, why does it lag? Reads what a run has logged, and says what to try.

    python scripts/doctor.py RUN_ID                      # a run of results/runs
    python scripts/doctor.py log.csv --set optimizer=lion lr=1e-4 weight_decay=0.1 batch_size=32
    python scripts/doctor.py runs/tensorboard --set optimizer=lion lr=1e-4 \\
        --baseline lr=1e-3 weight_decay=0.1             # what the switch began from
    python scripts/doctor.py wandb/offline-run-...       # settings are in it
    python scripts/doctor.py results/studies/vit_proxy/heatmap/runs.csv    # a sweep

Also metrics.jsonl, or any file of JSON lines with a step and a loss. A run of ours tells more with
tracking.telemetry_every_steps=100. What --set takes: optimizer, lr, weight_decay, batch_size,
warmup_steps, total_steps, final_lr or final_fraction, grad_clip_norm, param_dtype, resumed_at,
experiment (a page, whose recipe is the baseline); of a sweep: better=lower. Nothing found is not
a clean bill of health: each rule needs its numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.config import UserError
from experiments.doctor import readers, rules, sweep_rules
from experiments.doctor.evidence import Finding, knowledge
from experiments.doctor.given import OF_BASELINE, OF_RUN, OF_SWEEP, given
from experiments.pages import CONF, help_of


def findings(path: Path, told: dict[str, Any], baseline: dict[str, Any]) -> list[Finding]:
    """All that is found.

    Args:
        path: Of a run, a log or a sweep's table.
        told: Settings that the log does not tell.
        baseline: Settings of what the switch began from; empty: the recipe of the same page.
    """
    if readers.is_sweep(path):
        return _of_sweep(path, told.get("better"))
    run = readers.read(path)
    run.settings |= told
    if isinstance(resumed := told.get("resumed_at"), float):
        run.resumed_at = [resumed]
    run.baseline = baseline or recipe_of_baseline(str(run.settings.get("experiment", "")))
    return rules.examine(run)


def recipe_of_baseline(experiment: str) -> dict[str, Any]:
    """lr and weight decay of an adaptive optimizer on the same page; empty where there is none."""
    import yaml

    for name in knowledge()["adaptive"]:
        path = CONF / "recipe" / experiment / f"{name}.yaml"
        if experiment and path.is_file():
            page = yaml.safe_load(path.read_text()).get("optimizer", {})
            return {"optimizer": name, **{k: page.get(k) for k in ("lr", "weight_decay")}}
    return {}


def _of_sweep(path: Path, better: Any) -> list[Finding]:
    """`better`: which way is, where the table does not say it."""
    import pandas as pd

    from experiments.headline import Headline, of_table

    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' own errors of a damaged table are ValueErrors
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    if table.empty or not pd.api.types.is_numeric_dtype(table.lr) or table.lr.isna().all():
        raise UserError(f"{path}: it must have a row per run, with a number for lr in each")
    return sweep_rules.examine(table, Headline("val", better) if better else of_table(table))


def _told(path: Path, asked: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """What --set and --baseline say.

    Raises:
        UserError: for a setting that means nothing here.
    """
    if not readers.is_sweep(path):
        baseline = given(asked.baseline, OF_BASELINE, "--baseline", "a baseline")
        return given(asked.set, OF_RUN, "--set", "a run"), baseline
    if asked.baseline:
        raise UserError(f"--baseline says nothing of a sweep's table ({path}): leave it out")
    return given(asked.set, OF_SWEEP, "--set", "a sweep, whose table holds all others"), {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0 whatever is found, 2 for what the user can mend.
    """
    parser = argparse.ArgumentParser(
        **help_of("doctor", __doc__), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", help="run id, file or folder")
    pairs: dict[str, Any] = {"nargs": "+", "action": "extend", "metavar": "KEY=VALUE"}
    parser.add_argument("--set", default=[], help="of the run", **pairs)
    parser.add_argument("--baseline", default=[], help="of what the switch began from", **pairs)
    parser.add_argument("--results-dir", default="results/runs")
    parser.add_argument("--json", action="store_true", help="one JSON list")
    asked = parser.parse_args(arguments)
    try:
        path = Path(asked.what).expanduser()
        path = path if path.exists() else Path(asked.results_dir) / asked.what
        if not path.exists():
            raise UserError(f"{asked.what}: neither a file or folder nor a run of {path.parent}")
        found = findings(path, *_told(path, asked))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if asked.json:
        print(json.dumps([asdict(finding) for finding in found]))
        return 0
    for finding in found:
        print(f"{finding.rule}: {finding.evidence}")
        print(f"  try: {finding.remedy}\n  source: {finding.source}")
    if not found:
        print("nothing found; each rule needs its numbers: see --help")
    return 0


if __name__ == "__main__":
    sys.exit(main())
