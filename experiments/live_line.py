"""One line on the terminal that is rewritten; plain lines where there is no terminal."""

from __future__ import annotations

import os
import sys
import time

from experiments.files import say


class LiveLine:
    """Shows how far a run is. What cannot be shown is not shown; the run goes on."""

    PLAIN_SECONDS = 30.0

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._is_terminal = wanted and _is_terminal()
        self._shown_at = time.monotonic()
        self._is_open = False

    def show(self, text: str) -> None:
        """Replaces the live line; without a terminal, says it now and then."""
        pause = 0.0 if self._is_terminal else self.PLAIN_SECONDS
        if not self.wanted or time.monotonic() - self._shown_at < pause:
            return
        self._shown_at = time.monotonic()
        self._is_open = self._is_terminal
        say(f"\r\x1b[2K{text[: _room()]}" if self._is_terminal else f"{text}\n", sys.stderr)

    def print(self, line: str, always: bool = False) -> None:
        """Writes a line that stays; `always`: though no progress is wanted."""
        if self.wanted or always:
            self.close()
            say(f"{line}\n", sys.stderr)

    def close(self) -> None:
        """Clears the live line."""
        if self._is_open:
            say("\r\x1b[2K", sys.stderr)
            self._is_open = False


def _is_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False


def _room() -> int | None:
    """Letters that a line of the terminal takes: only one that is not broken can be rewritten."""
    try:
        return max(os.get_terminal_size(sys.stderr.fileno()).columns - 1, 0) or None
    except (OSError, ValueError, AttributeError):  # it does not say
        return None


def duration(seconds: float) -> str:
    """Like a clock: 0:59, 1:01:01."""
    whole = int(min(seconds, 1e7))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
