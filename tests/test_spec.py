"""A spec travels as plain values and refuses what cannot be cut."""

from __future__ import annotations

import json

import pytest

import zoo
from zoo.spec import VideoSpec


def test_round_trip_through_json():
    spec = VideoSpec(frames=8, stride=8, crops=1, mean=(0.1, 0.2, 0.3))
    assert VideoSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.views == 10


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"frames": 0}, "frames"),
        ({"crops": 2}, "crops"),
        ({"crop": 300}, "crop 300"),
        ({"test_crop": 300}, "test_crop 300"),
        ({"short_side": (320, 256)}, "320"),
    ],
)
def test_refuses(wrong, named):
    with pytest.raises(zoo.ZooError, match=named):
        VideoSpec(**wrong)


def test_unknown_field_is_named():
    with pytest.raises(zoo.ZooError, match="frame_rate"):
        VideoSpec.from_dict({"frame_rate": 3})
