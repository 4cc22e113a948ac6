"""The actionness of many videos in files, and the clips that score highest and lowest of them all (figure 6).

    video_id,start,end,score     scores.csv: a line for each row of each video, seconds; a video's lines stand together
    scores.npz                   video_id [V], rows [V], duration [V], times [N, 2], score [N]: the rows of all, joined

Both are written whole or not at all and read without trust in what they hold; a csv is read video by video, whatever
its size.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import IO

import numpy as np

from zoo.data.howto100m_lists import read_taxonomy
from zoo.errors import DataError, ZooError, require_top
from zoo.files import require_modest, writing
from zoo.methods.actionness_curves import Curve

_COLUMNS = ("video_id", "start", "end", "score")
_ARRAYS = {"video_id": 1, "rows": 1, "duration": 1, "times": 2, "score": 1}  # and their dimensions


@dataclass(frozen=True)
class Clip:
    """A row of a video: its id, from when to when in seconds, and its score."""

    video: str
    start: float
    end: float
    score: float


def write_scores(path: str | os.PathLike, curves: Iterable[tuple[str, Curve]]) -> int:
    """Write the curves of videos, by id; returns how many. The file's name says which kind it is: .csv or .npz.

    A csv is written as the curves come, so that they need not be in memory together.

    Raises:
        ZooError: the name ends otherwise; there is no curve, an id comes twice or is empty, a score is no number; the
            file cannot be written.
    """
    path = Path(path)
    require_scores(path)
    known: set[str] = set()

    def checked() -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
        for name, curve in curves:
            times, scores = np.asarray(curve.times, np.float64), np.asarray(curve.scores, np.float32)
            if not name or name in known:
                raise ZooError(f"{path} is not written: {f'video {name!r} comes twice' if name else 'an id is empty'}.")
            if not len(scores) or times.shape != (len(scores), 2):
                raise ZooError(f"{path} is not written: {name} has {len(scores)} scores and times {list(times.shape)}.")
            if not np.isfinite(scores).all():
                raise ZooError(
                    f"{path} is not written: row {int(np.isfinite(scores).argmin())} of {name} has no finite score."
                )
            known.add(name)
            yield name, times, scores, float(curve.duration)

    with _whole(path) as file:
        (_write_csv if path.suffix.lower() == ".csv" else _write_npz)(file, checked())
        if not known:
            raise ZooError(f"{path} is not written: there are no scores to write.")
    return len(known)


def require_scores(path: str | os.PathLike) -> None:
    """Refuse, by a `ZooError`, a name that says of a file of scores neither csv nor npz."""
    if Path(path).suffix.lower() not in (".csv", ".npz"):
        raise ZooError(f"{os.fspath(path)}: scores of videos are kept as .csv or .npz; give the file such a name.")


def iterate_scores(path: str | os.PathLike) -> Iterator[tuple[str, Curve]]:
    """Each video of a file and its curve, without proposals; of a csv the duration is where its last row ends.

    Raises:
        DataError: there is no such file, or it holds something else; names the line or the video.
    """
    path = Path(path)
    require_scores(path)
    try:
        if path.suffix.lower() == ".npz":
            yield from _read_npz(path)
        else:
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                yield from _read_csv(path, file)
    except FileNotFoundError:
        raise DataError(f"there is no file of scores {path}; `zoo actionness scores` writes one.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}); `zoo actionness scores` writes such files.") from None


def read_scores(path: str | os.PathLike) -> dict[str, Curve]:
    """All of `iterate_scores` at once."""
    return dict(iterate_scores(path))


def rank(
    curves: Iterable[tuple[str, Curve]],
    top: int = 10,
    *,
    categories: Mapping[str, str] | None = None,
    largest: int = 4,
    per_video: int = 1,
    apart: float = 10.0,
) -> dict[str, list[Clip]]:
    """The clips that score highest and lowest over many videos, by heading, each list from its end inwards.

    Figure 6 of the paper has the highest of each of the four largest categories, and the lowest of all. That a video
    gives one clip by default is ours: rows beside each other score alike.

    Args:
        curves: by video; held in memory one at a time.
        top: clips of each heading.
        categories: by video; without them there is one heading for the highest.
        largest: categories that are shown, those with the most videos among ``curves``.
        per_video: clips that a video gives at most, to each of both ends.
        apart: seconds that lie between the middles of a video's clips at least.

    Raises:
        ZooError: there are no clips, or none has a category; ``top`` is below 1.
    """
    require_top(top)
    counts: dict[str, int] = {}
    highest: dict[str, list[Clip]] = {}
    lowest: list[Clip] = []
    for name, curve in curves:
        times, scores = np.asarray(curve.times, np.float64), np.asarray(curve.scores, np.float64)
        heading = "highest" if categories is None else categories.get(name)
        if heading is not None:
            counts[heading] = counts.get(heading, 0) + 1
            best = highest.setdefault(heading, [])
            best += _ends(name, times, scores, 1, per_video, apart)
            best.sort(key=lambda clip: -clip.score)
            del best[top:]
        lowest += _ends(name, times, scores, -1, per_video, apart)
        lowest.sort(key=lambda clip: clip.score)
        del lowest[top:]
    if not lowest:
        raise ZooError("there are no clips to rank: no video has scores.")
    if categories is not None:
        if not counts:
            raise ZooError("none of the videos with scores has a category; are these the categories of other videos?")
        shown = sorted(counts, key=lambda heading: -counts[heading])[:largest]
        highest = {f"highest: {heading}": highest[heading] for heading in shown}
    return {**highest, "lowest": lowest}


def read_categories(path: str | os.PathLike) -> dict[str, str]:
    """The principal category of each video of HowTo100M_v1.csv, or of a csv with the same columns.

    Raises:
        DataError: there is no such file, or no categories are in it.
    """
    table = read_taxonomy(Path(path))
    if not table.categories:
        raise DataError(f"{path} lacks the columns category_1 and category_2; HowTo100M_v1.csv has them.")
    pairs = zip(table.ids.tolist(), table.category.tolist(), strict=True)
    return {name.decode(): table.categories[number][0] for name, number in pairs}


def _ends(name: str, times: np.ndarray, scores: np.ndarray, sign: int, count: int, apart: float) -> list[Clip]:
    """The rows of a video that score highest (``sign`` 1) or lowest (-1), none within ``apart`` seconds of another."""
    left, middles, found = sign * scores, times.mean(1), []
    for _ in range(min(count, len(scores))):
        row = int(left.argmax())
        if left[row] == -np.inf:
            break
        found.append(Clip(name, *times[row].tolist(), float(scores[row])))
        left[np.abs(middles - middles[row]) < apart] = -np.inf
        left[row] = -np.inf
    return found


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file in the making under another name, and under its own when the block is left without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _write_csv(file: IO[bytes], curves: Iterable[tuple[str, np.ndarray, np.ndarray, float]]) -> None:
    file.write((",".join(_COLUMNS) + "\n").encode())
    for name, times, scores, _ in curves:
        cell = io.StringIO()
        csv.writer(cell, lineterminator="").writerow([name])
        line = cell.getvalue().replace("%", "%%") + ",%.12g,%.12g,%.9g\n"  # nine digits tell single floats apart
        text = line * len(scores) % tuple(np.column_stack([times, scores]).ravel().tolist())
        file.write(text.encode(errors="surrogateescape"))  # a file's name need not be UTF-8


def _write_npz(file: IO[bytes], curves: Iterable[tuple[str, np.ndarray, np.ndarray, float]]) -> None:
    if not (held := list(curves)):
        return
    names, times, scores, durations = zip(*held, strict=True)
    np.savez(
        file,
        video_id=np.array(names, dtype=np.str_),
        rows=np.array([len(one) for one in scores], dtype=np.int64),
        duration=np.array(durations, dtype=np.float64),
        times=np.concatenate(times),
        score=np.concatenate(scores),
    )


def _read_csv(path: Path, file: IO[str]) -> Iterator[tuple[str, Curve]]:
    lines = csv.reader(file)
    header = next(lines, [])
    if lacking := [name for name in _COLUMNS if name not in header]:
        raise DataError(f"{path} lacks the columns {', '.join(lacking)}; it should begin with {','.join(_COLUMNS)}.")
    at = [header.index(name) for name in _COLUMNS]
    pick, done = itemgetter(*at[1:]), set()
    try:
        for name, group in groupby(filter(None, lines), key=itemgetter(at[0])):
            if name in done:
                raise DataError(f"{path}: the lines of video {name} do not stand together; sort the file by video_id.")
            done.add(name)
            table = _numbers(path, name, [pick(line) for line in group])
            yield name, _curve(path, name, table[:, :2], table[:, 2], float(table[:, 1].max()))
    except IndexError:
        raise DataError(
            f"{path}, line {lines.line_num}: some columns lack; a line is an id and three numbers."
        ) from None
    if not done:
        raise DataError(f"{path} has no line of a score.")


def _numbers(path: Path, name: str, rows: list[tuple[str, ...]]) -> np.ndarray:
    """Cells of text ``[T, 3]`` as doubles."""
    try:
        return np.fromiter(map(float, chain.from_iterable(rows)), np.float64, 3 * len(rows)).reshape(-1, 3)
    except ValueError:  # say which, at leisure
        for row, cells in enumerate(rows):
            try:
                list(map(float, cells))
            except ValueError as error:
                raise DataError(f"{path}: row {row} of video {name}: {error}; three numbers are wanted.") from None
        raise


def _read_npz(path: Path) -> Iterator[tuple[str, Curve]]:
    try:
        with np.load(path, allow_pickle=False) as held:
            require_modest(held.zip)
            arrays = {name: held[name] for name in _ARRAYS}
    except (KeyError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path} is no npz file of {', '.join(_ARRAYS)} ({error}).") from None
    names, rows, durations, times, scores = arrays.values()
    shapes = {name: array.shape for name, array in arrays.items()}
    if (
        any(array.ndim != _ARRAYS[name] for name, array in arrays.items())
        or names.dtype.kind != "U"
        or rows.dtype.kind not in "iu"
        or any(array.dtype.kind != "f" for array in (durations, times, scores))
        or not len(names) == len(rows) == len(durations) > 0
        or times.shape != (len(scores), 2)
        or not 1 <= rows.min() <= rows.max() <= len(scores)  # so that their sum is one
        or rows.sum() != len(scores)
    ):
        raise DataError(f"{path}: its arrays do not fit together ({shapes}); write it again.")
    ends = np.cumsum(rows)
    if len(set(names.tolist())) < len(names):
        raise DataError(f"{path}: a video comes twice; write it again.")
    for name, start, end, duration in zip(names.tolist(), ends - rows, ends, durations.tolist(), strict=True):
        yield name, _curve(path, name, times[start:end], scores[start:end], duration)


def _curve(path: Path, name: str, times: np.ndarray, scores: np.ndarray, duration: float) -> Curve:
    if not (np.isfinite(times).all() and np.isfinite(scores).all() and np.isfinite(duration)):
        raise DataError(f"{path}: video {name} has a time or a score that is not finite; write the file again.")
    if (times[:, 1] < times[:, 0]).any() or (np.diff(times[:, 0]) < 0).any():
        raise DataError(f"{path}: the rows of video {name} are not in the order of time; sort them by start.")
    return Curve(name, np.array(times, np.float64), np.array(scores, np.float32), duration)
