"""Texts become programs and texts again; what is no program is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from programs import programs

from experiments.search import library
from experiments.search.execution import numpy_step
from experiments.search.language import LanguageError, Program, Statement, parse

HEAD = "def train(w, g, m, v, lr):\n  "
END = "\n  return update, m, v\n"


@settings(max_examples=150, deadline=None)
@given(programs())
def test_text_and_program_round_trip(program: Program) -> None:
    again = parse(program.text())
    assert again == program and hash(again) == hash(program) and again.id == program.id
    assert again.text() == program.text()


@pytest.mark.parametrize("name", library.names())
def test_the_library_is_written_as_programs_are_printed(name: str) -> None:
    lines = [line for line in library.text(name).splitlines() if not line.startswith("#")]
    assert "\n".join(lines) + "\n" == library.load(name).text()


def test_a_program_prints_in_the_form_of_the_paper() -> None:
    program = Program(
        (
            Statement("g", "clip_by_global_norm", ("g", "lr")),
            Statement("m", "interpolate", ("g", "v", 0.9)),
            Statement("update", "div", ("m", -2.0)),
        )
    )
    assert program.text() == (
        f"{HEAD}g = clip(g, lr)\n  m = interp(g, v, 0.9)\n  update = m / -2.0{END}"
    )


def test_ids_tell_programs_apart() -> None:
    assert len({library.load(name).id for name in library.names()}) == len(library.names())


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "update = lr * sign(interp(g, m, 0.9))" + END,
        "# comment\n" + HEAD + '"what it does"\n  update = interpolate(g, m, 0.9)  # c'
        "\n  update = sign(update)\n  update *= lr" + END,
        "def train(weight, gradient, momentum, lr):\n"
        "  update = lr * sign(interp(gradient, momentum, 0.9))\n  return update, momentum",
        "def train(w, g, v, m, lr):\n  x = interp(g, v, 0.9)\n  return lr * sign(x), v, m",
        "def train(a, b, c, d, e):\n  w = interp(b, c, 0.9)\n  return (e * sign(w), c, d)",
        HEAD + "x: float = interp(g, m, 0.9)\n  update, y = lr * sign(x), 3" + END,
        "```python\n    def train(w, g, m, v, lr):\n      x = interp(g, m, 0.9)\n"
        "      return sign(x) * lr, m, v\n```",
        HEAD + "update = lr * sign((1 - 0.9) * g + 0.9 * m)\n  return update, m",
    ],
)
def test_foreign_texts_are_read(text: str) -> None:
    """All of these sign the same average; they differ in how they are written."""
    from experiments.search import liveness, probes, types

    program = parse(text)
    types.check(program)
    assert set(program.text().splitlines()[0:1]) == {HEAD.strip()}
    wanted = parse(HEAD + "c = interp(g, m, 0.9)\n  s = sign(c)\n  update = lr * s" + END)
    streams = [probes.stream(p, probes.make(7, 64, 3)) for p in (program, wanted)]
    np.testing.assert_array_equal(*streams)
    assert liveness.analyse(program).read == liveness.analyse(wanted).read


def test_temporaries_keep_away_from_the_names_of_the_text() -> None:
    body = "t1 = g * g\n  x = (g + m) * 2.0\n  update = t1 + x * w_1\n"
    nested = parse(HEAD + "w_1 = w\n  " + body + END)
    plain = parse(
        HEAD + "a = g * g\n  b = g + m\n  c = b * 2.0\n  d = c * w\n  update = a + d" + END
    )
    inputs = [np.full(2, x) for x in (1.0, 2.0, 3.0, 4.0)]
    assert numpy_step(nested)(*inputs, 0.1)[0][0] == numpy_step(plain)(*inputs, 0.1)[0][0] == 14.0


def test_assigning_several_reads_all_of_the_right_side_first() -> None:
    program = parse(HEAD + "m, v = v, m\n  update = g" + END)
    inputs = [np.full(2, x) for x in (1.0, 2.0, 3.0, 4.0)]
    update, m, v = numpy_step(program)(*inputs, 0.1)
    assert (update[0], m[0], v[0]) == (2.0, 4.0, 3.0)
    swapped = parse("def train(w, g, m, v, lr):\n  return g, v, m\n")
    update, m, v = numpy_step(swapped)(*inputs, 0.1)
    assert (update[0], m[0], v[0]) == (2.0, 4.0, 3.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 functions"),
        ("x = ", "line 1: invalid syntax"),
        ("\0", "null bytes"),
        ("x = 1\n" + HEAD + "update = g" + END, "line 1: only one function"),
        (HEAD[:-2] + "  return update, m, v", "line 2: update is read before it is assigned"),
        (HEAD + "m = g" + END, "line 3: update is read before it is assigned"),
        (HEAD + "update = g", "line 2: must end with"),
        (HEAD + "update = g\n  return update", "line 3: returns 1 values"),
        (HEAD + "update = foo(g)" + END, "line 2: unknown function foo"),
        (HEAD + "update = interpolat(g, m, 0.1)" + END, "did you mean interpolate?"),
        (HEAD + "update = sign(g, m)" + END, "sign takes 1 arguments, not 2"),
        (HEAD + "update = g * λ" + END, "λ is read before it is assigned; write a variable or"),
        (HEAD + "update = grad * lr" + END, "grad is read before it is assigned"),
        (HEAD + "update = g if lr else m" + END, "cannot read `g if lr else m`"),
        (HEAD + "for i in g:\n    update = i" + END, "line 2: only assignments"),
        (HEAD + "update = g * 1e999" + END, "a constant must be a finite number"),
        (HEAD + "update = g @ w" + END, "cannot read `g @ w`"),
        (HEAD + "update = sign(x=g)" + END, "cannot read `sign(x=g)`"),
        (HEAD + "update[0] = g" + END, "cannot assign this"),
        (HEAD + "update = g" + " + g" * 3000 + END, "nest"),
        (HEAD + "v = g\n  update = v\n  return update, m", "buffer v is assigned and not returned"),
        ("def train(g, w, m, v, lr):\n  return g, m, v", "g stands in the place of w"),
        ("def train(w, g, m, v):\n  return g, m", "v stands in the place of lr"),
        ("def train(w, g):\n  return g, g, g", "line 1: the inputs must be"),
        ("def train(w, g, m, v, lr, *x):\n  return g, m, v", "line 1: the inputs must be"),
        ("def train(w, update, m, v, lr):\n  return m, m, v", "no input may be called update"),
    ],
)
def test_what_is_no_program_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(LanguageError) as caught:
        parse(text)
    assert said in str(caught.value) and "\n" not in str(caught.value)
