"""Making things in a thread while others are being used: decoding ahead of the network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Generator[T], depth: int = 2) -> Iterator[T]:
    """The items of a generator, up to ``depth`` of them made before they are asked for, by a thread of their own.

    What the generator raises is raised here, after the items before it. One that is not read to its end is closed in
    its thread, which has ended when ``close()`` of this iterator returns.
    """
    made: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(*what: object) -> bool:
        while not stopped.is_set():
            try:
                made.put(what, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(True, item):
                    return
            put(False, None)
        except BaseException as error:  # whatever it is, it belongs to whoever reads
            put(False, error)
        finally:
            items.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            is_item, item = made.get()
            if is_item:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stopped.set()
        thread.join()
