"""What a result is signed with: date, versions, hardware, commit, and hashes of what has no name."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from zoo._version import __version__

_PACKAGES = {"lightning": "pytorch-lightning", "torchmetrics": "torchmetrics", "av": "av"}


def about() -> dict[str, Any]:
    """The date in UTC, the versions that matter, the processor and the commit of the zoo."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "versions": {
            "zoo": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,  # tells the build too
            **{name: version(package) for name, package in _PACKAGES.items()},
        },
        "hardware": f"{_processor()}, {cores()} cores, {platform.system()} {platform.machine()}",
        "commit": _commit(),
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device: torch.device) -> str:
    """A graphics processor by its product name, anything else by its kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def sha256(lines: Iterable[str]) -> str:
    """Of a list of texts in their order."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with ``+`` where it has changed since; None elsewhere."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", here, *arguments], check=True, capture_output=True, text=True, timeout=10)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
