"""A pool of processes that leave Ctrl-C to the one they work for, and end with it however it ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any

from zoo.errors import ZooError


@contextmanager
def process_pool(workers: int, died: str, prepare: Callable[[], Any] | None = None) -> Iterator[ProcessPoolExecutor]:
    """A pool; what nobody has begun with at its end is not done.

    Args:
        workers: processes. They are spawned: a fork would break the threads that the caller may hold.
        died: what to say if one of them dies.
        prepare: called in each of them first.

    Raises:
        ZooError: a process died.
    """
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(prepare,))
    try:
        yield pool
    except BrokenProcessPool:
        raise ZooError(died) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(prepare: Callable[[], Any] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One whose parent was killed would wait for work for ever.
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()
    if prepare is not None:
        prepare()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
