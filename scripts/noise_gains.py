"""How far Lion goes beside AdamW on the same gradients, over windows of 1 to 1,000 steps.

    python scripts/noise_gains.py

Trains runs near the tops of the studies that were tuned at several lengths once more (those of
scripts/step_sizes.py, its shortest and longest). Beside each run, which is not touched, the same
gradients go through the averages of AdamW and of Lion with several betas, at a learning rate of 1
and without decay; how far each has come is looked at in windows, and how the formula comes about:
how often what a sign is taken of lies near 0, and how much smaller it is than the gradient. Writes
windows.csv and parts.csv to results/studies/EXPERIMENT/noise_gains/. Stop it at any time and call
again.

Expected, written before the first run: where noise rules, Lion (0.9, 0.99) goes in windows of
1,000 steps 6.7 times as far as AdamW (`experiments.analysis.noise_gains`), in those of one step
4.3 times; so over long windows 5 to 9 times in the last third of the runs of 10,000 steps, and
less far in those of 620. (It came out as 7 to 16 in the last thirds; the parts of the formula were
added to see why.)
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.store import write_text  # noqa: E402

LIONS = ((0.0, 0.99), (0.9, 0.9), (0.9, 0.99), (0.99, 0.99))
"""The pairs of betas of `sweep=betas_and_steps`, and Lion's own."""
WINDOWS = (1, 10, 100, 1000)
THIRDS = 3
NEAR = 0.1
"""Root mean squares around 0 where the density of what a sign is taken of is counted."""
GROUP = "decay"
"""Of the parameters: the weights that decay."""


class Walks:
    """Averages of AdamW and of several Lions beside a run, fed with its gradients."""

    def __init__(self, adamw: tuple[float, float], eps: float, steps: int) -> None:
        """Of a run of so many steps, and of AdamW's betas and epsilon."""
        self._adamw, self._eps, self._steps = adamw, eps, steps
        self._done = 0
        self._averages: list[Any] = []  # of AdamW two, then one of each Lion
        self._walked: dict[int, Any] = {}  # by window: sums of steps, a row for each optimizer
        self.squares: dict[tuple[int, int], list[Any]] = {}  # of each optimizer, by third, window
        self._seconds: list[Any] = []  # of each Lion: average squares of what its sign is taken of
        self._sums: Any = None  # of each Lion and weight: times near 0, and how much smaller
        self._counted = 0
        self.parts: list[list[tuple[float, ...]]] = []  # by third, of each Lion

    def look(self, optimizer: Any, *_: Any) -> None:
        """Before a step of the run: a hook of `torch.optim`."""
        import torch

        groups = [g for g in optimizer.param_groups if g.get("name", GROUP) == GROUP]
        params = [p for group in groups for p in group["params"]]
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in params]
        )
        self.step(flat.detach().float())

    def step(self, gradient: Any) -> None:
        """Takes one gradient, (n,)."""
        import torch

        if not self._averages:
            self._averages = [torch.zeros_like(gradient) for _ in range(2 + len(LIONS))]
            self._seconds = [torch.zeros_like(gradient) for _ in LIONS]
            self._sums = gradient.new_zeros(len(LIONS), 2, gradient.numel())
            number = 1 + len(LIONS)
            self._walked = {w: gradient.new_zeros(number, gradient.numel()) for w in WINDOWS}
        third = min(self._done * THIRDS // self._steps, THIRDS - 1)
        self._done += 1
        self._walked[1] += torch.stack([self._adamw_step(gradient), *self._lions(gradient)])
        for window, wider in zip(WINDOWS, (*WINDOWS[1:], None), strict=True):
            if self._done % window:
                break
            walked = self._walked[window]
            self.squares.setdefault((third, window), []).append(walked.square().mean(1))
            if wider:
                self._walked[wider] += walked
            walked.zero_()
        if min(self._done * THIRDS // self._steps, THIRDS) > third:
            self._end_third()

    def _adamw_step(self, gradient: Any) -> Any:
        first, second = self._averages[:2]
        beta1, beta2 = self._adamw
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (second / (1 - beta2**self._done)).sqrt_().add_(self._eps)
        return first / (1 - beta1**self._done) / root

    def _lions(self, gradient: Any) -> Iterator[Any]:
        pairs = zip(self._averages[2:], LIONS, strict=True)
        for number, (momentum, (beta1, beta2)) in enumerate(pairs):
            blend = momentum.lerp(gradient, 1 - beta1)
            self._count(number, blend)
            yield blend.sign_()
            momentum.lerp_(gradient, 1 - beta2)
        self._counted += 1

    def _count(self, number: int, blend: Any) -> None:
        """Adds a step to the parts of one Lion's formula; what has not moved yet counts 0."""
        beta2, seconds = self._adamw[1], self._seconds[number]
        seconds.mul_(beta2).addcmul_(blend, blend, value=1 - beta2)
        self._sums[number, 0] += blend.square() < NEAR**2 / (1 - beta2**self._done) * seconds
        self._sums[number, 1] += (self._averages[1] / seconds).nan_to_num_(0, 0, 0).sqrt_()

    def _end_third(self) -> None:
        near, smaller = (self._sums / self._counted).unbind(1)
        both = (near / NEAR * smaller).square().mean(1).sqrt()
        rows = zip(
            (near / NEAR).mean(1).tolist(), smaller.mean(1).tolist(), both.tolist(), strict=True
        )
        self.parts.append(list(rows))
        self._sums.zero_()
        self._counted = 0

    def rows(self) -> Iterator[dict[str, Any]]:
        """Of each third of the run, window and pair of betas: root mean squares of what was walked.

        The learning rate being 1, so in steps; `gain` is Lion's over AdamW's.
        """
        import torch

        for (third, window), squares in sorted(self.squares.items()):
            adamw, *lions = torch.stack(squares).mean(0).sqrt().tolist()
            for (beta1, beta2), lion in zip(LIONS, lions, strict=True):
                yield {
                    "third": third + 1,
                    "window": window,
                    "windows": len(squares),
                    "lion_beta1": beta1,
                    "lion_beta2": beta2,
                    "adamw_walked": adamw,
                    "lion_walked": lion,
                    "gain": lion / adamw,
                }

    def rows_of_parts(self) -> Iterator[dict[str, Any]]:
        """Of each third and pair of betas: what takes the places of the formula's two factors.

        `density` at 0 of what the sign is taken of, times its root mean square, both sides (normal:
        0.80), and `smaller`, the gradient's root mean square over that: means over the weights.
        `expected`: root mean square over the weights of the products.
        """
        for third, parts in enumerate(self.parts, 1):
            for (beta1, beta2), found in zip(LIONS, parts, strict=True):
                pair = {"third": third, "lion_beta1": beta1, "lion_beta2": beta2}
                yield pair | dict(zip(("density", "smaller", "expected"), found, strict=True))


@contextmanager
def beside(walks: Walks) -> Iterator[None]:
    """Within, every step of an optimizer is looked at."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    handle = register_optimizer_step_pre_hook(walks.look)
    try:
        yield
    finally:
        handle.remove()


def measured(command: str, steps: int) -> Walks:
    """Trains the run of a command in a folder of its own."""
    from experiments import runner
    from experiments.compose import compose

    words = shlex.split(command)[2:]
    others = [word for word in words if not word.startswith("optimizer")]
    section: dict[str, Any] = compose([*others, "optimizer=adamw"]).optimizer
    walks = Walks(tuple(section["betas"]), float(section.get("eps", 1e-8)), steps)
    with tempfile.TemporaryDirectory() as folder, beside(walks):
        outcome = runner.run(compose([*words, f"results_dir={folder}"]))
    if outcome.state != "finished":
        raise SystemExit(f"error: {command}: {outcome.state} {outcome.message}")
    return walks


def main(arguments: list[str] | None = None) -> int:
    """Trains and measures; a run that stands in the table is not trained again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/studies"))
    given = parser.parse_args(arguments)

    import pandas as pd

    from experiments.analysis import noise_gains, step_sizes
    from experiments.surroundings import measured_on

    wanted = step_sizes.wanted()
    if wanted.empty:
        print("error: no study to pick from in results/studies", file=sys.stderr)
        return 2
    at_ends = wanted.steps.isin([wanted.steps.min(), wanted.steps.max()])
    for number, row in enumerate(wanted[at_ends].itertuples(), 1):
        folder = given.out / str(row.experiment) / noise_gains.NAME
        last = folder / "parts.csv"
        if last.exists() and row.run_id in set(pd.read_csv(last).run_id):
            continue
        print(f"{number} of {at_ends.sum()}: {row.run_id}", file=sys.stderr, flush=True)
        walks = measured(str(row.command), int(row.steps))
        fixed = {"experiment": row.experiment, "run_id": row.run_id, "gradients": row.optimizer}
        fixed |= {"steps": row.steps}
        folder.mkdir(parents=True, exist_ok=True)
        for path, rows in (folder / "windows.csv", walks.rows()), (last, walks.rows_of_parts()):
            found = pd.DataFrame([{**fixed, **of, **measured_on()} for of in rows])
            if path.exists():
                before = pd.read_csv(path)
                found = pd.concat([before[before.run_id != row.run_id], found])
            write_text(path, found.to_csv(index=False, float_format="%.6g"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
