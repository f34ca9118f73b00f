"""Why did it diverge, why does it lag? Reads what a run has logged, and says what to try.

`--help` tells all. An installed package has it as `python -m experiments.doctor`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.doctor.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
