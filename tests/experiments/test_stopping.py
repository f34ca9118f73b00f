"""Signals and the clock become wishes, and nothing of it outlives the run."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments import stopping
from experiments.config import CheckpointConfig
from experiments.distributed import World
from experiments.stopping import SAVE, STOP, Stopper

pytestmark = pytest.mark.usefixtures("signals_as_in_a_terminal")

ALONE = World(0, 1, torch.device("cpu"))
NEVER = CheckpointConfig(every_seconds=None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Clock:
        now = 50.0

    monkeypatch.setattr(stopping.time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_the_wish_to_stop_with_the_shells_exit_code(number: signal.Signals) -> None:
    with Stopper.listening(NEVER, ALONE) as stopper:
        assert stopper.wish() == 0
        os.kill(os.getpid(), number)
        assert stopper.wish() == stopper.wish() == STOP
    assert stopper.exit_code == 128 + number


def test_handlers_are_given_back_even_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), Stopper.listening(NEVER, ALONE):
        assert signal.getsignal(signal.SIGINT) != before[0]
        raise ZeroDivisionError
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_who_listened_before_hears_of_the_signal_afterwards() -> None:
    """A sweep's worker, say: the run has saved, and the sweep must not begin the next one."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with Stopper.listening(NEVER, ALONE) as stopper:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopper.wish() == STOP and not heard
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_under_nohup_a_closed_terminal_is_no_reason_to_stop() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopper.listening(NEVER, ALONE) as stopper:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stopper.wish() == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_clock_asks_to_save_until_it_is_done(clock: Any) -> None:
    with Stopper.listening(CheckpointConfig(every_seconds=10.0), ALONE) as stopper:
        clock.now += 10.0
        assert stopper.wish() == 0
        clock.now += 0.1
        assert stopper.wish() == stopper.wish() == SAVE
        stopper.saved()
        assert stopper.wish() == 0
        clock.now += 11.0
        assert stopper.wish() == SAVE


def test_the_clock_of_another_process_is_not_asked(clock: Any) -> None:
    settings = CheckpointConfig(every_seconds=1.0)
    with Stopper.listening(settings, World(1, 1, torch.device("cpu"))) as stopper:
        clock.now += 100.0
        assert stopper.wish() == 0


def test_two_signals_at_once_are_one(clock: Any) -> None:
    with Stopper.listening(NEVER, ALONE) as stopper:
        os.kill(os.getpid(), signal.SIGINT)
        clock.now += 1.9
        os.kill(os.getpid(), signal.SIGINT)
        assert stopper.wish() == STOP


def test_a_second_ctrl_c_after_a_while_means_now(clock: Any) -> None:
    with pytest.raises(KeyboardInterrupt), Stopper.listening(NEVER, ALONE):
        os.kill(os.getpid(), signal.SIGINT)
        clock.now += 2.1
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_again_and_again_means_now_by_the_time_since_the_first(clock: Any) -> None:
    """Pressed each second or so, each would else be too soon after the one before."""
    with pytest.raises(KeyboardInterrupt), Stopper.listening(NEVER, ALONE):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            clock.now += 1.5


def test_no_wish_is_under_way_when_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one, which nobody reads: the processes may leave each other next."""
    waited: list[str] = []

    def begun(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(wait=lambda: waited.append("yes"))

    monkeypatch.setattr(torch.distributed, "all_reduce", begun)
    with Stopper.listening(NEVER, World(0, 2, torch.device("cpu"))) as stopper:
        stopper.wish()
        assert not waited
    assert waited == ["yes"]


def test_a_scheduler_may_ask_as_often_as_it_likes(clock: Any) -> None:
    with Stopper.listening(NEVER, ALONE) as stopper:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            clock.now += 60.0
        assert stopper.wish() == STOP


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []

    def work() -> None:
        with Stopper.listening(NEVER, ALONE) as stopper:
            seen.extend([signal.getsignal(signal.SIGINT), stopper.wish()])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, 0]
