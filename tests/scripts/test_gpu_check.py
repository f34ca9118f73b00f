"""The check of a card, rehearsed on the CPU: every part runs, and what it finds is on the disk."""

from __future__ import annotations

import json
import runpy
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the rehearsal is of the CPU")


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import gpu_lab.correctness
    import gpu_lab.facts
    import gpu_lab.observing
    import gpu_lab.optimizer_step
    import gpu_lab.whole_runs

    yield gpu_lab
    for name in [name for name in sys.modules if name.startswith("gpu_lab")]:
        del sys.modules[name]


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
    assert not lab.correctness._agrees(torch.float32, {}, "from the start")


def rows_of(lab: Any, folder: Path, seconds: float = 600.0) -> Any:
    return lab.measuring.Rows(folder / "rows.json", seconds)


def written(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "rows.json").read_text())


def fail(error: Exception) -> Any:
    raise error


def test_a_comparison_that_fails_costs_its_own_row_alone(lab: Any, tmp_path: Path) -> None:
    """Another path than the kernel is no proof of it, and too little memory no error of it."""
    rows, add = rows_of(lab, tmp_path), lab.correctness._add
    add(rows, "fp32", "other path", lambda: True, True)
    add(rows, "fp32", "broken", lambda: fail(ValueError("no such instruction\nmore")))
    add(rows, "fp32", "large", lambda: fail(torch.OutOfMemoryError("of 16 GiB")))
    add(rows, "fp32", "fine", lambda: True)
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


def test_numbers_that_are_not_finite_are_valid_json(lab: Any, tmp_path: Path) -> None:
    rows_of(lab, tmp_path).add(part="step", speed=float("inf"), share=float("nan"), turns=3)
    assert written(tmp_path) == [{"part": "step", "speed": None, "share": None, "turns": 3}]


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


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return runpy.run_path(str(SCRIPTS / "gpu_check.py"))["main"].__globals__


def call(script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *arguments])
    return script["main"]()


def test_without_a_card_nothing_is_measured(
    script: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script["ROOT"] = tmp_path
    script["_in_process"] = lambda *_: ("done", [{"device": "cpu"}])
    assert call(script, monkeypatch) == 2
    assert "error: no CUDA card is visible" in capsys.readouterr().err
    script["_in_process"] = lambda *_: ("exit code 1", [])
    assert call(script, monkeypatch) == 2


def test_a_card_that_torch_does_not_see_is_no_rehearsal(
    script: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Minutes of a card would be spent on its host's CPU, and look like a check of it."""
    (tmp_path / "nvidiactl").touch()
    script["NODES"] = (str(tmp_path / "nvidiactl"),)
    facts = {"device": "cpu", "torch": "9.9", "why_no_card": "the driver is too old"}
    script["_in_process"] = lambda name, *_: ("done", [facts] if name == "facts" else [])
    out = str(tmp_path / "check.json")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert call(script, monkeypatch, "--out", out) == 2
    assert "torch 9.9 sees none (the driver is too old)" in capsys.readouterr().err
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert call(script, monkeypatch, "--out", out) == 0


def test_a_folder_that_cannot_be_written_is_said_at_once(
    script: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    script["_in_process"] = lambda *_: fail(AssertionError("nothing may be measured"))
    assert call(script, monkeypatch, "--out", str(tmp_path / "file" / "check.json")) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_time_that_a_part_leaves_is_the_next_ones(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And what one takes too much, the next ones have less: the whole keeps its time."""
    now, given = [0.0], {}
    takes = {"facts": 10.0, "correct": 5.0, "runs": 0.0, "step": 400.0}

    def in_process(name: str, seconds: float, ends: float, *_: Any) -> tuple[str, Any]:
        given[name] = seconds
        assert ends == 600.0
        now[0] += takes.get(name, seconds)
        return "done", [{"device": "cpu"}] if name == "facts" else []

    monkeypatch.setattr(script["time"], "time", lambda: now[0])
    script["_in_process"] = in_process
    out = tmp_path / "check.json"
    assert call(script, monkeypatch, "--out", str(out), "--minutes", "10") == 0
    assert now[0] == pytest.approx(600.0)
    assert given["correct"] == pytest.approx(118.0)
    assert given["step"] == pytest.approx(585 * 0.2 / 0.65)
    assert list(json.loads(out.read_text())["parts"]) == list(script["PARTS"])


STANDS_IN = """
import json, os, subprocess, sys, time
rows = sys.argv[sys.argv.index("--rows") + 1]
def write(*found):
    with open(rows + "x", "w") as file:
        json.dump(list(found), file)
    os.replace(rows + "x", rows)
"""
"""What every part of the tests below begins with."""


def part(script: dict[str, Any], folder: Path, does: str, seconds: float = 60.0) -> Any:
    """What comes of a process that does that; `told` is what was known while it ran."""
    (folder / "part.py").write_text(STANDS_IN + does)
    script["__file__"], told = str(folder / "part.py"), []
    ends = script["time"].time() + seconds
    state, rows = script["_in_process"]("step", seconds, ends, folder, told.append)
    assert [p.name for p in folder.glob("gpu-check-*")] == []
    return state, rows, told


def test_rows_are_known_while_a_part_runs_and_outlive_its_crash(
    script: dict[str, Any], tmp_path: Path
) -> None:
    does = 'write({"n": 1})\nwhile not os.path.exists(rows + ".seen"): time.sleep(0.01)\n'
    does += 'write({"n": 1}, {"n": 2}); os.kill(os.getpid(), 11)'
    script["POLL_SECONDS"] = 0.02
    told: list[Any] = []
    (tmp_path / "part.py").write_text(STANDS_IN + does)
    script["__file__"] = str(tmp_path / "part.py")

    def on_rows(rows: list[Any]) -> None:
        told.append(rows)
        for path in tmp_path.glob("gpu-check-*.tmp"):
            Path(f"{path}.seen").touch()

    ends = script["time"].time() + 60
    state, rows = script["_in_process"]("step", 60.0, ends, tmp_path, on_rows)
    assert told[0] == [{"n": 1}] and rows == [{"n": 1}, {"n": 2}]
    assert state == "exit code -11"


def test_a_part_that_hangs_is_ended_with_all_that_it_has_started(
    script: dict[str, Any], tmp_path: Path
) -> None:
    script["GRACE_SECONDS"], script["POLL_SECONDS"] = 0.0, 0.02
    script["LEAST_SECONDS"] = 0.0
    does = 'child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])\n'
    does += 'write({"child": child.pid}); time.sleep(600)'
    state, rows, _ = part(script, tmp_path, does, 2.0)
    assert state == "cut"
    stat = Path(f"/proc/{rows[0]['child']}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_half_a_file_of_rows_costs_nothing_else(script: dict[str, Any], tmp_path: Path) -> None:
    state, rows, _ = part(script, tmp_path, 'open(rows, "w").write("[{"); sys.exit(75)')
    assert (state, rows) == ("cut", [])


def test_what_no_time_is_left_for_is_not_begun(script: dict[str, Any], tmp_path: Path) -> None:
    script["subprocess"] = None
    assert script["_in_process"]("step", 0.5, 0.0, tmp_path) == ("cut", [])


def test_compilers_have_room_where_the_home_has_none(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    monkeypatch.setenv("LION_CACHE_DIR", "of the user")
    found = script["_environment"](tmp_path)
    assert found["TRITON_CACHE_DIR"] == str(tmp_path / "triton-cache")
    assert found["LION_CACHE_DIR"] == "of the user"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert script["_environment"](tmp_path).get("TRITON_CACHE_DIR") is None


def test_a_module_that_cannot_be_imported_is_a_row(
    lab: Any, script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gpu_lab.language", None)
    with pytest.raises(ImportError):
        script["run_part"]("language", tmp_path / "rows.json", 60.0)
    assert "ModuleNotFoundError" in written(tmp_path)[0]["error"]


# --- whole runs ----------------------------------------------------------------------------------


def test_a_whole_run_ends_starts_alike_and_goes_on(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = lab.whole_runs
    monkeypatch.setattr(runs, "PAGES", ("digits_classifier_proxy",))
    monkeypatch.setattr(runs, "RESUMED", runs.PAGES)
    runs.runs(rows_of(lab, tmp_path))
    found = {row["what"]: row for row in written(tmp_path)}
    assert list(found) == ["ends", "starts as on a CPU", "goes on exactly"]
    assert all(row["as_expected"] for row in found.values())
    assert "test top1 ema" in found["ends"]["measured"]


def test_a_run_that_starts_otherwise_or_does_not_go_on_is_seen(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, count = lab.whole_runs, [0]

    def drifting(*_: Any) -> list[float]:
        count[0] += 1
        return [2.3, 2.0 + 0.1 * count[0]]

    monkeypatch.setattr(runs, "_first_losses", drifting)
    monkeypatch.setattr(runs, "_config", lambda *_, **__: None)
    monkeypatch.setattr(runs, "_losses", drifting)
    monkeypatch.setattr(runs, "_broken_off", lambda _: None)
    monkeypatch.setattr(runs.runner, "run", lambda _: None)
    assert not runs._starts_as_on_a_cpu("page", tmp_path)["as_expected"]
    assert not runs._goes_on("page", tmp_path)["as_expected"]


def test_data_that_a_machine_lacks_are_no_error_of_ours(lab: Any, tmp_path: Path) -> None:
    from experiments.config import UserError

    rows = rows_of(lab, tmp_path)
    for text in ("the data need mnist1d: pip install mnist1d", "the model and the data differ"):
        lab.whole_runs._add(rows, "page", "ends", lambda *_, t=text: fail(UserError(t)))
    skipped, wrong = written(tmp_path)
    assert "skipped" in skipped and "error" not in skipped and "error" in wrong


def test_without_hydra_there_are_no_pages(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab.whole_runs.importlib.util, "find_spec", lambda _: None)
    lab.whole_runs.runs(rows_of(lab, tmp_path))
    assert written(tmp_path) == [{"part": "runs", "what": "skipped: pages need hydra-core"}]
