"""What to do about a disk that refuses depends on whose place it is; what is being written is never half there."""

from __future__ import annotations

import os

import pytest
from filelock import FileLock

from zoo.files import NoPlaceError, cache_root, require_writable, whole_folder, write_whole


def test_only_the_cache_is_moved_by_its_variable(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        NoPlaceError, match=r"cannot write x into .*file: it is not a usable folder: .*\. Give one that is"
    ):
        write_whole(tmp_path / "file" / "x", b"1")
    cache_root().write_text("in the way")
    with pytest.raises(NoPlaceError, match=r"Set ZOO_CACHE to one that is"):
        write_whole(cache_root() / "x", b"1")


def test_a_folder_is_tried_without_a_trace(tmp_path):
    require_writable(tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises(NoPlaceError, match="not a usable folder"):
            require_writable(folder)


def test_a_folder_in_the_making_takes_the_place_of_those_that_were_killed(tmp_path):
    names = ("out.0a0a0a0a", "out.1b1b1b1b", "outer.2c2c2c2c")
    killed, alive, other = (tmp_path / f".{name}.partial" for name in names)
    for path in (killed, alive, other):
        (path / "part").mkdir(parents=True)
    (tmp_path / ".out.3d3d3d3d.partial.lock").touch()
    with FileLock(f"{alive}.lock"), whole_folder(tmp_path / "out") as making:
        left = {path.name for path in tmp_path.iterdir()} - {making.name, f"{making.name}.lock"}
        assert left == {alive.name, f"{alive.name}.lock", other.name}
        (making / "file").touch()
    assert (tmp_path / "out" / "file").is_file()
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "new"):
        raise KeyboardInterrupt
    left = {path.name for path in tmp_path.iterdir()} - {f"{alive.name}.lock"}
    assert left == {"out", alive.name, other.name}
