"""The conformance lab knows a wrong Lion, and why it is wrong; ours is right on every path."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_numbers import said

from lion import native
from scripts.conformance_lab import contestants, interchange, scenarios, sessions, verdict
from scripts.conformance_lab.verdict import State
from tests.lion import test_mutants as mutants

ROOT = Path(__file__).resolve().parent.parent.parent
SCENARIOS = scenarios.make_all()
EAGER_OURS = [
    c for c in contestants.contestants() if c.name.startswith("ours") and "compiled" not in c.name
]
REASONS = {
    mutants.signum: "Signum",
    mutants.betas_swapped: "beta1 and beta2 are swapped",
    mutants.momentum_before_sign: "refreshes the momentum before the sign",
    mutants.no_decay: "no weight decay",
    mutants.l2_decay: "coupled (L2) decay",
    mutants.sign_sgd: "signs the gradient alone",
    mutants.beta2_ignored: "beta2 is ignored",
}


class Mutated:
    """A session of a rule (p, g, m, lr, weight_decay) -> (p, m), in float64."""

    def __init__(self, rule, weights, weight_decay, nothing_if_missing=True):
        self.rule, self.weight_decay = rule, weight_decay
        self.weights = [w.double().numpy() for w in weights]
        self.momenta = [np.zeros_like(w) for w in self.weights]
        self.nothing_if_missing = nothing_if_missing

    def step(self, grads, lr):
        for i, grad in enumerate(grads):
            if grad is None and self.nothing_if_missing:
                continue
            g = np.zeros_like(self.weights[i]) if grad is None else grad.double().numpy()
            pair = self.rule(self.weights[i], g, self.momenta[i], lr, self.weight_decay)
            self.weights[i], self.momenta[i] = pair

    def resume(self):
        """Its state is simply kept."""

    def state(self):
        columns = ([torch.tensor(x) for x in column] for column in (self.weights, self.momenta))
        return State(*columns, is_8_bit=[False] * len(self.weights))

    def notes(self):
        return []


def judged(rule, name, **options):
    def start(weights, _lr, weight_decay, _maximize):
        return Mutated(rule, weights, weight_decay, **options)

    return verdict.judge(sessions.record(start, SCENARIOS[name]))


def right(p, g, m, lr, wd):
    c = 0.9 * m + (1 - 0.9) * g
    return p - lr * (np.sign(c) + wd * p), 0.99 * m + (1 - 0.99) * g


@pytest.mark.parametrize("name", ["decay", "schedule", "resume"])
@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda f: f.__name__)
def test_mutant_is_named(mutant, name):
    found = judged(mutant, name)
    assert found.kind == verdict.DIFFERENT
    assert REASONS[mutant] in found.reason


@pytest.mark.parametrize("name", SCENARIOS)
def test_right_rule_is_right(name):
    if name == "maximize":
        found = judged(lambda p, g, *rest: right(p, -g, *rest), name)
    else:
        found = judged(right, name)
    assert found.kind in verdict.AGREEMENTS, found


def decays_late(p, g, m, lr, wd):
    p, m = right(p, g, m, lr, 0.0)
    return p * (1 - lr * wd), m


def twice(p, g, m, lr, wd):
    p, m = right(p, g, m, lr, wd)
    return right(p, g, m, lr, wd)


def hides_nan(p, g, m, lr, wd):
    c = 0.9 * m + 0.1 * g
    return p - lr * (np.nan_to_num(np.sign(c)) + wd * p), 0.99 * m + 0.01 * g


@pytest.mark.parametrize(
    "rule, name, reason",
    [
        (decays_late, "decay", "decays after the step"),
        (twice, "decay", "applies the step twice"),
        (hides_nan, "nan grad", "hides NaN"),
        (right, "maximize", "the wrong way round"),
        (lambda p, g, m, lr, wd: right(p, g, m, 0.05, wd), "schedule", "unexplained"),
    ],
)
def test_other_faults_are_named(rule, name, reason):
    found = judged(rule, name)
    assert found.kind == verdict.DIFFERENT
    assert reason in found.reason


def test_missing_taken_for_zero_is_named():
    found = judged(right, "missing grads", nothing_if_missing=False)
    assert (found.kind, "missing gradient for 0" in found.reason) == (verdict.DIFFERENT, True)


def test_forgotten_momentum_is_named():
    class Forgetful(Mutated):
        def resume(self):
            self.momenta = [np.zeros_like(m) for m in self.momenta]

    def start(weights, _lr, weight_decay, _maximize):
        return Forgetful(right, weights, weight_decay)

    found = verdict.judge(sessions.record(start, SCENARIOS["resume"]))
    assert "forgets the momentum" in found.reason


def test_one_wrong_value_is_found_and_left_unexplained():
    recording = sessions.record(EAGER_OURS[0].session, SCENARIOS["decay"])
    recording.states[7].weights[4].view(-1)[4000] += 1e-3
    found = verdict.judge(recording)
    assert found.kind == verdict.DIFFERENT
    assert "unexplained: 2 of" in found.reason and "step 7" in found.reason  # its step and the next


def test_an_error_is_a_result():
    def start(*_):
        raise RuntimeError("no such thing\nand more")

    found = verdict.judge(sessions.record(start, SCENARIOS["plain"]))
    assert found == verdict.Verdict(verdict.ERROR, "RuntimeError: no such thing")


@pytest.mark.parametrize("ours", EAGER_OURS, ids=lambda c: c.name)
@pytest.mark.parametrize("name", SCENARIOS)
def test_ours_agrees(ours, name):
    if "fused" in ours.name and not native.available():
        pytest.skip("no C++ compiler")
    recording = sessions.record(ours.session, SCENARIOS[name])
    found = verdict.judge(recording)
    assert found.kind in verdict.AGREEMENTS, found
    if "momentum" not in ours.name and name != "bf16" and "FMA" in _cpu_kernels():
        assert found.kind == verdict.EQUAL, found


def _cpu_kernels() -> str:
    return "FMA" if torch.backends.cpu.get_cpu_capability() != "DEFAULT" else ""


def test_other_operations_are_named():
    class Lerp(contestants.GoogleLion):
        @torch.no_grad()
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                lr, wd = self.param_groups[0]["lr"], self.param_groups[0]["weight_decay"]
                p.mul_(1 - lr * wd).add_(m.lerp(p.grad, 1 - 0.9).sign_(), alpha=-lr)
                m.lerp_(p.grad, 1 - 0.99)

    start = contestants._session(sessions.TorchSession, Lerp)
    plain, hard = (
        verdict.judge(sessions.record(start, SCENARIOS[n])) for n in ("decay", "cancelling")
    )
    assert (plain.kind, plain.reason) == (verdict.ROUNDING, "momentum: lerp")
    assert hard.kind == verdict.CANCELLATION and 0 < hard.sign_rate < 0.3
    assert "inside the sign: lerp" in hard.reason


def test_state_dicts_are_handed_over():
    by_name = {c.name: c for c in contestants.contestants()}
    google, ours = by_name["google (plain loop)"], by_name["ours (loop)"]
    for pair in ((google, ours), (ours, google)):
        assert interchange.hand_over(*pair, SCENARIOS["resume"]).kind == verdict.EQUAL


def test_runs_without_the_peers():
    """As where only the requirements are installed: named, left out, and no failure."""
    hidden = ["lion_pytorch", "optimi", "pytorch_optimizer", "bitsandbytes", "optax"]
    program = (
        "import sys, runpy\n"
        f"for name in {hidden}: sys.modules[name] = None\n"
        f"sys.argv = ['conformance', '--json', '--scenarios', '^decay$', '--no-interchange',\n"
        "            '--only', 'loop.$|pytorch|optimi|bits|optax']\n"
        f"runpy.run_path({str(ROOT / 'scripts/conformance.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {row["lion"] for row in said["rows"]} >= {"ours (loop)", "google (plain loop)"}
    assert "pip install lion-pytorch" in said["absent"]["lion-pytorch"]
    assert len(said["absent"]) >= 8


def test_published_matrix_is_whole_and_ours_agrees():
    with (ROOT / "results/conformance/matrix.csv").open() as file:
        cells = {(r["lion"], r["scenario"]): r for r in csv.DictReader(file) if not r["other"]}
    ours = [c.name for c in contestants.contestants() if c.name.startswith("ours")]
    for lion in ours:
        for name in scenarios.NAMES:
            assert cells[lion, name]["kind"] in verdict.AGREEMENTS
    assert len({lion for lion, _ in cells}) > len(ours) + 5
    # The README names the paths that give the rule's bits in float32, and the one that does not.
    exact = {
        lion
        for lion in ours
        if all(
            cells[lion, name]["kind"] == verdict.EQUAL for name in scenarios.NAMES if name != "bf16"
        )
    }
    assert exact == {
        f"ours ({path})" for path in ("rule", "loop", "foreach", "fused", "fused, Kahan")
    }
    assert "`torch.compile` may round the momentum otherwise" in said("README.md")
    unexplained = [r for r in cells.values() if "no way of computing" in r["reason"]]
    assert len(unexplained) == 6 and "in six cells the roundings were not found" in said(
        "lion/README.md"
    )
