"""Do state dicts go from one Lion to another in the middle of a run, and does it go on right?"""

from __future__ import annotations

import numpy as np
import torch

from scripts.conformance_lab import verdict
from scripts.conformance_lab.contestants import Contestant
from scripts.conformance_lab.scenarios import MIDDLE, Scenario
from scripts.conformance_lab.sessions import TorchSession, one_line, quiet
from scripts.conformance_lab.sessions import through_file as saved_and_loaded
from scripts.conformance_lab.verdict import Recording, State, Verdict


def hand_over(first: Contestant, second: Contestant, scenario: Scenario) -> Verdict:
    """Step with `first`, load its state dict into `second`, and judge the steps of that.

    Args:
        first: Takes the first half of the trajectory.
        second: Takes the other half, from the weights and the state dict of the first.
        scenario: A trajectory that is resumed in its middle.
    """
    recording = Recording(scenario, first_step=MIDDLE)
    lr, decay = scenario.lrs[0], scenario.weight_decay
    weights = [weight.clone() for weight in scenario.weights]
    with quiet():
        try:
            session = _session(first, weights, lr, decay)
            for grads, lr in zip(scenario.grads[:MIDDLE], scenario.lrs[:MIDDLE], strict=True):
                session.step(grads, lr)
            before = session.state()
            other = _session(second, before.weights, lr, decay)
            other.load(saved_and_loaded(session.optimizer.state_dict()))
            loaded = other.state()
            recording.states.append(loaded if _is_kept(before, loaded) else before)
            for grads, lr in zip(scenario.grads[MIDDLE:], scenario.lrs[MIDDLE:], strict=True):
                other.step(grads, lr)
                recording.states.append(other.state())
        except Exception as error:  # any failure of a foreign package is a result here
            recording.error = one_line(error)
    judged = verdict.judge(recording)
    if judged.kind == verdict.DIFFERENT and _are_codes(session, loaded):
        judged.reason = "takes the 8-bit codes for the momentum, without their scale"
    return judged


def _are_codes(session: TorchSession, loaded: State) -> bool:
    stored = [state.get("exp_avg") for state in session.optimizer.state.values()]
    return all(
        x is not None and x.dtype == torch.int8 and torch.equal(x.to(m.dtype), m)
        for x, m in zip(stored, loaded.momenta, strict=True)
    )


def _is_kept(before: State, loaded: State) -> bool:
    """Whether the momenta are the same but for the rounding of another storage."""
    columns = zip(before.momenta, loaded.momenta, before.is_8_bit, loaded.is_8_bit, strict=True)
    for old, new, was_8_bit, is_8_bit in columns:
        m = old.double().numpy()
        room = verdict.ULPS * torch.finfo(new.dtype).eps * np.abs(m)
        if was_8_bit or is_8_bit:
            room = room + verdict.STORED_8_BIT * verdict.block_maximum(np.abs(m))
        if not (np.abs(new.double().numpy() - m) <= room).all():
            return False
    return True


def _session(contestant: Contestant, weights: list, lr: float, decay: float) -> TorchSession:
    builder = contestant.builder
    assert builder is not None, f"{contestant.name} is no torch optimizer"
    return TorchSession(weights, lambda params: builder(params, lr, decay, False))
