"""Interrupt signals, deferred while code runs that must not stop midway, but for parts of it that may."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyro_hvae.runtime.launched_processes import launched_count, launched_rank

# A closed terminal sends SIGHUP; Windows has none.
DEFERRED = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class GivenUp(BaseException):
    """A signal has ended a block of `Signals.give_up`. No handler of errors in between may take it for one."""


class Signals(list[int]):
    """Signals received so far. may_give_up: whether the next one raises `GivenUp` where it arrives."""

    may_give_up = False

    @contextmanager
    def give_up(self) -> Iterator[None]:
        """Lets the first signal end the block by `GivenUp`, for work that takes long and may be lost, such as a compilation."""
        self.may_give_up = True
        try:
            yield
        finally:
            self.may_give_up = False


@contextmanager
def defer_signals() -> Iterator[Signals]:
    """Yields a list that receives the first SIGINT, SIGTERM or SIGHUP of the block; a second signal has its usual effect.

    The first one is acknowledged on stderr at once, for the block may look at the list much later.

    A signal that the process ignores, as SIGHUP under nohup, stays ignored. Outside the main thread, where Python handles no
    signals, the list stays empty.

    Under torchrun, which hands a signal on that a cluster may have sent to all processes already, later ones are not heard
    either: the launcher kills after half a minute what does not end. Only the first process acknowledges, and not SIGTERM,
    which torchrun reports.
    """
    received = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    handlers = {s: signal.getsignal(s) for s in DEFERRED}
    handlers = {s: handler for s, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for s, handler in handlers.items():
            signal.signal(s, handler)

    def record(signum: int, frame: Any) -> None:
        received.append(signum)
        if launched_count() == 1:
            restore()
        name = signal.Signals(signum).name
        when = "now" if received.may_give_up else "after this step"
        again = " Send it again to stop at once." if launched_count() == 1 else ""
        with contextlib.suppress(OSError):  # `print` may be what the signal has interrupted
            if launched_count() == 1 or (launched_rank() == 0 and signum == signal.SIGINT and len(received) == 1):
                os.write(2, f"\n{name} received: stopping {when}.{again}\n".encode())
        if received.may_give_up:
            raise GivenUp

    for s in handlers:
        signal.signal(s, record)
    try:
        yield received
    finally:
        restore()
