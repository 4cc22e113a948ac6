"""Who is at what, where several processes and machines share a folder: a claim is a lock on a file of that name.

Locks end with the process that holds them, however it ends. What turned out to be impossible is noted for as long as
the runs last that share the folder, so that it is not tried by each of them; a later run tries it again.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from zoo.files import write_whole, writing


class Claims:
    """The claims in a folder, whose files lie in ``folder/.claims``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / ".claims"
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            # By the clock of the disk, which all machines see alike.
            mark = self.folder / f".{os.getpid()}-{secrets.token_hex(4)}"
            mark.touch()
            self._began = mark.stat().st_mtime_ns
            mark.unlink()

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

    def clear(self) -> None:
        """Remove what is left of runs that are over, and all of it unless another run is at something."""
        is_shared = False
        for path in self.folder.glob("*.lock"):
            claim = self.take(path.stem)
            if claim is None:
                is_shared = True
            else:
                claim.release()
        if not is_shared:
            for path in self.folder.glob("*.failed"):
                path.unlink(missing_ok=True)
            with suppress(OSError):  # another run has just begun
                self.folder.rmdir()

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
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()
