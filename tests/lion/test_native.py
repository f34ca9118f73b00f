"""Building the kernels: once, safely, with one clear line where it cannot be."""

import ctypes
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from lion import Lion, native

ROOT = Path(__file__).resolve().parents[2]
needs_compiler = pytest.mark.skipif(not native.available(), reason="needs a C++ compiler")
TRIVIAL = 'extern "C" __attribute__((visibility("default"))) int answer() { return 42; }\n'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / "cache"


@pytest.fixture
def fresh(cache):
    """As in a process that has not looked for the kernels yet."""
    functions = (native.available, native.library, native.optional)
    for function in functions:
        function.cache_clear()
    yield cache
    for function in functions:
        function.cache_clear()


def step_once(**options):
    param = nn.Parameter(torch.zeros(3))
    param.grad = torch.ones(3)
    Lion([param], lr=0.5, **options).step()
    return param


def test_importing_builds_nothing_and_brings_no_optional_package(tmp_path):
    program = (
        "import sys, lion, lion.native as n; assert not n.is_loaded(); "
        "assert not {'triton', 'lion.triton_kernel'} & set(sys.modules)"
    )
    environment = os.environ | {"LION_CACHE_DIR": str(tmp_path / "cache"), "CXX": "/nonexistent"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=ROOT)
    assert not (tmp_path / "cache").exists()


@needs_compiler
def test_a_second_build_is_the_first_ones_product(cache, monkeypatch):
    path = native.build(TRIVIAL)
    assert path.parent == cache
    written = path.stat().st_mtime_ns
    monkeypatch.setenv("PATH", "")  # a library that was built serves without a compiler
    assert native.build(TRIVIAL) == path
    assert path.stat().st_mtime_ns == written


@needs_compiler
def test_processes_that_start_at_once_build_once(cache, tmp_path):
    counter = tmp_path / "compiler"
    compiler = os.environ.get("CXX", "c++")
    counter.write_text(f'#!/bin/sh\necho x >> {tmp_path}/calls\nsleep 0.3\nexec {compiler} "$@"\n')
    counter.chmod(0o755)
    program = (
        f"from lion import native; import ctypes\n"
        f"assert ctypes.CDLL(str(native.build({TRIVIAL!r}))).answer() == 42"
    )
    environment = os.environ | {"CXX": str(counter)}
    command = [sys.executable, "-c", program]
    processes = [subprocess.Popen(command, env=environment, cwd=ROOT) for _ in range(2)]
    assert [p.wait(120) for p in processes] == [0, 0]
    assert (tmp_path / "calls").read_text() == "x\n"
    assert not [p for p in cache.iterdir() if p.suffix not in (".so", ".lock")]


@needs_compiler
def test_a_damaged_library_is_built_again(fresh, monkeypatch, tmp_path):
    source = tmp_path / "small.cpp"
    names = ("lion_step", "lion_step_rows", "lion_table")
    source.write_text("".join(TRIVIAL.replace("answer", name) for name in names))
    monkeypatch.setattr(native, "SOURCE", source)
    path = native.build(source.read_text())
    path.write_bytes(path.read_bytes()[:100])
    assert native.library().lion_step
    assert path.stat().st_size > 100


def test_without_a_compiler_one_notice_and_the_loop(fresh, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.warns(RuntimeWarning, match="install g\\+\\+, or set CXX, or use fused=False"):
        assert step_once().eq(-0.5).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert step_once().eq(-0.5).all()
        step_once(fused=False)
    with pytest.raises(native.NativeError, match="no C\\+\\+ compiler found"):
        step_once(fused=True)


@needs_compiler
def test_a_team_that_was_kept_waiting_rests():
    """As long again with every stall in a row, and shorter with every call that went well."""
    library, total = native.library(), 1 << 22
    library.lion_team.argtypes = [ctypes.c_int64, ctypes.c_int]
    library.lion_took.argtypes = [ctypes.c_int64, ctypes.c_int, ctypes.c_double]

    def rests():
        number = 0
        while library.lion_team(total, 2) == 1:
            number += 1
        return number

    for _ in range(10):
        library.lion_took(total, 2, 1e-4)
    rests()  # from whatever was before
    assert [library.lion_team(1 << n, 8) for n in (0, 18, 20, 24)] == [1, 1, 4, 8]
    found = []
    for seconds in (1.0, 1.0, 1.0, 1e-4, 1e-4, 1.0):
        library.lion_took(total, 2, seconds)
        found.append(rests())
    assert found == [1, 2, 4, 0, 0, 2]
    library.lion_took(total, 1, 1.0)  # alone it waits for nobody
    assert rests() == 0
    for _ in range(10):
        library.lion_took(total, 2, 1e-4)


def missing(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "SOURCE", tmp_path / "fused_cpu.cpp")


def not_text(monkeypatch, tmp_path):
    missing(monkeypatch, tmp_path)
    (tmp_path / "fused_cpu.cpp").write_bytes(b"\xff\xfe")


def no_header(monkeypatch, tmp_path):
    missing(monkeypatch, tmp_path)
    (tmp_path / "fused_cpu.cpp").write_text('#include "native_rule.h"\n')


def not_ours(monkeypatch, tmp_path):
    missing(monkeypatch, tmp_path)
    (tmp_path / "fused_cpu.cpp").write_text(TRIVIAL)


def no_proc(monkeypatch, tmp_path):
    def unreadable(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(native, "_libraries", lambda: unreadable("/proc/self/maps"))


@pytest.mark.parametrize("damage", [missing, not_text, no_header, not_ours, no_proc])
def test_a_broken_installation_takes_the_loop_with_one_notice(damage, fresh, monkeypatch, tmp_path):
    damage(monkeypatch, tmp_path)
    with pytest.warns(RuntimeWarning, match="slower path: .*install lion-experiments anew, or"):
        assert step_once().eq(-0.5).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert step_once().eq(-0.5).all()
    with pytest.raises(native.NativeError, match="fused=False"):
        step_once(fused=True)


def test_a_compiler_that_fails_is_named_with_its_error(fresh, monkeypatch, tmp_path):
    broken = tmp_path / "broken-g++"
    broken.write_text("#!/bin/sh\necho 'source.cpp:1: error: no such thing' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(native.NativeError, match=r"broken-g\+\+ .*no such thing.* fused=False"):
        step_once(fused=True)
    assert not list(fresh.glob("*.so"))


@needs_compiler
def test_a_cache_that_may_not_be_looked_into_is_passed_over(tmp_path, monkeypatch):
    """HOME=/root and another user, as in many containers."""
    locked, exists = tmp_path / "locked", Path.exists

    def looks(path, **options):
        if locked in path.parents:
            raise PermissionError(13, "Permission denied")
        return exists(path, **options)

    locked.write_text("")
    monkeypatch.setattr(Path, "exists", looks)
    monkeypatch.setenv("LION_CACHE_DIR", str(locked / "cache"))
    monkeypatch.setattr(native.tempfile, "gettempdir", lambda: str(tmp_path))
    assert native.build(TRIVIAL).parent == tmp_path / f"lion-{os.getuid()}"


@needs_compiler
def test_the_cache_may_be_the_present_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LION_CACHE_DIR", ".")
    assert ctypes.CDLL(str(native.build(TRIVIAL))).answer() == 42


@pytest.mark.parametrize("folder", ["/home/me/.venv", "/home/me/my project/.venv", "/a b/c d"])
def test_torchs_openmp_is_found_below_any_folder(folder, monkeypatch):
    library = f"{folder}/torch/lib/libgomp-a34b3233.so.1"
    lines = [
        "7f00-7f01 r-xp 00000000 08:01 7                          /usr/lib/libc.so.6",
        "7f02-7f03 rw-p 00000000 00:00 0                          [heap]",
        f"7f04-7f05 r-xp 00001000 08:01 9                          {library}",
    ]
    monkeypatch.setattr(Path, "read_text", lambda path: "\n".join([*lines, ""]))
    assert native._libraries()[-1] == library


@needs_compiler
def test_where_the_cache_cannot_be_written_a_private_directory_serves(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")  # root may write anywhere but below a file
    monkeypatch.setenv("LION_CACHE_DIR", str(blocked / "cache"))
    monkeypatch.setattr(native.tempfile, "gettempdir", lambda: str(tmp_path))
    path = native.build(TRIVIAL)
    assert path.parent == tmp_path / f"lion-{os.getuid()}"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.chmod(0o777)  # somebody else could have put a library there
    with pytest.raises(native.NativeError, match="set LION_CACHE_DIR"):
        native.build(TRIVIAL)
