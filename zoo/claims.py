"""Who is at what, where several processes and machines share a folder: a claim is a lock on a file of that name.

Locks end with the process that holds them, however it ends. What turned out to be impossible is noted for as long as
the runs last that share the folder, so that it is not tried by each of them; a later run tries it again.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from zoo.files import write_whole, writing

_PRESENT = ".present"


class Claims:
    """The claims in a folder, whose files lie in ``folder/.claims``.

    A context manager, at the end of which the process no longer counts among those that share the folder. Who comes and
    who clears does it under a lock of the folder: else one could take away what another has just begun with.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / ".claims"
        self._presence = FileLock(self.folder / f"{os.getpid()}-{secrets.token_hex(4)}{_PRESENT}", thread_local=False)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._presence.acquire()
            # By the clock of the disk, which all machines see alike.
            self._began = Path(self._presence.lock_file).stat().st_mtime_ns

    def take(self, name: str) -> Claim | None:
        """Claim a name; None where somebody else has it."""
        lock = FileLock(self.folder / f"{name}.lock", timeout=0, thread_local=False)
        with writing(self.folder / name):
            try:
                lock.acquire()
            except Timeout:
                return None
        return Claim(name, self, lock)

    def failed(self, name: str) -> str | None:
        """What is wrong with a name, if that was found out since this run began."""
        path = self._note(name)
        try:
            return path.read_text(encoding="utf-8") if path.stat().st_mtime_ns >= self._began else None
        except OSError:
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        _release(self._presence)

    def clear(self) -> None:
        """Remove what is left of runs that are over, unless somebody still shares the folder."""
        for path in self.folder.glob(f"*{_PRESENT}"):
            lock = FileLock(path, timeout=0)
            try:
                lock.acquire()
            except Timeout:
                return
            _release(lock)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _note(self, name: str) -> Path:
        return self.folder / f"{name}.failed"


class Claim:
    """A name that this process has claimed."""

    def __init__(self, name: str, claims: Claims, lock: FileLock) -> None:
        self.name, self._claims, self._lock = name, claims, lock

    def fail(self, message: str) -> None:
        """Release the name as one that cannot be done."""
        write_whole(self._claims._note(self.name), message.encode(errors="replace"))
        self.release()

    def release(self) -> None:
        """Let others have it."""
        _release(self._lock)


def _release(lock: FileLock) -> None:
    if lock.is_locked:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
