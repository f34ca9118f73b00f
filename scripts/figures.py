"""Rebuilds every figure of the paper, and of our studies, into results/figures/ (PNG and SVG).

    python scripts/figures.py                     # or: make figures
    python scripts/figures.py --only batch_size betas
    python scripts/figures.py --check             # do the committed ones belong to the tables?
    python scripts/figures.py --anew              # after a change of how PNGs are made

The paper's numbers are read from results/paper/, ours from results/studies/ and results/proxies/.
The same tables give the same files, byte by byte, with the same version of matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.analysis.figures import building  # noqa: E402
from experiments.analysis.figures.catalogue import FIGURES  # noqa: E402
from experiments.processor import usable_cores  # noqa: E402
from experiments.programs import of_place  # noqa: E402
from experiments.store import UserError  # noqa: E402


def main() -> int:
    """Draws or checks the chosen figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted(FIGURES),
                        help=f"only these: {', '.join(sorted(FIGURES))}")  # fmt: skip
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if outdated")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="tables are here")
    parser.add_argument("--out", type=Path, default=None, help="default: RESULTS/figures")
    parser.add_argument("--anew", action="store_true",
                        help="make PNGs again, too, whose SVG has not changed")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=usable_cores(), metavar="N",
                        help="drawn at once; default: one per core, here %(default)s")  # fmt: skip
    args = parser.parse_args()
    out = args.out or args.results / "figures"
    names = args.only or list(FIGURES)
    try:
        if args.check:
            return check(names, args.results, out, args.jobs)
        for name, paths in building.build(names, args.results, out, anew=args.anew, jobs=args.jobs):
            sizes = ", ".join(f"{p.suffix[1:]} {p.stat().st_size / 1024:.0f} KB" for p in paths)
            print(f"{name:<16} {FIGURES[name].TITLE} ({sizes})")
    except (UserError, OSError) as error:
        print(f"error: {of_place(error)}", file=sys.stderr)
        return 2
    print(f"{len(names)} figures in {out}")
    return 0


def check(names: list[str], results: Path, out: Path, jobs: int) -> int:
    """Compares the SVG files with what would be drawn now, and prints those that differ."""
    outdated = building.outdated(names, results, out, jobs=jobs)
    for name in outdated:
        print(f"{name}: {out / name}.svg is missing or not what its table gives now")
    print("run: python scripts/figures.py" if outdated else f"{len(names)} figures are up to date")
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main())
