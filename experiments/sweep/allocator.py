"""What the C library's allocator does with memory that is freed: it keeps it for the next step.

A step frees all that it has taken. glibc hands the larger pieces back to the kernel, which must
fill new pages with zeros in the next step.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
KEPT_BYTES = 512 << 20
"""Free memory at the end of the heap beyond which it is given back."""
LARGEST_KEPT_BYTES = 32 << 20
"""Larger pieces are mapped on their own, as always; glibc takes no more than this."""
_OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Makes this process keep what it frees, up to `KEPT_BYTES`; no number changes by it.

    Returns:
        Whether it does: not on other systems, nor where the environment tunes the allocator.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _OF_THE_USER):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    kept = mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    return bool(kept and mallopt(_MMAP_THRESHOLD, LARGEST_KEPT_BYTES))
