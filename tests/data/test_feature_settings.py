"""What is noted beside features of how they were made: taken where it is plain, doubted where it is not."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from zoo.data.feature_settings import ABOUT, FeatureSettings, agreed_rate, rate_of, settings_beside
from zoo.errors import DataError


def note(folder, **said):
    folder.mkdir(exist_ok=True)
    (folder / ABOUT).write_text(json.dumps(said))
    return settings_beside(folder)


def test_what_is_given_is_taken_and_else_what_is_noted(tmp_path):
    noted = note(tmp_path, rate=5, dim=1024, model="s3d_milnce")
    assert (noted.rate, noted.dim, noted.model, noted.problem) == (5.0, 1024, "s3d_milnce", "")
    third = note(tmp_path / "third", rate=1 / 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert agreed_rate(None, [FeatureSettings(), noted]) == 5
        assert agreed_rate(None, [FeatureSettings()]) == 1
        assert agreed_rate(0.3333, [third]) == 0.3333
    with pytest.warns(UserWarning, match=r"extraction\.json: .* at 5 rows a second, and the option rate is 2:"):
        assert agreed_rate(2.0, [noted]) == 2
    with pytest.raises(DataError, match=r"says 5 rows a second and .*third/extraction\.json 0.333"):
        agreed_rate(None, [noted, third])
    noted.require(1024)
    with pytest.raises(DataError, match="features of s3d_milnce, rows of 1024 numbers, and the model wants 64"):
        noted.require(64)


def test_the_rate_of_a_file_is_that_beside_it(tmp_path):
    note(tmp_path, rate=2.5)
    assert rate_of(str(tmp_path / "x.npy")) == 2.5
    with pytest.warns(UserWarning, match=r"extracted at 2\.5 rows a second, and the option rate is 4: times will be"):
        assert rate_of(tmp_path / "x.npy", 4) == 4  # what is given is meant
    assert rate_of(tmp_path / "x.mp4") == rate_of(np.ones((2, 3))) == 1
    for wrong in (0, float("nan"), float("inf"), True, "5"):
        with pytest.raises(DataError, match="rate is rows of features a second, above 0"):
            rate_of(tmp_path / "x.npy", wrong)


@pytest.mark.parametrize(
    "text",
    ["", "[5]", "[" * 100_000, '{"rate": 0}', '{"rate": -5}', '{"rate": NaN}', '{"rate": Infinity}', '{"rate": true}',
     '{"rate": "5"}', '{"rate": [5]}', '{"dim": 0}', '{"rate": 1e999}', f'{{"rate": 1{"0" * 400}}}', "\udcff",
     '{"rate": 5}' + " " * (1 << 20)],
    ids=range(15),
)  # fmt: skip
def test_a_note_that_is_none_is_told_of_and_not_believed(tmp_path, text):
    (tmp_path / ABOUT).write_bytes(text.encode(errors="surrogateescape"))
    noted = settings_beside(tmp_path)
    assert (noted.rate, noted.dim) == (None, None)
    with pytest.warns(UserWarning, match=r"extraction\.json .*1 row a second is taken; give the option rate"):
        assert agreed_rate(None, [noted]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert agreed_rate(3.0, [noted]) == 3
