"""Should you switch to Lion? A fair answer for any training program, in any framework.

    python scripts/compare.py \\
        --command "python train.py --opt {optimizer} --lr {lr} --wd {weight_decay} --seed {seed}" \\
        --metric "val_acc=([0-9.]+)" --test-metric "test_acc=([0-9.]+)" --unit points \\
        --baseline adamw:lr=1e-3,weight_decay=0.05

Both optimizers are tuned by as many trials, then run on fresh seeds. First a pilot of four runs
tells the noise and the price, and asks whether to go on. The same command goes on where it was
stopped. Your program needs no change but to take its settings and to print its number:

    val_acc=([0-9.]+)      the last line of its output that matches
    json:val.accuracy      the last line that ends with an object (JSON, printed dict) of that key
    csv:val_acc            the last row with a number in that column
    file:{run_dir}/log.txt:acc ([0-9.]+)      the same in a file; {run_dir} is a folder of the run

The same options can stand in a YAML file: python scripts/compare.py my_comparison.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.compare import program
from experiments.config import UserError
from experiments.pages import help_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0 whatever the verdict, 2 for what the user can mend, 130 where stopped.
    """
    parser = program.parser(help_of("compare", __doc__), default_others="lion")
    try:
        return program.main(parser.parse_args(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
