"""Training on the sandbox's how-to films from memory: films that are decoded once, and clips cut out of them."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from zoo.data.narrated_loader import NarratedClips, NarratedRecord
from zoo.data.narration import Narration
from zoo.data.sandbox.film_datamodules import SandboxHowTo100MFilms
from zoo.data.sandbox.film_plots import FPS
from zoo.data.video import VideoReader
from zoo.files import write_whole


class RememberedRecord(NarratedRecord):
    """A film whose captions are read once."""

    @cached_property
    def _told(self) -> Narration:
        return super().narration()

    def narration(self) -> Narration:
        return self._told


class RememberedFilm:
    """A film out of an array, used as a `VideoReader` is."""

    steady_rate = float(FPS)

    def __init__(self, pictures: np.ndarray) -> None:
        self.pictures, self.frames = pictures, len(pictures)

    def __enter__(self) -> RememberedFilm:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def read(self, numbers: np.ndarray, *, short_side: int, size: None) -> np.ndarray:
        return self.pictures[numbers]


class RememberedNarration(NarratedClips):
    """`NarratedClips` out of decoded films; the same draws give the same samples."""

    def __init__(self, *arguments: Any, films: list[np.ndarray]) -> None:
        super().__init__(*arguments)
        self.films = films

    def _open(self, index: int) -> RememberedFilm:
        return RememberedFilm(self.films[index])


class RememberedFilms(SandboxHowTo100MFilms):
    """The sandbox's films, trained on from memory and tested from the files."""

    def __init__(self, *arguments: Any, memory: Path, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.memory = memory

    def _training_data(self) -> RememberedNarration:
        counts = json.loads((self.memory / "films.json").read_text())
        pictures = np.load(self.memory / "films.npy")  # in memory: a map of the file would be read from disk
        films = np.split(pictures, np.cumsum(counts)[:-1])
        records = [RememberedRecord(record.path, record.name, record.captions) for record in self.records("train")]
        return RememberedNarration(records, self.spec, self.seed, self.captions, films=films)


def remember_films(data: SandboxHowTo100MFilms, folder: Path, workers: int) -> None:
    """Decode every training film once, at its own size, into one array on disk."""
    side = data.spec.crop
    if data.spec.short_side != (side, side):
        raise zoo.ZooError("training from memory wants one short side, that of the films; see RememberedFilm.")
    if (folder / "films.json").exists():
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        films = list(pool.map(_decoded, [record.path for record in data.records("train")], chunksize=4))
    np.save(folder / "films.npy", np.concatenate(films))
    write_whole(folder / "films.json", json.dumps([len(film) for film in films]).encode())


def _decoded(path: Path) -> np.ndarray:
    with VideoReader(path, threads=1) as video:
        return video.read(np.arange(video.frames))
