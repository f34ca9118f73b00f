"""Reads a program from text: the paper's own form, and what people write who know Python.

Besides straight assignments of one function each: comments, docstrings, code fences, nested
expressions (taken apart into statements with temporaries `t1`, `t2`, ...), `x ** y`,
`update += wd`, `a = b`, other names for the inputs (by position: weights, gradient, one or two
buffers, learning rate), and a return of expressions. A buffer that is not returned stays zero, so
that it may not be assigned either.
The result always has the inputs w, g, m, v, lr and returns update, m, v.
"""

from __future__ import annotations

import ast
import difflib
import math
import textwrap
from collections.abc import Iterable

from experiments.search.language import (
    INPUTS,
    OUTPUTS,
    Argument,
    LanguageError,
    Program,
    Statement,
)
from experiments.search.operations import ALIASES, OPERATIONS

_INFIX: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "power",
}
_SIGNATURE = "def train(w, g, m, v, lr)"
_MEANT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("w", "weight", "weights", "param", "params"), ("w",)),
    **dict.fromkeys(("g", "grad", "grads", "gradient", "gradients"), ("g",)),
    **dict.fromkeys(("m", "v"), ("m", "v")),
    **dict.fromkeys(("lr", "learning_rate"), ("lr",)),
}
"""Names of inputs that say where they must stand."""


def read(text: str) -> Program:
    """The program in a text.

    Raises:
        LanguageError: with the line and what is wrong in it.
    """
    function = _find_function(_plain(text))
    try:
        return _Reader(function).read()
    except RecursionError as error:
        raise LanguageError("expressions are nested too deep; use more statements") from error


def _plain(text: str) -> str:
    """Without the fences of a code block and the indentation of all lines; lines keep numbers."""
    lines = ["" if line.lstrip().startswith("```") else line for line in text.split("\n")]
    return textwrap.dedent("\n".join(lines))


def _find_function(text: str) -> ast.FunctionDef:
    try:
        module = ast.parse(text)
    except (RecursionError, MemoryError) as error:
        raise LanguageError("expressions are nested too deep; use more statements") from error
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise LanguageError(f"line {line}: {getattr(error, 'msg', error)}") from error
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    others = [node for node in module.body if node not in functions and not _is_docstring(node)]
    if len(functions) != 1:
        raise LanguageError(f"{len(functions)} functions: write exactly one, `{_SIGNATURE}:`")
    if others:
        raise LanguageError(f"line {others[0].lineno}: only one function may stand in the text")
    return functions[0]


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


class _Reader:
    """Takes one function apart into statements."""

    def __init__(self, function: ast.FunctionDef) -> None:
        self.function = function
        self.statements: list[Statement] = []
        self.names = _rename(function)
        self.assigned = set(INPUTS)
        written = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        self.reserved = {*INPUTS, "update", *written, *self.names.values()}
        self.num_temporaries = 0

    def read(self) -> Program:
        *body, last = [n for n in self.function.body if not _is_docstring(n)] or [self.function]
        for node in body:
            self.assignment(node)
        if not isinstance(last, ast.Return) or last.value is None:
            raise self.error(last, "must end with `return update, m, v`")
        self.returned(last)
        return Program(tuple(self.statements))

    def error(self, node: ast.AST, message: str) -> LanguageError:
        return LanguageError(f"line {getattr(node, 'lineno', 1)}: {message}")

    def assignment(self, node: ast.stmt) -> None:
        """x = e, x += e, or a, b = e, f (all of the right side first)."""
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            value = ast.copy_location(
                ast.BinOp(self.loaded(node.target), node.op, node.value), node
            )
            self.assign(self.variable(node.target), value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            self.assign(self.variable(node.target), node.value)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            if isinstance(target, ast.Name):
                self.assign(self.variable(target), value)
                return
            self.assign_several(node, _elements(target), _elements(value))
        else:
            raise self.error(node, "only assignments such as `m = interp(g, m, 0.9)` and a return")

    def assign_several(
        self, node: ast.stmt, targets: list[ast.expr], values: list[ast.expr]
    ) -> None:
        if len(targets) != len(values) or not all(isinstance(t, ast.Name) for t in targets):
            raise self.error(node, "cannot assign this; write one assignment a line")
        self.set_together([(self.variable(t), v) for t, v in zip(targets, values, strict=True)])

    def set_together(self, pairs: list[tuple[str, ast.expr]]) -> None:
        """Assigns after every value has been computed; a later value may read an old target."""
        pairs = [p for p in pairs if not self.is_itself(*p)]
        if len(pairs) == 1:
            self.assign(*pairs[0])
            return
        if not pairs:
            return
        found = [self.fresh_copy(value) for _, value in pairs]
        for (target, _), value in zip(pairs, found, strict=True):
            self.emit(target, "copy", (value,))

    def is_itself(self, target: str, value: ast.expr) -> bool:
        return isinstance(value, ast.Name) and self.names.get(value.id, value.id) == target

    def fresh_copy(self, value: ast.expr) -> Argument:
        found = self.expression(value)
        if not isinstance(value, ast.Name):
            return found
        self.emit(name := self.temporary(), "copy", (found,))
        return name

    def returned(self, node: ast.Return) -> None:
        assert node.value is not None
        values = _elements(node.value)
        num_states = len(self.function.args.args) - 3
        if not 2 <= len(values) <= 1 + num_states:
            wanted = ", ".join(OUTPUTS[: 1 + num_states])
            raise self.error(node, f"returns {len(values)} values; write `return {wanted}`")
        if isinstance(values[0], ast.Name):
            self.expression(values[0])  # refuses an update that was never assigned
        for name in OUTPUTS[len(values) :]:
            if any(statement.target == name for statement in self.statements):
                raise self.error(node, f"buffer {name} is assigned and not returned; return it")
        self.set_together(list(zip(OUTPUTS[: len(values)], values, strict=True)))

    def variable(self, node: ast.expr) -> str:
        assert isinstance(node, ast.Name)
        return self.names.get(node.id, node.id)

    def loaded(self, node: ast.Name) -> ast.expr:
        return ast.copy_location(ast.Name(node.id, ast.Load()), node)

    def assign(self, target: str, value: ast.expr) -> None:
        name, arguments = self.call(value)
        self.emit(target, name, arguments)

    def emit(self, target: str, name: str, arguments: tuple[Argument, ...]) -> None:
        self.statements.append(Statement(target, name, arguments))
        self.assigned.add(target)

    def temporary(self) -> str:
        while True:
            self.num_temporaries += 1
            name = f"t{self.num_temporaries}"
            if name not in self.reserved:
                return name

    def expression(self, node: ast.expr) -> Argument:
        """The variable or constant that stands for an expression."""
        if isinstance(node, ast.Name):
            name = self.variable(node)
            if name not in self.assigned:
                near = difflib.get_close_matches(node.id, self.assigned, n=1)
                hint = f"; did you mean {near[0]}?" if near else "; write a variable or a number"
                raise self.error(node, f"{node.id} is read before it is assigned{hint}")
            return name
        constant = _constant(node)
        if constant is not None:
            if not math.isfinite(constant):
                raise self.error(node, "a constant must be a finite number")
            return constant
        name, arguments = self.call(node)
        self.emit(target := self.temporary(), name, arguments)
        return target

    def call(self, node: ast.expr) -> tuple[str, tuple[Argument, ...]]:
        """The function and the arguments of an expression; its parts become statements."""
        if isinstance(node, ast.BinOp) and type(node.op) in _INFIX:
            return _INFIX[type(node.op)], self.all_of((node.left, node.right))
        if isinstance(node, ast.UnaryOp) and _constant(node) is None:
            if isinstance(node.op, ast.USub):
                return "negative", self.all_of((node.operand,))
            if isinstance(node.op, ast.UAdd):
                return "copy", self.all_of((node.operand,))
        if isinstance(node, ast.Name) or _constant(node) is not None:
            return "copy", (self.expression(node),)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self.function_of(node.func), self.arguments_of(node)
        raise self.error(node, f"cannot read `{ast.unparse(node)}`; write a function or + - * /")

    def all_of(self, nodes: Iterable[ast.expr]) -> tuple[Argument, ...]:
        return tuple(self.expression(node) for node in nodes)

    def function_of(self, node: ast.Name) -> str:
        name = ALIASES.get(node.id, node.id)
        if name not in OPERATIONS or name == "copy":
            near = difflib.get_close_matches(node.id, [*OPERATIONS, *ALIASES], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self.error(node, f"unknown function {node.id}{hint}")
        return name

    def arguments_of(self, node: ast.Call) -> tuple[Argument, ...]:
        assert isinstance(node.func, ast.Name)
        arity = OPERATIONS[self.function_of(node.func)].arity
        if len(node.args) != arity:
            said = f"{node.func.id} takes {arity} arguments, not {len(node.args)}"
            raise self.error(node, said)
        return self.all_of(node.args)


def _elements(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple | ast.List) else [node]


def _constant(node: ast.expr) -> float | None:
    """A number, with its sign; None for everything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _constant(node.operand)
        if value is None:
            return None
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        try:
            return float(node.value)  # type: ignore[arg-type]
        except OverflowError:
            return math.inf
    return None


def _rename(function: ast.FunctionDef) -> dict[str, str]:
    """New names: inputs by their position, and locals that would collide with them."""
    arguments = function.args
    given = [argument.arg for argument in arguments.args]
    extra = (arguments.vararg, arguments.kwarg, *arguments.kwonlyargs, *arguments.posonlyargs)
    if len(given) not in (4, 5) or any(extra) or arguments.defaults or len(set(given)) < len(given):
        raise LanguageError(f"line {function.lineno}: the inputs must be `{_SIGNATURE}`")
    if function.decorator_list:
        raise LanguageError(f"line {function.lineno}: a program has no decorator")
    inputs = INPUTS if len(given) == 5 else ("w", "g", "m", "lr")
    names = dict(zip(given, inputs, strict=True))
    for name, place in names.items():
        if name in _MEANT and place not in _MEANT[name]:
            said = f"{name} stands in the place of {place}; write `{_SIGNATURE}`"
            raise LanguageError(f"line {function.lineno}: {said}")
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} | set(given)
    taken = used | set(INPUTS)
    for local in sorted(used & set(INPUTS) - set(given)):
        names[local] = next(n for i in range(1, 10**6) if (n := f"{local}_{i}") not in taken)
        taken.add(names[local])
    if "update" in given:
        raise LanguageError(f"line {function.lineno}: no input may be called update")
    return names
