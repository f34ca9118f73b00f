"""scripts/search.py: verdicts as JSON, certificates, one clear line for bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.search import __main__ as search_command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script() -> Any:
    return search_command


FOREIGN = """
# The optimizer that I found.
def train(weight, gradient, v1, v2, rate):
    '''One step.'''
    beta1, beta2 = 0.95, 0.98  # language models
    look = 0.5 * (1 - beta1) * gradient + beta1 * v2   # v2 is half of the momentum
    v2 = (beta2 * v2) + ((1 - beta2) * gradient / 2)
    direction = -look / sqrt(look ** 2)
    step = rate * (0.3 * weight - direction)
    return step, v1, v2
"""


def prove(script: Any, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = script.main(["prove", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_prove_prints_one_json_object(
    script: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "found.txt"
    path.write_text(FOREIGN)
    code, said = prove(script, capsys, str(path))
    assert code == 0
    assert said["family"] == "sign-momentum"
    assert (said["beta1"], said["beta2"]) == ("19/20", "49/50")
    assert said["equal_to_lion_with"] == ["19/20", "49/50"] and said["weight_decay"] == "3/10"
    assert isinstance(said["reason"], str)


def test_prove_decides_against(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = prove(script, capsys, "adamw")
    assert code == 0 and said["family"] is None and said["beta1"] is None
    code, said = prove(script, capsys, "raw")
    assert code == 0 and said["family"] is None
    assert "clip" in said["reason"] and "arcsin" in said["reason"]


def test_undecided_has_an_exit_code_of_its_own(
    script: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "odd.txt"
    path.write_text(
        "def train(w, g, m, v, lr):\n  update = lr * sign(2 * g + sin(g))\n  return update, m, v\n"
    )
    code, said = prove(script, capsys, str(path))
    assert code == 1 and said["family"] is None and said["decided"] is False


def test_certificates_are_written_and_verified(
    script: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "proof.json"
    assert script.main(["prove", "evolved_plain", "--certificate", str(path)]) == 0
    assert script.main(["check", str(path)]) == 0
    assert "verified: the program is Lion with betas (9/10, 99/100)" in capsys.readouterr().out
    path.write_text(path.read_text().replace("99/100", "98/100"))
    assert script.main(["check", str(path)]) == 1
    assert "refused" in capsys.readouterr().out
    assert script.main(["prove", "adamw", "--certificate", str(path)]) == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no program",
        "def train(w, g, m, v, lr):\n  return update, m, v\n",
        "def train(w, g, m, v, lr):\n  update = foo(g)\n  return update, m, v\n",
        "def train(w, g, m, v, lr):\n  update = lr * 2\n  return update, m, v\n",
        "def train(w, g, m, v, lr):\n  update = interp(g, m, v)\n  return update, m, v\n",
        b"\xff\xfe\x00",
    ],
)
@pytest.mark.parametrize("command", ["prove", "simplify", "export"])
def test_bad_input_is_one_clear_line(
    script: Any,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    content: str | bytes,
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert script.main([command, str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "bad.txt" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["prove", "nowhere.txt"],
        ["check", "nowhere.json"],
        ["simplify", "lion", "--rounds", "0"],
        ["simplify", "lion", "--rounds", "501"],
        ["simplify", "lion", "--steps", "1000001"],
        ["worth", "lion", "--steps", "1000010"],
        ["simplify", "lion", "--tolerance", "nan"],
        ["simplify", "lion", "--family", "nowhere"],
        ["ablate", "nowhere.txt"],
        ["ablate", "lion", "--families", "lm,nowhere"],
        ["ablate", "lion", "--rounds", "1"],
        ["ablate", "lion", "--steps", "15"],
        ["export", "lion", "--out", "/proc/nowhere/x.txt"],
    ],
)
def test_wrong_settings_are_one_clear_line(
    script: Any, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert script.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_simplify_and_export_write_programs(
    script: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "short.txt"
    assert script.main(["simplify", "evolved_plain", "--exact", "--out", str(path)]) == 0
    from experiments.search import library

    assert library.read_file(path) == library.load("lion")
    assert script.main(["export", "raw", "--out", str(path)]) == 0
    assert len(library.read_file(path)) == 12
    first = path.read_text().splitlines()[0]
    assert first == "# raw, without 9 statements that change no update"
    assert f"optimizer=program optimizer.path={path}" in capsys.readouterr().out
