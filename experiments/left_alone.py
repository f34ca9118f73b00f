"""A process whose run has lost another one: it knows that, and not why."""

from __future__ import annotations

from experiments.config import UserError

EXIT_CODE = 69
"""Of a process that was left alone: another one's tells more."""
_SAID = ("by peer", "Broken pipe")
LINE = "another process of this run has ended, and has said why if it could"


class LeftAlone(UserError):
    """Another process has ended, so that this one cannot go on."""


def understood(error: BaseException) -> BaseException:
    """The error itself; or what it means, where gloo says that a connection has ended."""
    is_gloo = isinstance(error, RuntimeError) and "gloo/transport" in str(error)
    if is_gloo and any(words in str(error) for words in _SAID):
        return LeftAlone(LINE)
    return error
