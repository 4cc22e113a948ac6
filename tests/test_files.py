"""What to do about a disk that refuses depends on whose place it is."""

from __future__ import annotations

import os

import pytest

from zoo.files import NoPlaceError, cache_root, require_writable, write_whole


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
