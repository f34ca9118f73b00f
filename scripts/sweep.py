"""Looks after sweeps: how they go, going on, and their tables.

`--help` tells all. An installed package has it as `python -m experiments.sweep`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.sweep.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
