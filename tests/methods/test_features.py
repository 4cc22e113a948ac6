"""Every model's vector of a clip: there, or refused by name; and what the head makes of it is what the model says."""

from __future__ import annotations

import pytest
import torch

import zoo
from zoo.loading import on_paper
from zoo.methods.correspondence import Correspondence

FEATURELESS = {
    "charades_chance": "makes no vectors",
    "oops_chance": "makes no vectors",
    "label_propagation_identity": "copies labels",
    "charades_two_stream": "optical flow",
    "charades_two_stream_flow": "optical flow",
    "charades_two_stream_flow_tiny": "optical flow",
    "charades_two_stream_tiny": "optical flow",
    "temporal_fields_flow": "optical flow",
    "temporal_fields_two_stream": "optical flow",
}
WIDTHS = {
    "async_tf": 2048,
    "charades_resnet152": 2048,
    "charades_two_stream_rgb": 4096,
    "contrastive_random_walk_r18": 256,
    "goal_decoder": 512,
    "goal_trajectory": 512,
    "mmaction_nonlocal_i3d_r50": 2048,
    "nonlocal_i3d_r50": 2048,
    "oops_r3d18": 512,
    "r2plus1d18": 512,
    "temporal_fields": 4096,
    "temporal_fields_tiny": 64,
    "time_cycle_r50": 512,
    "timm_encoder": 1024,
}


@pytest.mark.parametrize("name", WIDTHS)
def test_a_network_for_frames_or_clips_has_them(name):
    model = on_paper(name).eval()
    with torch.no_grad():
        found = model.features(_clips(model, "meta"))
    assert (found.shape, found.dtype) == ((2, WIDTHS[name]), torch.float32)


@pytest.mark.parametrize("name", FEATURELESS)
def test_the_others_say_why_not(name):
    model = on_paper(name)
    with pytest.raises(zoo.ZooError, match=f"^{name} has no features of clips: .*{FEATURELESS[name]}"):
        model.features(_clips(model, "meta"))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("nonlocal_i3d_tiny", lambda model, clips: model(model.normalize(clips))),
        ("charades_frames_tiny", lambda model, clips: model(model.normalize(clips[:, :, 0]))),
        ("oops_cnn_tiny", lambda model, clips: model(model.normalize(clips))),
    ],
)
def test_the_head_reads_them(name, answer):
    model = zoo.load(name)
    clips = _clips(model)
    with torch.no_grad():
        found = torch.nn.functional.linear(model.features(clips), model.head.weight, model.head.bias)
        torch.testing.assert_close(found, answer(model, clips), atol=1e-5, rtol=1e-5)
    assert not found[0].allclose(found[1])


def test_an_encoder_of_frames_gives_the_mean_over_its_map_and_the_frames():
    model = zoo.load("time_cycle_tiny")
    assert isinstance(model, Correspondence)
    clips = _clips(model)
    with torch.no_grad():
        maps = [
            torch.stack([model.encoder(model.normalize(clip[:, t, None])[None, :, 0]) for t in range(4)])
            for clip in clips
        ]
        torch.testing.assert_close(model.features(clips), torch.stack([m.mean((0, 1, 3, 4)) for m in maps]))


def test_floats_between_the_bytes_count():
    model = zoo.load("oops_cnn_tiny")
    clips = _clips(model)
    with torch.no_grad():
        assert torch.equal(model.features(clips), model.features(clips.float()))
        assert not torch.equal(model.features(clips), model.features(clips + 0.4))


def test_what_was_seen_without_gradients_can_be_learned_from_afterwards():
    model = on_paper("i3d_tiny")  # no weights are looked at
    model.spec = model.spec.replace(mean=(0.123, 0.2, 0.3))
    model.to_empty(device="cpu")
    with torch.inference_mode():
        seen = model.normalize(_clips(model))
    pixels = _clips(model).float().requires_grad_()
    model.normalize(pixels).sum().backward()
    assert pixels.grad[0, 0, 0, 0, 0] == pytest.approx(1 / 255 / model.spec.std[0])
    torch.testing.assert_close(model.normalize(pixels).detach(), seen.clone())


def _clips(model, device: str = "cpu") -> torch.Tensor:
    shape = (2, 3, model.spec.frames, model.spec.test_crop, model.spec.test_crop)
    if device == "meta":
        return torch.empty(shape, dtype=torch.uint8, device=device)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
