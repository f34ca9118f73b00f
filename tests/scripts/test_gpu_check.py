"""The check of a card, rehearsed on the CPU: every part runs, and what it finds is on the disk."""

from __future__ import annotations

import json
import runpy
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from card_lab import SCRIPTS, fail, rows_of, written

from experiments.config import ConfigError

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the rehearsal is of the CPU")


@pytest.mark.parametrize(
    ("room", "part"),
    [("correctness", "correct"), ("optimizer_step", "step"), ("observing", "sync"),
     ("training", "train"), ("observing", "memory"), ("facts", "facts")],
)  # fmt: skip
def test_a_part_writes_its_rows(lab: Any, tmp_path: Path, room: str, part: str) -> None:
    from gpu_lab.measuring import Rows

    path = tmp_path / "rows.json"
    getattr(getattr(lab, room), part)(Rows(path, 600.0))
    rows = json.loads(path.read_text())
    assert rows and {row.get("part", "facts") for row in rows} == {part}
    assert all(row.get("bit_equal", True) for row in rows)
    assert not [row for row in rows if "error" in row]


def test_a_wrong_step_is_seen(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    step = lab.correctness.Lion.step

    def twice(self: Any) -> None:
        step(self)
        if self.defaults["fused"] is not False:
            step(self)

    monkeypatch.setattr(lab.correctness.Lion, "step", twice)
    *_, said, _ = lab.correctness._stepped(torch.float32, {}, "from the start")
    assert said.startswith("weight (6, 3, 5, 5): 450 of 450, by 0.0")


def test_a_momentum_that_is_stored_wrongly_is_seen(lab: Any, tmp_path: Path) -> None:
    """Its last bit turns hardly a sign in 20 steps: the weights alone would not tell."""
    params = [torch.nn.Parameter(torch.ones(4)) for _ in range(2)]
    one, other = (lab.correctness.Lion([p], momentum_dtype="int8") for p in params)
    for param, optimizer in zip(params, (one, other), strict=True):
        param.grad = torch.ones(4)
        optimizer.step()
    assert lab.correctness.differences(one, other) == []
    other.state[params[1]]["exp_avg_scale"].mul_(1 + 2**-23)
    found = lab.correctness.differences(one, other)
    assert len(found) == 1 and found[0].startswith("exp_avg_scale (1,): 1 of 1, by ")
    rows, add = rows_of(lab, tmp_path), lab.correctness._add
    add(rows, "fp32", "torch's own kernels", lambda: found)
    add(rows, "fp32", "NaN", lambda: ["weight (4,): 1 of 4, by inf at most"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab.correctness.fused_cuda, "_run", lambda: None)

        def launched() -> list[str]:
            lab.correctness.fused_cuda._run()
            return found

        add(rows, "fp32", "the kernel", launched, True)
    told = written(tmp_path)
    assert [row["bit_equal"] for row in told] == [True, False, False]
    assert [row["differs"] for row in told][::2] == [found, found]


def test_a_comparison_that_fails_costs_its_own_row_alone(lab: Any, tmp_path: Path) -> None:
    """Another path than the kernel is no proof of it, and too little memory no error of it."""
    rows, add = rows_of(lab, tmp_path), lab.correctness._add
    add(rows, "fp32", "other path", lambda: [], True)
    add(rows, "fp32", "broken", lambda: fail(ValueError("no such instruction\nmore")))
    add(rows, "fp32", "large", lambda: fail(torch.OutOfMemoryError("of 16 GiB")))
    add(rows, "fp32", "fine", lambda: [])
    found = {row["case"]: row for row in written(tmp_path)}
    assert [row["bit_equal"] for row in found.values()] == [False, False, None, True]
    assert found["other path"]["error"] == "the Triton kernel was not launched"
    assert found["broken"]["error"] == "ValueError: no such instruction"
    assert (
        found["large"]["skipped"].startswith("OutOfMemoryError") and "error" not in found["large"]
    )


def test_launches_of_the_kernel_are_counted(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fused_cuda, seen = lab.correctness.fused_cuda, []
    monkeypatch.setattr(fused_cuda, "_run", lambda *args, **kwargs: seen.append(kwargs))
    before = fused_cuda._run
    with lab.correctness.Launches() as launches:
        fused_cuda._run("kind", lr=1.0)
    assert launches.count == 1 and seen == [{"lr": 1.0}] and fused_cuda._run is before


def test_a_library_that_cannot_be_imported_costs_its_own_row(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lion_pytorch.py").write_text("raise OSError('libcudart.so.12 is missing')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "lion_pytorch", raising=False)
    lab.optimizer_step.step(rows_of(lab, tmp_path))
    found = {row["what"]: row for row in written(tmp_path)}
    assert found.pop("lion-pytorch")["error"] == "OSError: libcudart.so.12 is missing"
    assert "timm Lion, foreach" in found and not [row for row in found.values() if "error" in row]


def test_a_model_too_large_for_a_card_is_no_error(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice of a card, or one that others use: what fits is measured."""
    full = torch.OutOfMemoryError("CUDA out of memory")
    cases = {"Lion, fp32": (lambda: fail(full), 20.0), "AdamW": (lambda: fail(ValueError()), 28.0)}
    monkeypatch.setattr(lab.optimizer_step, "_contestants", lambda _: cases)
    lab.optimizer_step.step(rows_of(lab, tmp_path))
    _, ours, theirs = written(tmp_path)
    assert "skipped" in ours and "error" not in ours and "error" in theirs


def test_the_copy_is_as_large_as_the_memory_allows(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, zeros = [], torch.zeros

    def small(count: int, **where: Any) -> torch.Tensor:
        made.append(count)
        return fail(torch.OutOfMemoryError()) if count > 1 << 24 else zeros(8, **where)

    monkeypatch.setattr(torch, "zeros", small)
    monkeypatch.setattr(torch, "empty", small)
    lab.measuring._twins(28)
    assert made == [1 << 28, 1 << 26, 1 << 24, 1 << 24]
    with pytest.raises(torch.OutOfMemoryError):
        monkeypatch.setattr(torch, "zeros", lambda *_, **__: fail(torch.OutOfMemoryError()))
        lab.measuring._twins(28)


def test_half_an_installation_is_none(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = ModuleType("lion_pytorch")
    odd.__spec__ = None
    monkeypatch.setitem(sys.modules, "lion_pytorch", odd)
    assert not lab.measuring.is_installed("lion_pytorch") and lab.measuring.is_installed("torch")


def test_numbers_that_are_not_finite_are_valid_json(lab: Any, tmp_path: Path) -> None:
    rows_of(lab, tmp_path).add(part="step", speed=float("inf"), share=float("nan"), turns=3)
    assert written(tmp_path) == [{"part": "step", "speed": None, "share": None, "turns": 3}]
    losses = [2.3, float("nan")]  # of a run that diverged, which is what one wants to know
    rows_of(lab, tmp_path).add(card=losses, said={"a": (float("inf"), Path("b"))})
    assert written(tmp_path) == [{"card": [2.3, None], "said": {"a": [None, "b"]}}]


def test_a_card_with_little_memory_takes_fewer_images_at_a_time(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab.training, "MICROS", (128, 64, 32))
    rows, tried = rows_of(lab, tmp_path), []

    def measure(micro: int) -> None:
        tried.append(micro)
        if micro > 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        rows.add(part="train", micro=micro)

    lab.training.fitting(rows, measure, part="train")
    assert tried == [128, 64]
    assert written(tmp_path)[0]["skipped"] == "OutOfMemoryError: CUDA out of memory"
    tried.clear()

    def building(micro: int) -> None:
        """As `experiments.build` says it."""
        tried.append(micro)
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        except torch.OutOfMemoryError as error:
            raise ConfigError("model: cannot build it: out of memory") from error

    lab.training.fitting(rows, building, part="train")
    assert tried == [128, 64, 32] and not [r for r in written(tmp_path) if "error" in r]
    lab.training.fitting(rows, lambda micro: fail(RuntimeError("an odd one")), part="train")
    assert written(tmp_path)[-1] == {
        "part": "train",
        "micro": 128,
        "error": "RuntimeError: an odd one",
    }


@pytest.mark.parametrize(
    ("a_step", "ends", "steps"),
    [(1.0, 1000.0, 3 * (1 + 1 + 5 * 6)), (10.0, 320.0, 3 * (1 + 1 + 5 * 1)), (100.0, 1.0, 3 * 2),
     (0.1, 10.0, 3 * (1 + 1 + 5 * 6))],
)  # fmt: skip
def test_a_slow_card_takes_fewer_steps(
    lab: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    a_step: float,
    ends: float,
    steps: int,
) -> None:
    training, now = lab.training, [0.0]
    taken: list[str] = []

    def run(*_: Any) -> Any:
        def work() -> None:
            now[0] += a_step
            taken.append("step")

        return work

    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(training, "NUM_STEPS", 6)
    monkeypatch.setattr(training, "NUM_TURNS", 5)
    for name in ("step_of", "bare_step_of"):
        monkeypatch.setattr(training, name, run)
    monkeypatch.setattr(training, "parts_of", lambda *_: None)
    monkeypatch.setattr(training, "_flops_an_image", lambda _: 1.0)
    training._train(rows_of(lab, tmp_path), "vit", 4, 1.0, ends)
    assert len(taken) == steps
    speeds = [r["images_per_second"] for r in written(tmp_path) if "images_per_second" in r]
    assert speeds == [pytest.approx(training.BATCH / a_step, abs=0.1)] * 3


def test_operations_that_cannot_be_counted_cost_a_share_and_no_time(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = lab.training
    for name in ("step_of", "bare_step_of"):
        monkeypatch.setattr(training, name, lambda _: lambda: None)
    monkeypatch.setattr(training, "parts_of", lambda *_: None)
    monkeypatch.setattr(training, "_flops_an_image", lambda _: fail(KeyError("an operation")))
    training._train(rows_of(lab, tmp_path), "vit", 4, 1.0, training.time.perf_counter() + 60.0)
    failed, *others = written(tmp_path)
    assert failed["error"] == "KeyError: 'an operation'" and len(others) == 5
    assert [row["share_of_matmul_roof"] for row in others[:3]] == [None] * 3


def test_places_that_wait_are_those_of_the_suite(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's word on its mode is no place, and a folder that is called `lion` no room of ours."""
    from experiments.progress import LossWindow

    class Waiting:
        def __float__(self) -> float:
            warnings.warn(
                "called a synchronizing CUDA operation (of CUDAFunctions.h)", stacklevel=1
            )
            return 0.0

    window = LossWindow(1, torch.device("cpu"))
    monkeypatch.setattr(window, "_values", [Waiting()])
    monkeypatch.setattr(window, "_count", 1)

    def work() -> None:
        warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)
        window.latest()

    places = lab.observing.waits_of(work)
    assert len(places) == 1 and places[0].startswith("progress.py:")


def judged(content: dict[str, Any]) -> int:
    script = runpy.run_path(str(SCRIPTS / "gpu_check.py"))
    return script["_judged"](Path("out.json"), {"parts": {"step": "done"}, **content})


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"part": "step", "what": "lion-pytorch", "error": "of another's"}, 0),
        ({"part": "step", "what": "Lion, fp32", "error": "of ours"}, 1),
        ({"part": "train", "what": "runner, lion", "error": "of the runner"}, 1),
        ({"part": "correct", "bit_equal": None, "skipped": "no memory"}, 0),
        ({"part": "correct", "bit_equal": False}, 1),
        ({"part": "correct", "what": "Triton kernel", "works": False, "as_expected": False}, 1),
        ({"part": "correct", "what": "Triton kernel", "works": False, "as_expected": True}, 0),
    ],
)
def test_what_is_ours_and_wrong_decides_the_exit_code(row: dict[str, Any], code: int) -> None:
    assert judged({"rows": [row]}) == code


@pytest.mark.parametrize(("seconds", "code"), [(600.0, 0), (-1.0, 75)])
def test_what_no_time_was_left_for_is_no_success(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, code: int
) -> None:
    """A check that has compared nothing must not look like one that has found nothing wrong."""
    monkeypatch.setattr(lab.correctness, "KINDS", {"fp32": (torch.float32, {})})
    monkeypatch.setattr(lab.correctness, "CASES", ("from the start",))
    script = runpy.run_path(str(SCRIPTS / "gpu_check.py"))
    assert script["run_part"]("correct", tmp_path / "rows.json", seconds) == code
    assert (tmp_path / "rows.json").exists() == (code == 0)


def test_a_part_that_is_cut_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert judged({"rows": [], "parts": {"train": "cut", "sync": "done"}}) == 0
    assert "cut short: ['train']" in capsys.readouterr().out
    assert judged({"rows": [], "parts": {"train": "exit code -11"}}) == 1
