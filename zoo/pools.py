"""A pool of processes that leave Ctrl-C to the one they work for, and end with it however it ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
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
    others = set(active_children())
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(prepare,))
    try:
        yield pool
    except BrokenProcessPool:
        raise ZooError(died) from None
    finally:
        _shut_down(pool, others)


def _shut_down(pool: ProcessPoolExecutor, others: set[BaseProcess]) -> None:
    """Wait for what the processes are at. A second Ctrl-C ends them, and not the waiting, which they would outlive."""
    if threading.current_thread() is not threading.main_thread():
        pool.shutdown(cancel_futures=True)
        return

    def end(*_: Any) -> None:
        for process in set(active_children()) - others:
            process.terminate()

    usual = signal.signal(signal.SIGINT, end)
    try:
        pool.shutdown(cancel_futures=True)
    finally:
        signal.signal(signal.SIGINT, usual)


def _begin(prepare: Callable[[], Any] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One whose parent was killed would wait for work for ever.
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()
    if prepare is not None:
        prepare()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
