"""A process whose run has lost another one: it knows that, and not why."""

from __future__ import annotations

import re

from experiments.config import UserError

EXIT_CODE = 69
"""Of a process that was left alone: another one's tells more."""
LINE = "another process of this run has ended, and has said why if it could"
NO_ANSWER = (
    "another process of this run has not answered for launch.timeout_minutes (30 unless set, on "
    "GPUs 10): it hangs, is stopped or is very slow; the same command goes on from the last "
    "checkpoint"
)
_GONE = (
    r"gloo/transport.*(by peer|Broken pipe)",
    r"ncclRemoteError|remote process exited|NCCL communicator was aborted",
)
_LATE = (
    r"gloo/transport.*Timed out waiting|Application timeout caused pair closure",
    r"collective operation timeout: WorkNCCL",
)
"""What gloo and NCCL say."""


class LeftAlone(UserError):
    """Another process has ended, so that this one cannot go on."""


class NoAnswer(UserError):
    """Another process does not answer; whether it is still there nobody knows."""


def understood(error: BaseException) -> BaseException:
    """The error itself; or what it means, where gloo or NCCL say that another process is gone."""
    text = str(error) if isinstance(error, RuntimeError) else ""
    if any(re.search(words, text, re.DOTALL) for words in _LATE):
        return NoAnswer(NO_ANSWER)
    if not any(re.search(words, text, re.DOTALL) for words in _GONE):
        return error
    # NCCL does not tell a process that has ended from a network that has failed.
    last = re.search(r"Last error:\s*(.+)", text)
    network = f", or the network has failed: {last[1].strip()[:200]}" if last else ""
    return LeftAlone(f"{LINE}{network}")
