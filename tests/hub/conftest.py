"""A running hub, a network that is allowed, other processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import ForkServerContext

import pytest

from tests.hub_server import HubServer
from zoo.hub import download


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """An empty hub on the loopback."""
    with HubServer().running() as server:
        yield server


@pytest.fixture
def online(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The hub, with the network switched on, upstream files looked for there, and no long waits between attempts."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("ZOO_MIRROR", hub.url)
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setattr(download, "TIMEOUT", 1.0)
    return hub


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Makes processes that start quickly, because the one that they are forked from has loaded torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.hub.tiny"])
    return context


@pytest.fixture
def elsewhere(processes: ForkServerContext) -> Iterator[ProcessPoolExecutor]:
    """Runs every task in a process of its own, two at a time."""
    with ProcessPoolExecutor(2, mp_context=processes, max_tasks_per_child=1) as pool:
        yield pool
