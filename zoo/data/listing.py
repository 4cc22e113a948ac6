"""Official lists: their lines, and the places that these may name. A list comes from anybody too."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from zoo.errors import DataError


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(line number from 1, text) of every line that is not blank.

    Raises:
        DataError: there is no such list, or it is not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no list {path}; unpack the data set's lists there, or correct the root.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list ({error}); fetch it again.") from None
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def read_names(path: Path) -> list[str]:
    """The names that a list gives, one a line, each a single folder's; see `plain_name`.

    Raises:
        DataError: a name that cannot be one, or one twice.
    """
    names = [plain_name(text, f"{path}, line {number}") for number, text in read_lines(path)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path} names {twice!r} twice; every sequence counts once. Fetch the list again.")
    return names


def plain_name(text: str, where: str) -> str:
    """``text`` if it names something right in a folder.

    Raises:
        DataError: it points elsewhere (``..``, slashes, nothing at all).
    """
    if text in ("", ".", "..") or set(text) & set("/\\\0"):
        raise DataError(f"{where}: {text!r} is not the name of a folder. Fetch the official list again.")
    return text


def place_inside(root: Path, text: str, where: str) -> Path:
    """The place under ``root`` that a list's ``text`` names, relative to it or absolute.

    Raises:
        DataError: it lies outside.
    """
    named = PurePosixPath(text)
    if named.is_absolute() and named.is_relative_to(root.absolute()):
        named = named.relative_to(root.absolute())
    if named.is_absolute() or not named.parts or ".." in named.parts or set(text) & set("\\\0"):
        raise DataError(f"{where}: {text!r} does not lie in {root}. Fetch the official list again.")
    return root / named
