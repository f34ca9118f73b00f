"""An optimizer on its way: it steps, is saved and loaded, and shows its state."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, Protocol

import torch
from torch import Tensor

from scripts.conformance_lab.scenarios import BETAS, Grads, Scenario
from scripts.conformance_lab.verdict import Recording, State

BLOCK = 256  # elements that share a scale in the 8-bit momenta of ours and of bitsandbytes


class NotOffered(Exception):
    """The optimizer does not claim to do this."""


class Session(Protocol):
    """What a trajectory needs of an optimizer."""

    def step(self, grads: Grads, lr: float) -> None:
        """Take one step."""

    def resume(self) -> None:
        """Save the state, and go on with what a new optimizer has loaded."""

    def state(self) -> State:
        """Return copies of the weights and the momenta."""
        ...

    def notes(self) -> list[str]:
        """Return side effects that were noticed."""
        ...


def record(start: Callable[..., Session], scenario: Scenario) -> Recording:
    """Send an optimizer along a trajectory; whatever it raises becomes part of the recording."""
    recording = Recording(scenario)
    lr = torch.tensor(scenario.lrs[0]) if scenario.lr_is_tensor else scenario.lrs[0]
    weights = [weight.clone() for weight in scenario.weights]
    with quiet():
        try:
            session = start(weights, lr, scenario.weight_decay, scenario.maximize)
            recording.states.append(session.state())
            for step, grads in enumerate(scenario.grads):
                if step == scenario.resume_at:
                    session.resume()
                session.step([g if g is None else g.clone() for g in grads], scenario.lrs[step])
                recording.states.append(session.state())
            recording.notes = session.notes()
        except NotOffered as reason:
            recording.not_offered = str(reason)
        except Exception as error:  # any failure of a foreign package is a result here
            recording.error = one_line(error)
    return recording


def one_line(error: BaseException) -> str:
    """Return the type and the first line of an error, shortened."""
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text[:140]}".rstrip(": ")


class quiet:
    """Keep what foreign packages print and warn out of the terminal."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._streams = redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO())
        for stream in self._streams:
            stream.__enter__()

    def __exit__(self, *error: Any) -> None:
        for stream in reversed(self._streams):
            stream.__exit__(*error)
        self._warnings.__exit__(*error)


class TorchSession:
    """Any torch optimizer."""

    def __init__(self, weights: Sequence[Tensor], build: Callable[[Any], Any]) -> None:
        self._build = build
        self._params = [torch.nn.Parameter(weight) for weight in weights]
        self.optimizer = build(self._params)
        self._overwritten = False

    def step(self, grads: Grads, lr: float) -> None:
        """Set the gradients and the learning rate, and step."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        for param, grad in zip(self._params, grads, strict=True):
            param.grad = None if grad is None else grad.clone()
        self._step()
        pairs = zip(self._params, grads, strict=True)
        self._overwritten |= any(
            grad is not None and not torch.equal(param.grad.nan_to_num(), grad.nan_to_num())
            for param, grad in pairs
            if param.grad is not None
        )

    def _step(self) -> None:
        self.optimizer.step()

    def resume(self) -> None:
        """Through a file, as a checkpoint goes; weights are copied, too."""
        self.load(through_file(self.optimizer.state_dict()))

    def load(self, state_dict: dict[str, Any]) -> None:
        """Go on with a new optimizer of the same settings that has loaded `state_dict`."""
        self._params = [torch.nn.Parameter(p.detach().clone()) for p in self._params]
        self.optimizer = self._build(self._params)
        self.optimizer.load_state_dict(state_dict)

    def state(self) -> State:
        """Weights and decoded momenta; zeros where the optimizer has none yet."""
        momenta, is_8_bit = [], []
        for param in self._params:
            state = self.optimizer.state.get(param, {})
            stored = state.get("exp_avg", state.get("state1"))
            is_8_bit.append(isinstance(stored, Tensor) and stored.dtype.itemsize == 1)
            momenta.append(_momentum(state, param.detach()))
        return State([p.detach().clone() for p in self._params], momenta, is_8_bit)

    def notes(self) -> list[str]:
        """Whether p.grad was changed."""
        return ["overwrites p.grad"] if self._overwritten else []


def through_file(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return what `torch.load` gives of a saved `state_dict`."""
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _momentum(state: dict[str, Any], param: Tensor) -> Tensor:
    stored = state.get("exp_avg", state.get("state1"))
    if stored is None:
        return torch.zeros_like(param)
    if stored.dtype.itemsize > 1:
        return stored.detach().clone()
    ours = "exp_avg_scale" in state
    scale = state["exp_avg_scale" if ours else "absmax1"].repeat_interleave(BLOCK)[: param.numel()]
    codes = stored.reshape(-1)
    values = codes.float() if ours else state["qmap1"][codes.long()]
    return (values * scale).view(param.shape)


class CompiledSession(TorchSession):
    """A torch optimizer whose whole step is compiled, with a tensor lr as its makers advise."""

    def __init__(self, weights: Sequence[Tensor], build: Callable[[Any], Any]) -> None:
        torch.compiler.reset()
        super().__init__(weights, build)
        self._with_tensor_lr()

    def _with_tensor_lr(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"])
        self._compiled = torch.compile(lambda: self.optimizer.step())

    def _step(self) -> None:
        self._compiled()

    def load(self, state_dict: dict[str, Any]) -> None:
        """As for any torch optimizer; compiled afresh."""
        super().load(state_dict)
        self._with_tensor_lr()


class RuleSession:
    """Our pure function, which has no state of its own to save."""

    def __init__(self, weights: list[Tensor], lr: Any, weight_decay: float, maximize: bool) -> None:
        from lion import rule

        self._rule, self._weight_decay, self._lr = rule.lion, weight_decay, lr
        self._direction = -1 if maximize else 1
        self._weights, self._momenta = weights, [torch.zeros_like(w) for w in weights]

    def step(self, grads: Grads, lr: float) -> None:
        """Step the tensors that have a gradient."""
        used = torch.tensor(lr) if isinstance(self._lr, Tensor) else lr
        settings = {"lr": used, "weight_decay": self._weight_decay}
        settings |= {"beta1": BETAS[0], "beta2": BETAS[1]}
        for i, grad in enumerate(grads):
            if grad is not None:
                pair = self._weights[i], self._direction * grad, self._momenta[i]
                self._weights[i], self._momenta[i] = self._rule(*pair, **settings)

    def resume(self) -> None:
        """Through a file."""
        saved = through_file({"weights": self._weights, "momenta": self._momenta})
        self._weights, self._momenta = saved["weights"], saved["momenta"]

    def state(self) -> State:
        """Copies."""
        columns = ([x.clone() for x in column] for column in (self._weights, self._momenta))
        return State(*columns, is_8_bit=[False] * len(self._weights))

    def notes(self) -> list[str]:
        """None: a function has no side effects."""
        return []
