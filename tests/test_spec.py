"""A spec travels as plain values and refuses what cannot be cut."""

from __future__ import annotations

import json

import pytest

import zoo
from zoo.spec import TrajectorySpec, VideoSpec


def test_round_trip_through_json():
    spec = VideoSpec(frames=8, stride=8, crops=1, mean=(0.1, 0.2, 0.3))
    assert VideoSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.views == 10


def test_a_trajectory_travels_too():
    spec = VideoSpec(trajectory=TrajectorySpec(clips=(7, 9), cap=None), size=(256, 341))
    assert VideoSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    with pytest.raises(zoo.ZooError, match=r"spec\.trajectory: unknown field hop"):
        VideoSpec.from_dict({"trajectory": {"hop": 3}})
    with pytest.raises(zoo.ZooError, match=r"8\.\.6"):
        TrajectorySpec(clips=(8, 6))
    with pytest.raises(zoo.ZooError, match="stride"):
        TrajectorySpec(stride=0)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"frames": 0}, "frames"),
        ({"crops": 2}, "crops"),
        ({"crop": 300}, "crop 300"),
        ({"test_crop": 300}, "test_crop 300"),
        ({"short_side": (320, 256)}, "320"),
        ({"size": (128, 171)}, "size"),
    ],
)
def test_refuses(wrong, named):
    with pytest.raises(zoo.ZooError, match=named):
        VideoSpec(**wrong)


def test_unknown_field_is_named():
    with pytest.raises(zoo.ZooError, match="frame_rate"):
        VideoSpec.from_dict({"frame_rate": 3})
