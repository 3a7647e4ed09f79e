"""Interrupt signals, deferred while code runs that must not stop midway."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def defer_signals() -> Iterator[list[int]]:
    """Yields a list that receives the first SIGINT or SIGTERM of the block; a second signal has its usual effect.

    The first one is acknowledged on stderr at once, for the block may look at the list much later.

    Outside the main thread, where Python handles no signals, the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for s, handler in handlers.items():
            signal.signal(s, handler)

    def record(signum: int, frame: Any) -> None:
        received.append(signum)
        restore()
        name = signal.Signals(signum).name
        with contextlib.suppress(OSError):  # `print` may be what the signal has interrupted
            os.write(2, f"\n{name} received: stopping after this step. Send it again to stop at once.\n".encode())

    for s in handlers:
        signal.signal(s, record)
    try:
        yield received
    finally:
        restore()
