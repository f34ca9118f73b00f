"""Should you switch to Lion? A fair answer for any training program, in any framework.

`--help` tells all. An installed package has it as `python -m experiments.compare`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.compare.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
