"""Which process of which machine holds something, told so that others see when it is gone."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path
from typing import Any


def holder() -> dict[str, Any]:
    """This process, so that others can tell whether it is gone."""
    pid = os.getpid()
    born = process_start(pid)
    return {"machine": machine(), "host": socket.gethostname(), "pid": pid, "born": born}


@cache
def machine() -> str:
    """Names what process numbers are unique in: a boot of a machine, and a pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: then only time tells
        return f"{socket.gethostname()} {os.getpid()}"


def process_start(pid: int) -> str | None:
    """When a process was started, in ticks since boot; None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def is_stopped(pid: int) -> bool:
    """Whether a process of this machine does nothing until it is told to go on (SIGSTOP)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return False
