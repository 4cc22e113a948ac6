"""Two processes that compute one result, as under DDP."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def in_two(folder: Path, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``function(rank, *arguments)`` gives in each of two processes that are a group.

    They are forked from a server that has imported what takes seconds, once for all tests of a process.
    """
    mp.get_context("forkserver").set_forkserver_preload(["torch", "pytorch_lightning", "zoo.models", __name__])
    given = pickle.dumps(arguments)  # as bytes: a tensor of many would go as an open file each
    mp.start_processes(_run, (folder, function, given), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def _run(rank: int, folder: Path, function: Callable[..., Any], given: bytes) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(function(rank, *pickle.loads(given)), folder / f"{rank}.pt")
    dist.destroy_process_group()
