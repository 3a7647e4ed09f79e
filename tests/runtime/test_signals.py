"""Signals are deferred to the end of a block."""

import os
import signal
import threading

import pytest

from pyro_hvae.runtime.signals import defer_signals


def test_the_first_signal_is_recorded_and_the_second_has_its_usual_effect():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), defer_signals() as received:
        os.kill(os.getpid(), signal.SIGINT)
        assert received == [signal.SIGINT]
        os.kill(os.getpid(), signal.SIGINT)
    assert received == [signal.SIGINT] and signal.getsignal(signal.SIGINT) is before


def test_a_closed_terminal_is_deferred_and_what_is_ignored_stays_so():
    with defer_signals() as received:
        os.kill(os.getpid(), signal.SIGHUP)
    assert received == [signal.SIGHUP]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with defer_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_defer_nothing():
    seen = []

    def work():
        with defer_signals() as received:
            seen.append((list(received), signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [([], before)]


def test_the_first_signal_is_acknowledged_at_once(capfd):
    with defer_signals() as received:
        os.kill(os.getpid(), signal.SIGINT)
        while not received:
            pass
        assert "SIGINT received: stopping after this step" in capfd.readouterr().err
