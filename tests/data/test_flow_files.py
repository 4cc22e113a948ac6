"""Flow in bytes: the published rule, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.goldens import load
from zoo.data.flow_files import BOUND, decode_flow, encode_flow, flow_paths


def test_bytes_are_the_published_rule():
    golden = load("temporal_fields_postprocess").outputs
    exact = golden["flow8.float"].numpy()
    grey = encode_flow(golden["flow8.in"].numpy())
    assert grey.dtype == np.uint8
    assert np.abs(grey - exact).max() <= 0.5
    assert {0.0, 255.0} <= set(exact.tolist())  # the case holds motions that are cut


def test_decoding_gives_the_motion_back_within_half_a_step():
    flow = np.linspace(-BOUND, BOUND, 1001).reshape(7, 11, 13)
    back = decode_flow(encode_flow(flow))
    assert back.shape == flow.shape
    assert back.dtype == np.float32
    assert np.abs(back - flow).max() <= BOUND / 255 + 1e-5
    assert np.array_equal(encode_flow(decode_flow(np.arange(256))), np.arange(256))
    assert decode_flow(encode_flow(np.array([-1e9, 1e9]))).tolist() == [-BOUND, BOUND]
    assert encode_flow(np.zeros(1)) == 128


def test_files_are_named_as_the_release_names_them():
    assert flow_paths(Path("Charades_v1_flow/AB12C"), 7) == (
        Path("Charades_v1_flow/AB12C/AB12C-000007x.jpg"),
        Path("Charades_v1_flow/AB12C/AB12C-000007y.jpg"),
    )
