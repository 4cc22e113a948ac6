"""Sequences by number, as the tensors that batches are made of; read when they are asked for, or kept in memory."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from os.path import isfile

import numpy as np
import torch
from torch import Tensor

from zoo.data.collisions.flow import backward_flow, flow_package, one_flow_thread
from zoo.data.collisions.frames import FRAMES, frame_paths, read_pictures
from zoo.data.collisions.released import CollisionIndex
from zoo.errors import DataError, VideoError


class CollisionStore:
    """The frames of a set's sequences and, if wanted, their flow.

    Training reads every sequence of the set three times an epoch, once for each property, and for hundreds of epochs.
    In memory a sequence takes 15 bytes a pixel of its square frames, and 16 more with flow; only those that were read
    take any.

    Args:
        index: which sequences there are.
        size: side of the frames, pixels.
        flow: whether flow is wanted.
        cached: whether what was read is kept.
        remedy: what to do about a broken sequence, a sentence.

    Attributes:
        broken: sequence to what is wrong with it, as far as `load` met any.

    Raises:
        ZooError: flow is wanted, and OpenCV is not installed.
    """

    def __init__(self, index: CollisionIndex, size: int, flow: bool, cached: bool, remedy: str) -> None:
        if flow:
            flow_package()  # before any work
        self.index, self.size, self.flow, self.cached, self.remedy = index, size, flow, cached, remedy
        self.broken: dict[int, str] = {}
        if cached:  # the system provides memory where it is written to
            self._there = np.zeros(len(index), bool)
            shape = (len(index), FRAMES - 1, 2, size, size)
            with torch.inference_mode(False):  # a test may have begun, and threads of their own fill it
                self._clips = torch.empty(len(index), 3, FRAMES, size, size, dtype=torch.uint8)
                self._flow = torch.empty(shape, dtype=torch.float16) if flow else None

    @staticmethod
    def bytes_of(count: int, size: int, flow: bool) -> int:
        """What so many sequences take in memory."""
        return count * size**2 * (3 * FRAMES + (2 * 2 * (FRAMES - 1) if flow else 0))

    def load(self, numbers: Iterable[int], workers: int = 1) -> None:
        """Read sequences into memory, where they are to be kept there; else only look whether their files are there.

        What is wrong with any is noted in ``broken``.
        """
        if not self.cached:
            for number in numbers:
                if absent := [path for path in frame_paths(self.index.folders[number]) if not isfile(path)]:
                    self.broken[number] = self._said(number, f"there is no file {absent[0]}.")
        elif lacking := [n for n in numbers if not self._there[n] and n not in self.broken]:
            with one_flow_thread() if self.flow else nullcontext(), ThreadPoolExecutor(max(workers, 1)) as pool:
                for number, problem in zip(lacking, pool.map(self._keep, lacking), strict=True):
                    if problem:
                        self.broken[number] = problem

    def take(self, numbers: np.ndarray) -> dict[str, Tensor]:
        """``clips`` uint8 ``[n, 3, 5, S, S]`` of n sequences and, where it is wanted, ``flow`` float32
        ``[n, 4, 2, S, S]``, a copy.

        Raises:
            DataError: one of them cannot be read; the message names it.
        """
        if self.cached:
            self.load(numbers.tolist())
            for number in numbers.tolist() if self.broken else ():
                if number in self.broken:
                    raise DataError(self.broken[number])
            places = torch.from_numpy(numbers)  # selected, not indexed by: that copies number by number
            clips = self._clips.index_select(0, places)
            flow = self._flow.index_select(0, places) if self.flow else None
        else:
            parts = [self.read(number) for number in numbers.tolist()]
            clips = torch.stack([clip for clip, _ in parts])
            flow = torch.stack([flow for _, flow in parts]) if self.flow else None
        return {"clips": clips} if flow is None else {"clips": clips, "flow": flow.float()}

    def read(self, number: int) -> tuple[Tensor, Tensor | None]:
        """A sequence from its files: clip uint8 ``[3, 5, S, S]``, flow float16 ``[4, 2, S, S]`` or None.

        Raises:
            DataError: a frame is missing, broken, or of another size than the first; the message names both.
        """
        try:
            frames = read_pictures(frame_paths(self.index.folders[number]), self.size)
        except VideoError as error:
            raise DataError(self._said(number, str(error))) from None
        return frames.transpose(0, 1).contiguous(), backward_flow(frames) if self.flow else None

    def _said(self, number: int, problem: str) -> str:
        return f"sequence {self.index.folders[number].name}: {problem} {self.remedy}"

    def _keep(self, number: int) -> str:
        """Read a sequence into memory; gives what is wrong with it."""
        try:
            clip, flow = self.read(number)
        except DataError as error:
            return str(error)
        self._clips[number] = clip
        if flow is not None:
            self._flow[number] = flow
        self._there[number] = True
        return ""
