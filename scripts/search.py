"""Looks after searches, and at programs: proves what they are, shortens them, puts them to use.

`--help` tells all. An installed package has it as `python -m experiments.search`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.search.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
