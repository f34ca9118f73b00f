"""Builds `fused_cpu.cpp` with the machine's C++ compiler on first use, caches it, and loads it.

The library is made for this processor and this torch, and kept in `$LION_CACHE_DIR`, else in
`$XDG_CACHE_HOME/lion`, else in `~/.cache/lion`; where that cannot be written, in a temporary
directory of the user's own. Linux only; elsewhere, Lion takes its other paths.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("fused_cpu.cpp")
COMPILERS = ("g++", "c++", "clang++")
BUILD_SECONDS = 120

# No contraction: the kernels round where torch's do. Trapping and errno would forbid SIMD.
FLAGS = [
    "-std=c++20",
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-fvisibility=hidden",
    "-shared",
    "-fPIC",
]


class NativeError(RuntimeError):
    """The native kernels cannot be had on this machine; the message says why and what to do."""


@functools.cache
def available() -> bool:
    """Whether the native kernels work here; builds them the first time, and warns once if not."""
    if sys.platform != "linux":
        return False
    try:
        library()
    except NativeError as error:
        warnings.warn(f"Lion takes its slower path: {error}", RuntimeWarning, stacklevel=2)
        return False
    return True


def is_loaded() -> bool:
    """Whether `library` has been had: never builds anything."""
    return library.cache_info().currsize > 0


@functools.cache
def optional() -> ctypes.CDLL | None:
    """The kernels, or None without a word: for who can do without them (a GPU's host code)."""
    if sys.platform != "linux":
        return None
    try:
        return library()
    except NativeError:
        return None


@functools.cache
def library() -> ctypes.CDLL:
    """Load the kernels, built before if need be.

    Raises:
        NativeError: There is no compiler, or it failed, or its product does not load.
    """
    try:
        return _loaded(source_text())
    except (OSError, UnicodeDecodeError, AttributeError) as error:
        # A file that an installation lacks, a /proc that cannot be read, a missing symbol.
        raise NativeError(
            f"the kernels cannot be had here ({error}): install lion-experiments anew, or use "
            "fused=False"
        ) from None


def _loaded(source: str) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(str(build(source)))
    except OSError:  # damaged, or of a system that was upgraded since
        loaded = ctypes.CDLL(str(build(source, anew=True)))
    address, number = ctypes.c_void_p, ctypes.c_float
    step, rows, table = loaded.lion_step, loaded.lion_step_rows, loaded.lion_table
    step.argtypes = [ctypes.c_int64, *[address] * 3, *[ctypes.c_int] * 2, *[number] * 6]
    rows.argtypes = [address, ctypes.c_int64, address, ctypes.c_int]
    table.argtypes = [ctypes.c_int64, address, *[ctypes.c_int] * 2, address]
    step.restype = rows.restype = table.restype = ctypes.c_int64
    return loaded


def source_text() -> str:
    """The program as one text, with the files beside it that it includes in their place."""
    return re.sub(
        r'(?m)^#include "(\w+\.h)"$',
        lambda found: SOURCE.with_name(found[1]).read_text(),
        SOURCE.read_text(),
    )


def build(source: str, *, anew: bool = False) -> Path:
    """Compile C++ `source` unless a cached library of it exists; safe in concurrent processes.

    Args:
        source: The whole program; it may include torch's headers.
        anew: Whether to replace a cached library.

    Returns:
        The library's path.

    Raises:
        NativeError: There is no compiler, or it failed.
    """
    name = f"lion-{_fingerprint(source)}.so"
    for directory in _cache_directories():
        path = directory / name
        try:
            if path.exists() and not anew:
                return path
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _lock(directory / f"{name}.lock"):
                # Another process may have built it while this one waited.
                if anew or not path.exists():
                    _compile(source, path)
            return path
        except OSError:  # read-only, full, not ours to look into: try the next
            continue
    raise NativeError("no directory to build in: set LION_CACHE_DIR to one that can be written")


def _compile(source: str, path: Path) -> None:
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise NativeError("no C++ compiler found: install g++, or set CXX, or use fused=False")
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        file, product = Path(work, "source.cpp"), Path(work, "library.so")
        file.write_text(source)
        command = [*compiler.split(), *_flags(), str(file), "-o", str(product), *_libraries()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
            failure = done.stderr.strip() or f"exit code {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            done, failure = None, str(error)
        if done is None or done.returncode or not product.exists():
            lines = [line for line in failure.splitlines() if "error" in line] or [failure]
            raise NativeError(
                f"{compiler} did not build its kernels ({lines[0][:300]}): "
                "set CXX to a g++ >= 10, or use fused=False"
            )
        os.replace(product, path)  # atomic: nobody ever loads half a library


def _flags() -> list[str]:
    abi = int(torch.compiled_with_cxx11_abi())
    headers = Path(torch.__file__).parent / "include"
    return [*FLAGS, f"-D_GLIBCXX_USE_CXX11_ABI={abi}", "-isystem", str(headers)]


def _libraries() -> list[str]:
    # The OpenMP that torch has loaded, by its path: a second one would bring a second thread pool.
    maps = Path("/proc/self/maps").read_text()
    openmp = re.search(r"(?m)^[^/\n]*(/.*/lib(?:gomp|iomp5)[^/\s]*\.so[^/\s]*)", maps)
    return [
        f"-L{Path(torch.__file__).parent / 'lib'}",
        "-lc10",
        "-ltorch_cpu",
        *([openmp[1]] if openmp else []),
    ]


def _fingerprint(source: str) -> str:
    # Of what the product depends on. Not of the compiler found: without one, a library that was
    # built before still serves; but setting CXX builds anew.
    cpuinfo = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"^(?:flags|Features)\s*:.*$", cpuinfo, re.MULTILINE)
    parts = [
        source,
        torch.__version__,
        str(torch.version.git_version),
        platform.machine(),
        cpu.group() if cpu else "",
        os.environ.get("CXX", ""),
        *FLAGS,
        *_libraries(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _cache_directories() -> Iterator[Path]:
    chosen = os.environ.get("LION_CACHE_DIR")
    if chosen:
        yield Path(chosen).absolute()  # a name without a slash is not looked for here
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        yield Path(base, "lion")
    private = Path(tempfile.gettempdir(), f"lion-{os.getuid()}")
    with contextlib.suppress(OSError):
        private.mkdir(mode=0o700, exist_ok=True)
        status = private.lstat()  # others may write to /tmp: load nothing of theirs
        if status.st_uid == os.getuid() and not status.st_mode & 0o022 and private.is_dir():
            yield private


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    import fcntl  # not on Windows, where this is never reached

    with path.open("w") as file:
        with contextlib.suppress(OSError):  # some network file systems cannot lock: build twice
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
