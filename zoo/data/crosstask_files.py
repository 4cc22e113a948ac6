"""The files of CrossTask's release, read line by line, and the splits that are drawn from them.

tasks_primary.txt  tasks_related.txt    blocks of id, title, url, number of steps and their names, joined by commas
videos.csv  videos_val.csv              task_id,video_id,url
annotations/TASK_VIDEO.csv              step,start,end: the step's number from 1, and seconds
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zoo.data.intervals import Interval, interval, seconds, slug
from zoo.data.listing import plain_name, read_lines
from zoo.errors import DataError

#: A task and one of its videos. A video may occur under several tasks.
Pair = tuple[str, str]

#: What papers call the primary tasks, by id: "Make Bread and Butter Pickles" is pickle_cucumber there.
COLUMNS = {
    "105222": "make_kimchi_rice",
    "105253": "pickle_cucumber",
    "109972": "make_banana_ice_cream",
    "113766": "grill_steak",
    "16815": "jack_up_car",
    "23521": "make_jello_shots",
    "40567": "change_tire",
    "44047": "make_lemonade",
    "44789": "add_oil_to_car",
    "53193": "make_latte",
    "59684": "build_shelves",
    "71781": "make_taco_salad",
    "76400": "make_french_toast",
    "77721": "make_irish_coffee",
    "87706": "make_strawberry_cake",
    "91515": "make_pancakes",
    "94276": "make_meringue",
    "95603": "make_fish_curry",
}
_AGAIN = "Unpack crosstask_release.zip again."
_BLOCK = 5  # lines of a task that are not blank


@dataclass(frozen=True)
class Task:
    """A task: its id, a key to speak of it by, its title and its steps in order."""

    id: str
    key: str
    title: str
    steps: tuple[str, ...]


def read_tasks(path: Path, taken: Iterable[str] = ()) -> dict[str, Task]:
    """The tasks of a list by their ids; none has a key that is ``taken``.

    Raises:
        DataError: there is no such list, or a block of it is none of a task; names the line.
    """
    lines, tasks = read_lines(path), {}
    for first in range(0, len(lines), _BLOCK):
        block = lines[first : first + _BLOCK]
        number, (name, *rest) = block[0][0], [text for _, text in block]
        where = f"{path}, line {number}"
        if len(rest) < _BLOCK - 1:
            raise DataError(f"{where}: task {name!r} has {len(rest) + 1} lines where {_BLOCK} belong. {_AGAIN}")
        title, _, count, joined = rest
        steps = tuple(step.strip() for step in joined.split(","))
        if not count.isdecimal() or int(count) != len(steps) or not all(steps):
            raise DataError(
                f"{path}, line {block[3][0]}: task {name!r} says that it has {count[:20]!r} steps, and names "
                f"{len([step for step in steps if step])}: {joined[:80]!r}. {_AGAIN}"
            )
        plain_name(name, where)
        if name in tasks:
            raise DataError(f"{where}: task {name!r} is listed twice. {_AGAIN}")
        tasks[name] = Task(name, _key(name, title, {*taken, *(task.key for task in tasks.values())}), title, steps)
    return tasks


def _key(name: str, title: str, taken: set[str]) -> str:
    """What papers call a task; of another one that whose words are all in its title, else the title's own words."""
    words = _words(slug(title))
    named = [key for key in COLUMNS.values() if _words(key) <= words]
    wanted = (COLUMNS.get(name), named[0] if len(named) == 1 else None, slug(title))
    return next((key for key in wanted if key and key not in taken), f"{slug(title)}_{slug(name)}")


def _words(key: str) -> set[str]:
    return {word.removesuffix("s") for word in key.split("_")}


def read_pairs(path: Path) -> tuple[list[Pair], int]:
    """The tasks and videos that a list names, each once, and how many of its lines repeat another.

    Raises:
        DataError: there is no such list, or a line of it has other columns; names the line.
    """
    lines, pairs = read_lines(path), {}
    for number, text in lines:
        where, parts = f"{path}, line {number}", [part.strip() for part in text.split(",")]
        if len(parts) != 3:
            raise DataError(f"{where}: {text[:80]!r} has {len(parts)} columns, not task id, video id and url. {_AGAIN}")
        pairs[plain_name(parts[0], where), plain_name(parts[1], where)] = None
    return list(pairs), len(lines) - len(pairs)


def read_intervals(path: Path, steps: int) -> tuple[Interval, ...]:
    """What a file of annotations or constraints says of a task with so many steps, in its own order.

    Raises:
        DataError: there is no such file, or a line of it is no interval of a step; names the line.
    """
    found = []
    for number, text in read_lines(path):
        parts = [part.strip() for part in text.split(",")]
        try:
            if len(parts) != 3:
                raise ValueError(f"{text[:80]!r} has {len(parts)} columns, not step, start and end")
            if not re.fullmatch(r"\d{1,4}", parts[0], re.ASCII):
                raise ValueError(f"{parts[0][:20]!r} is no number of a step")
            found.append(interval(int(parts[0]) - 1, seconds(parts[1]), seconds(parts[2]), steps))
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}. {_AGAIN}") from None
    return tuple(found)


def annotated_pairs(folder: Path, tasks: Iterable[str]) -> tuple[list[Pair], int]:
    """Of which videos of the tasks there are annotations, by their files' names, sorted; and how many are of others.

    Raises:
        DataError: there is no such folder.
    """
    try:
        stems = [name.removesuffix(".csv") for name in os.listdir(folder) if name.endswith(".csv")]
    except OSError as error:
        raise DataError(f"{folder}: no annotations here ({error.strerror}). {_AGAIN}") from None
    known, pairs = set(tasks), []
    for stem in stems:
        # The longest task that fits: a video's id may begin with the sign that joins it to its task's.
        cuts = (place for place in range(len(stem), 0, -1) if stem[place : place + 1] == "_")
        place = next((place for place in cuts if stem[:place] in known), None)
        if place is not None and stem[place + 1 :]:
            pairs.append((stem[:place], stem[place + 1 :]))
    return sorted(pairs), len(stems) - len(pairs)


def draw_test(pairs: Iterable[Pair], count: int, seed: int) -> set[Pair]:
    """So many of the pairs at random, all pairs of a video together: none is tested that is trained on elsewhere."""
    videos: dict[str, list[Pair]] = {}
    for pair in pairs:
        videos.setdefault(pair[1], []).append(pair)
    drawn: set[Pair] = set()
    for video in sorted(videos, key=lambda video: _lot(seed, video)):
        if len(drawn) + len(videos[video]) <= count:
            drawn.update(videos[video])
    return drawn


def draw_training(pairs: Iterable[Pair], count: int, seed: int) -> set[Pair]:
    """So many videos of each task at random, or all where there are no more."""
    tasks: dict[str, list[Pair]] = {}
    for pair in pairs:
        tasks.setdefault(pair[0], []).append(pair)
    return {pair for of in tasks.values() for pair in sorted(of, key=lambda pair: _lot(seed, *pair))[:count]}


def _lot(seed: int, *names: str) -> str:
    """Orders at random, the same wherever and by whatever version it is drawn."""
    return hashlib.sha256(" ".join((str(seed), *names)).encode()).hexdigest()
