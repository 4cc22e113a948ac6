"""`zoo extract`: the features of every video of a folder, a file each, by as many processes and machines as there are.

    OUT/ID.npy              float16 or float32 [T, D], rows in time order (`zoo.methods.extracting`)
    OUT/extraction.json     whose features these are: model, weights, rate, precision
    OUT/features.index      which videos are there, and their rows (`zoo.data.feature_index`)
    OUT/unreadable.json     {ID: what is wrong with it}

A file is there when it is whole. What a killed run leaves is taken up by the next one, and any number of runs may share
a folder: a video is claimed by who computes it (`zoo.claims`). Lightning finds the processes that torchrun or SLURM
started, or starts some; each begins with its share of the videos and then helps the others, whatever their lengths.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor

from zoo.claims import Claim
from zoo.data.clip_workers import Clips, Unreadable, decode_all
from zoo.data.folder import find_videos
from zoo.errors import DataError, ZooError
from zoo.feature_folder import FeatureFolder, Precision
from zoo.files import require_writable
from zoo.methods.base import ZooModule
from zoo.methods.extracting import Network, joined
from zoo.reproduce.provenance import cores
from zoo.shares import Share

_UNWRITTEN = 8  # videos whose features may wait to be written
_LONGEST_ID = 200  # bytes; file systems take 255, and a file that is being written has a longer name
_PATIENCE = timedelta(days=7)  # of a process that is done, with those at their last videos


@dataclass
class ExtractionReport:
    """What became of the videos.

    Attributes:
        folder: where the features lie.
        made: videos whose features were computed, by all processes.
        kept: videos whose features were there.
        busy: videos that another run was at.
        unreadable: a video's id to what is wrong with it.
        rows: that were computed.
        is_first: whether this is the process that should speak for all of them.
    """

    folder: Path
    made: int = 0
    kept: int = 0
    busy: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    is_first: bool = True


def extract_collection(
    model: ZooModule,
    videos: str | os.PathLike,
    out: str | os.PathLike,
    *,
    rate: float = 1.0,
    precision: Precision = "float16",
    batch_size: int = 8,
    workers: int | None = None,
    accelerator: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ExtractionReport:
    """Extract the features of every video below a folder into ``out``, but for those that are there.

    Args:
        model: with `ZooModule.features`.
        videos: the folder; a video's id is its file's name without suffix, wherever below the folder it lies.
        out: the folder for the features.
        rate: rows a second.
        precision: of the files.
        batch_size: clips that the network takes at a time.
        workers: processes that decode, for each one with a network; None shares the cores out, and with 0 a thread
            decodes.
        accelerator: Lightning's.
        devices: processes with a network on each machine; None for those that torchrun or SLURM started, or one.
        num_nodes: machines; None as above.
        progress: of the first process: called with how many videos are done, and of how many.

    Returns:
        What became of the videos, the same in every process.

    Raises:
        DataError: no videos, or two of the same id.
        ZooError: ``out`` has features of another model or other settings; the model has no features, or some that are
            no numbers or too large for the precision; processes were started in another number than asked for.
        NoPlaceError: ``out`` can't be written to, or the disk is full.
    """
    if not 0 < rate < math.inf or batch_size < 1 or (workers or 0) < 0:
        raise ZooError(
            f"rate must be above 0, batch_size at least 1 and workers at least 0, got {rate}, {batch_size}, {workers}."
        )
    found = videos_by_id(Path(videos))
    require_writable(Path(out))
    fabric = start(accelerator, devices, num_nodes)
    if workers is None:
        workers = max(1, cores() // _neighbours(fabric) - 1)  # the network's own thread wants one
    was_on, was_training = model.device, model.training
    model.eval().to(fabric.device)
    try:
        folder = FeatureFolder.of(Path(out), model, rate, precision, _width(model))
        with folder.claims, torch.no_grad():
            told = progress if fabric.global_rank == 0 else None
            share = Share(folder, found, fabric.global_rank, fabric.world_size, told)
            _extract(model, share, rate, batch_size, workers)
    finally:
        model.train(was_training).to(was_on)
    return _together(share, fabric)


def videos_by_id(folder: Path) -> dict[str, Path]:
    """The videos below a folder by their files' names without suffix, sorted; hidden ones are left out.

    Raises:
        DataError: no such folder, no video, or two of the same id.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; give the one that the videos lie in.")
    found: dict[str, Path] = {}
    for path in find_videos(folder):
        if path.name.startswith("."):  # macOS leaves these in archives
            continue
        if len(os.fsencode(path.stem)) > _LONGEST_ID:
            raise DataError(
                f"{path}: a name of more than {_LONGEST_ID} bytes leaves no room for its features'; rename it."
            )
        if path.stem in found:
            raise DataError(
                f"{found[path.stem]} and {path} would both have their features in {path.stem}.npy: a video's id is its "
                "file's name without suffix. Rename one of them, or extract their folders apart."
            )
        found[path.stem] = path
    if not found:
        raise DataError(f"{folder}: no video in this folder but hidden ones.")
    return found


def start(accelerator: str, devices: int | None, num_nodes: int | None) -> Fabric:
    """The processes that torchrun or SLURM started or, where nothing did, as many as asked for.

    Raises:
        ZooError: the launcher started another number, or the accelerator is not there.
    """
    local, nodes = _started()
    local, nodes = devices or local, num_nodes or nodes
    strategy: Any = "auto"
    if local * nodes > 1:
        # They exchange names and counts alone, when they are done: that needs no accelerator, and patience.
        strategy = DDPStrategy(process_group_backend="gloo", timeout=_PATIENCE)
    try:
        fabric = Fabric(accelerator=accelerator, devices=local, num_nodes=nodes, strategy=strategy)
        fabric.launch()
    except (ValueError, RuntimeError) as error:
        raise ZooError(f"{local} x {nodes} processes on {accelerator!r} cannot be had: {error}") from error
    return fabric


def _extract(model: ZooModule, share: Share, rate: float, batch_size: int, workers: int) -> None:
    """Decode, run the network, write: each ahead of the next."""
    network, rows = Network(model), defaultdict(list)
    unwritten: list[Future] = []
    with (
        ThreadPoolExecutor(1) as writer,
        closing(decode_all(share.claims(), model.spec, rate, batch_size, workers)) as events,
    ):
        for claim, event in events:
            if isinstance(event, Clips):
                rows[claim.name].append(network.rows(event.clips, event.repeats))
                continue
            done = rows.pop(claim.name, [])
            if isinstance(event, Unreadable):
                share.give_up(claim, event.message)
            else:
                unwritten.append(writer.submit(_write, model, share, claim, done))
            while unwritten and (unwritten[0].done() or len(unwritten) > _UNWRITTEN):
                unwritten.pop(0).result()
            share.tell()
        for one in unwritten:
            one.result()
        share.tell()


def _write(model: ZooModule, share: Share, claim: Claim, rows: list[Tensor]) -> None:
    share.write(claim, joined(model, share.videos[claim.name], rows))


def _width(model: ZooModule) -> int:
    """D, by a black clip; refuses a model without features before any video is opened."""
    spec = model.spec
    if not spec.pixels or spec.features is not None:
        raise model.featureless("it looks at no pixels")
    clips = torch.zeros(1, 3, spec.frames, spec.test_crop, spec.test_crop, dtype=torch.uint8)
    with torch.no_grad():
        return Network(model).rows(clips, torch.ones(1, dtype=torch.int64)).shape[1]


def _together(share: Share, fabric: Fabric) -> ExtractionReport:
    """What all processes did; the first one writes down what there is."""
    parts: list[tuple[list[str], dict[str, int], dict[str, str]]] = [(share.made, share.rows, share.unreadable)]
    if fabric.world_size > 1:
        mine, parts = parts[0], [None] * fabric.world_size
        torch.distributed.all_gather_object(parts, mine)
    rows = {name: count for _, known, _ in parts for name, count in known.items()}
    # One that one process gave up and another run has made since is there.
    unreadable = {name: message for *_, part in parts for name, message in part.items() if name not in rows}
    made = [name for names, *_ in parts for name in names]
    answer: list[Any] = [None]
    if fabric.global_rank == 0:
        there = share.folder.finish(rows, unreadable, set(share.videos))
        answer = [len(share.videos.keys() - there - unreadable.keys())]
    busy = fabric.broadcast(answer[0]) if fabric.world_size > 1 else answer[0]
    return ExtractionReport(
        share.folder.path,
        made=len(made),
        kept=len(share.videos) - len(made) - len(unreadable) - busy,
        busy=busy,
        unreadable=dict(sorted(unreadable.items())),
        rows=sum(rows[name] for name in made),
        is_first=fabric.global_rank == 0,
    )


def _started() -> tuple[int, int]:
    """Processes on each machine and machines, as torchrun or SLURM started them; one on one where they did not."""
    told = os.environ
    if TorchElasticEnvironment.detect():
        local = int(told["LOCAL_WORLD_SIZE"])
        return local, int(told["WORLD_SIZE"]) // local
    if SLURMEnvironment.detect():
        nodes = int(told.get("SLURM_NNODES", 1))
        return int(told["SLURM_NTASKS"]) // nodes, nodes
    return 1, 1


def _neighbours(fabric: Fabric) -> int:
    """Processes with a network on this machine."""
    return getattr(fabric.strategy, "num_processes", 1) or 1
