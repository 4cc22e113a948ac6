"""What many tests share: a small rendered data set in the Kinetics layout, and no network beyond this machine."""

from __future__ import annotations

import os
from pathlib import Path

# Before anything imports the hub client: no test may wait for a network that is not there.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import pytest
import torch

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(scope="session")
def kinetics_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 training and 9 validation videos (an odd number, for the tests with two processes)."""
    from zoo.data.sandbox import render_kinetics

    return render_kinetics(tmp_path_factory.mktemp("kinetics"), train=32, val=9)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def one_thread():
    """For small tensors: on a busy machine threads would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
