"""Imports between the rooms go one way; heavy packages are not imported where start-up is quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A module may import modules of its own level and below. The longest matching prefix counts.
LEVELS = [
    {"lion", "experiments.programs"},
    {
        "experiments.config",
        "experiments.settings",
        "experiments.headline",
        "experiments.pages",
        "experiments.packages",
        "experiments.explain",
        "experiments.nearest",
        "experiments.compose",
        "experiments.checks",
        "experiments.identity",
        "experiments.launch",
        "experiments.left_alone",
        "experiments.inherited",
        "experiments.store",
        "experiments.files",
        "experiments.ledger",
        "experiments.header",
        "experiments.sources",
        "experiments.live_line",
        "experiments.table",
        "experiments.outcomes",
        "experiments.selection",
        "experiments.again",
        "experiments.arms",
        "experiments.build",
        "experiments.precision",
        "experiments.processor",
        "experiments.start_from",
        "experiments.ranges",
        "experiments.rounded",
        "experiments.limits",
        "experiments.limits_of_parts",
        "experiments.overrides",
        "experiments.trust",
    },
    {
        "experiments.schedule",
        "experiments.distributed",
        "experiments.schedule_free",
        "experiments.forgotten",
        "experiments.sharding",
        "experiments.sharded_state",
        "experiments.averaging",
        "experiments.checkpoint",
        "experiments.shard_files",
        "experiments.shard_storage",
        "experiments.saved_shards",
        "experiments.models",
        "experiments.data",
        "experiments.diffusion",
        "experiments.progress",
        "experiments.stopping",
        "experiments.jobs.flatness",
        "experiments.surroundings",
        "experiments.tracking",
        "experiments.telemetry",
    },
    {"experiments.evaluations"},
    {"experiments.tasks", "experiments.ended", "experiments.recorder"},
    {"experiments.global_batch", "experiments.warm_start", "experiments.prefetching"},
    {"experiments.parts"},
    {"experiments.saved_parts"},
    {"experiments.measuring"},
    {"experiments.accumulating"},
    {"experiments.runner"},
    {
        "experiments.sweep",
        "experiments.search",
        "experiments.jobs",
        "experiments.planner",
        "experiments.doctor",
    },
    {"experiments.compare"},
    {"run"},
    {"scripts"},
]
MAY_READ = {
    "experiments.analysis": {
        "experiments.store",
        "experiments.table",
        "experiments.headline",
        "experiments.rounded",
        "experiments.outcomes",
        "experiments.selection",
        "experiments.again",
        "experiments.arms",
        "experiments.pages",
        "experiments.packages",
        "experiments.files",
        "experiments.processor",
        "experiments.analysis",
    }
}
"""Rooms with a list of their own: analysis reads the ledger and nothing else of ours, but that
it names commands as they are called here (`pages.script`), what pip is told, and makes folders."""
ONLY_TO_EXPLAIN = {"experiments.programs": {"experiments.packages"}}
"""Upwards, within the hook that says what a Python lacks."""
QUICK = (
    "run",
    "experiments.config",
    "experiments.settings.image",
    "experiments.settings.diffusion",
    "experiments.pages",
    "experiments.packages",
    "experiments.compose",
    "experiments.checks",
    "experiments.identity",
    "experiments.limits",
    "experiments.limits_of_parts",
    "experiments.overrides",
    "experiments.trust",
)
STANDARD_LIBRARY_ONLY = (
    *QUICK,
    "experiments.launch",
    "experiments.inherited",
    "experiments.store",
    "experiments.files",
    "experiments.ledger",
    "experiments.header",
    "experiments.sources",
    "experiments.live_line",
    "experiments.start_from",
    "experiments.headline",
    "experiments.rounded",
    "experiments.data.locate",
    "experiments.data.image_paths",
    "experiments.data.shard_paths",
    "experiments.data.bundled_paths",
)
LION_MAY_USE = {"torch", "lion", "triton"}  # Triton comes with torch, and is optional


def modules() -> dict[str, Path]:
    files = [ROOT / "run.py"]
    for folder in ("lion", "experiments", "scripts"):
        files += sorted((ROOT / folder).rglob("*.py"))
    names = {}
    for path in files:
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(p for p in parts if p != "__init__")] = path
    return names


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Dotted names that a file imports; for `from a import b` both a and a.b."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return found


def level(module: str) -> int | None:
    for number, rooms in enumerate(LEVELS):
        if any(module == room or module.startswith(f"{room}.") for room in rooms):
            return number
    return None


MODULES = modules()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module: str) -> None:
    ours = {name for name in imports(MODULES[module]) if name in MODULES and "." in name}
    room = next((r for r in MAY_READ if f"{module}.".startswith(f"{r}.")), None)
    if room is not None:
        allowed = MAY_READ[room]
        wrong = {n for n in ours if not any(f"{n}.".startswith(f"{a}.") for a in allowed)}
    elif module in ("experiments", "experiments.analysis"):
        wrong = ours - {"experiments.programs"}
    else:
        mine = level(module)
        assert mine is not None, f"{module} is in no room: add it to LEVELS"
        wrong = {n for n in ours if (level(n) if level(n) is not None else mine + 1) > mine}
        wrong -= ONLY_TO_EXPLAIN.get(module, set())
        if module.startswith("experiments.compare"):
            wrong = {n for n in wrong if not n.startswith("experiments.analysis.statistics")}
        if module.startswith("scripts") or module.endswith(".__main__"):
            wrong = {n for n in wrong if not n.startswith("experiments.analysis")}
    assert not wrong, f"{module} may not import {sorted(wrong)}"


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m.split(".")[0] == "lion"))
def test_lion_stands_alone(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(MODULES[module])}
    foreign = roots - LION_MAY_USE - set(sys.stdlib_module_names)
    assert not foreign, f"{module} imports {sorted(foreign)}: lion/ may be published alone"


@pytest.mark.parametrize("module", [m for m in STANDARD_LIBRARY_ONLY if m in MODULES])
def test_quick_modules_import_the_standard_library_only(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(MODULES[module], top_level_only=True)}
    assert not roots - {"experiments"} - set(sys.stdlib_module_names)


def test_no_optimizer_is_named_outside_its_rooms() -> None:
    """The runner calls step() and nothing else; names live in lion/, conf/, commands and tests."""
    names = ("lion", "adamw", "sgd", "adam", "herolion", "hero_lion")
    for module, path in MODULES.items():
        if not module.startswith("experiments") or module.startswith("experiments.analysis"):
            continue
        if module.endswith(".__main__"):  # what a script does: see CONTRIBUTING
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value.lower() not in names, f"{module} tests for {node.value!r}"


def test_no_vague_file_names() -> None:
    vague = {"utils", "util", "helpers", "common", "misc"}
    assert not [p for p in MODULES.values() if p.stem in vague]


def test_help_and_cfg_need_no_heavy_package() -> None:
    heavy = "'torch', 'timm', 'torchvision', 'wandb', 'pandas', 'numpy', 'matplotlib'"
    program = (
        "import sys, runpy\n"
        "sys.argv = ['run.py', *sys.argv[1:]]\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print([m for m in ({heavy}) if m in sys.modules], file=sys.stderr)"
    )
    for flags in (["--help"], ["--cfg", "job"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *flags], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.strip().endswith("[]"), done.stderr
        assert len(done.stdout) > 500
