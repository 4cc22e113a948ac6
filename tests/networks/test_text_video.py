"""The text-video embedding of HowTo100M and its clips against the released code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.goldens import load
from zoo.errors import ZooError
from zoo.methods.howto100m_embedding import HowTo100MEmbedding
from zoo.networks.text_video import (
    TextVideoEmbedding,
    clip_features,
    max_margin_loss,
    merge_captions,
    negative_weights,
    split_caption,
)


def test_golden_embedding():
    case = load("actionness_howto100m_embedding")
    config = case.manifest["config"]
    network = TextVideoEmbedding(config["video_dim"], config["embd_dim"], config["we_dim"])
    ours = HowTo100MEmbedding.upstream_keys(case.state())
    network.load_state_dict({key.removeprefix("network."): value for key, value in ours.items()})
    video, text = case.input("video"), case.input("text")
    text[:, -2:] = 0
    case.check("video_embedding", network.video(video))
    case.check("text_embedding", network.text(text))
    case.check("similarity", network(video, text))
    for weighted in (False, True):
        similarity = case.outputs["similarity"].clone().requires_grad_()
        loss = max_margin_loss(
            similarity, config["n_pair"], config["margin"], config["hard_negative_rate"], weighted=weighted
        )
        loss.backward()
        case.check(f"max_margin.neg_weight{int(weighted)}", loss[None])
        case.check(f"max_margin_grad.neg_weight{int(weighted)}", similarity.grad)
    case.assert_complete()


def test_golden_clip_features():
    case = load("actionness_howto100m_clip_features")
    config = case.manifest["config"]
    streams = [case.input(f"feature_{kind}").abs().half().numpy() for kind in ("2d", "3d")]
    times = (case.stored[name].numpy() for name in ("start", "end"))
    found = clip_features(streams, [config["rates"][kind] for kind in ("2d", "3d")], *times)
    case.check("clip_features", torch.from_numpy(found))
    said = config["captions"]
    words = [split_caption(text) for text in said["text"]]
    merged = [
        merge_captions(n, said["start"], said["end"], words, seconds=config["min_time"], least=config["min_words"])
        for n in range(len(words))
    ]
    assert [" ".join(found) for found, _, _ in merged] == config["merged_words"]
    case.check("merged_start", torch.tensor([start for _, start, _ in merged], dtype=torch.float64))
    case.check("merged_end", torch.tensor([end for _, _, end in merged], dtype=torch.float64))
    case.assert_complete()


def test_captions_merge_by_words_and_stop_at_the_ends():
    words = [["a", "b", "c"], ["d"], ["e"]]
    found = merge_captions(1, [0.0, 1.0, 2.0], [1.0, 2.0, 3.0], words, seconds=0, least=3)
    assert found == (["d", "a", "b", "c"], 0.0, 2.0)
    assert merge_captions(2, [0.0, 1.0, 2.0], [1.0, 2.0, 3.0], words, seconds=99)[1:] == (0.0, 3.0)


def test_negatives_of_the_same_video_have_their_share():
    weights = negative_weights(3, 4, intra=0.3)
    own = torch.block_diag(*[torch.ones(4, 4)] * 3).bool()
    assert weights.mean() == pytest.approx(1)
    assert float(weights[own].sum() / weights.sum()) == pytest.approx(0.3)
    with pytest.raises(ZooError, match="one"):
        max_margin_loss(torch.zeros(4, 4), pairs=4)


def test_a_clip_without_rows_is_zero():
    assert not clip_features([np.ones((3, 2), np.float32)], [1.0], np.array([5.0]), np.array([6.0])).any()
