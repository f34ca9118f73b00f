"""What tests of `scripts/gpu_check.py` share; the parts themselves are a fixture, `lab`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def rows_of(lab: Any, folder: Path, seconds: float = 600.0) -> Any:
    return lab.measuring.Rows(folder / "rows.json", seconds)


def written(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "rows.json").read_text())


def fail(error: Exception) -> Any:
    raise error
