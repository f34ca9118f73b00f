"""The laboratory: how the optimizers of this suite are trained, measured and compared."""

from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path

from experiments.programs import explain_missing_packages as _explain_missing_packages

_RULE = "lion.rule"  # where the optimizers' formulas are


def _foreign_lion() -> str:
    """Where `import lion` leads, if not to the optimizers of this suite; else nothing."""
    package, _, module = _RULE.partition(".")
    spec = _find_spec(package)  # does not import it
    origin = _Path(spec.origin) if spec and spec.origin else None
    if origin is None:
        return "nothing"
    text = origin.read_text("utf-8", "replace")
    ours = "arXiv:2302.06675" in text and origin.with_name(f"{module}.py").exists()
    return "" if ours else str(origin)


_explain_missing_packages()
if _found := _foreign_lion():
    raise ImportError(
        f"`import lion` finds {_found} and not this suite's: PyPI has another package of that "
        "name; run `pip uninstall lion`, and then install lion-experiments anew"
    )
