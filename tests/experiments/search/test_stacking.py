"""Programs that are trained together move as each would alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import rows
import torch

from experiments.search import library, stacking
from experiments.search.export import ProgramOptimizer
from lion.stacked import NoStackedRule, rule_for

MEMBERS: list[dict[str, Any]] = [
    {"lr": 1e-2, "weight_decay": 0.1},
    {"lr": 3e-3, "weight_decay": 0.0},
    {"lr": 3e-2, "weight_decay": 1.0},
]
SCALARS = """
  a = lr * lr
  b = sqrt(a)
  c = maximum(g, 0.01)
  d = minimum(c, b)
  n = norm(b)
  m = interp(g, m, 0.9)
  s = sign(m)
  s = s * n
  update = s + d
"""
"""Numbers beside arrays, and a `norm` of a number, which mixes nothing."""


def names(is_elementwise: bool) -> list[str]:
    def mixes(name: str) -> bool:
        return any(s.function in stacking.OF_WHOLE_TENSORS for s in library.load(name).statements)

    return [name for name in library.names() if mixes(name) != is_elementwise]


def write(folder: Path, body: str) -> str:
    path = folder / "program.txt"
    path.write_text(f"def train(w, g, m, v, lr):{body}  return update, m, v\n")
    return str(path)


@pytest.mark.parametrize("name", names(is_elementwise=True))
def test_every_row_moves_as_its_model_alone(name: str) -> None:
    rows.assert_rows_move_as_models_alone(
        partial(ProgramOptimizer, path=name), MEMBERS, torch.float64
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_numbers_beside_arrays(tmp_path: Path, dtype: torch.dtype) -> None:
    kind = partial(ProgramOptimizer, path=write(tmp_path, SCALARS))
    rows.assert_rows_move_as_models_alone(kind, MEMBERS, dtype)


@pytest.mark.parametrize("name", names(is_elementwise=False))
def test_what_mixes_weights_is_refused_by_its_statement(name: str) -> None:
    optimizer = ProgramOptimizer([torch.nn.Parameter(torch.zeros(1))], path=name)
    mixing = [s for s in optimizer.program.statements if s.function in stacking.OF_WHOLE_TENSORS]
    if not mixing:  # it does not matter, and is left out
        rule_for(optimizer, optimizer.param_groups[0])
        return
    with pytest.raises(NoStackedRule, match="is not elementwise") as caught:
        rule_for(optimizer, optimizer.param_groups[0])
    assert f"`{mixing[0].text()}`" in str(caught.value)
