"""A ResNet of timm's, kept dense. That it computes what TimeCycle's release does is checked in tests/methods."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import FetchError, ZooError
from zoo.networks.frame_encoder import FrameEncoder, unit

TINY = {"layers": (1, 1, 1), "channels": (8, 16, 32)}


@pytest.mark.parametrize("stride", [4, 8, 16])
@pytest.mark.parametrize("size", [(96, 64), (50, 71), (33, 40)])
@torch.inference_mode()
def test_the_map_has_a_feature_for_every_stride_pixels_of_any_size(stride, size):
    encoder = FrameEncoder("resnet18", stride=stride, projection=24, **TINY).eval()
    features = encoder(torch.randn(2, 3, *size))
    assert features.shape == (2, 24, -(-size[0] // stride), -(-size[1] // stride))
    assert (encoder.stride, encoder.channels) == (stride, 24)
    assert features.min() == 0 < features.max()  # after the projection comes a ReLU


def test_dense_stages_are_not_dilated_and_others_keep_their_stride():
    encoder = FrameEncoder("resnet50", last="layer4", projection=None)
    strides = {name: m.stride[0] for name, m in encoder.named_modules() if isinstance(m, nn.Conv2d) and m.stride[0] > 1}
    assert strides == {"conv1": 2, "layer2.0.conv2": 2, "layer2.0.downsample.0": 2}
    assert all(m.dilation == (1, 1) for m in encoder.modules() if isinstance(m, nn.Conv2d))
    assert encoder.channels == 2048


def test_stages_before_the_last_can_be_had():
    encoder = FrameEncoder("resnet18", last="layer4", projection=None).eval()
    frames = torch.randn(1, 3, 40, 40)
    with torch.inference_mode():
        assert encoder.stage(frames, "layer3").shape == (1, 256, 5, 5)
        assert torch.equal(encoder.layer4(encoder.stage(frames, "layer3")), encoder(frames))


def test_a_resnet_d_is_kept_dense_on_its_shortcut_too():
    encoder = FrameEncoder("resnet26d", projection=None).eval()
    with torch.inference_mode():
        assert encoder(torch.randn(1, 3, 64, 64)).shape == (1, 1024, 8, 8)


@torch.inference_mode()
def test_reflect_padding_has_no_borders():
    torch.manual_seed(0)
    grey = torch.full((1, 3, 64, 64), 0.7)
    options = {"projection": None, **TINY}
    features = FrameEncoder("resnet18", padding_mode="reflect", **options).eval()(grey)
    assert features.abs().max() > 0
    torch.testing.assert_close(features, features[..., :1, :1].expand_as(features), rtol=1e-4, atol=1e-5)
    bordered = FrameEncoder("resnet18", **options).eval()(grey)
    assert (bordered - bordered[..., 4:5, 4:5]).abs().max() > 1e-2


def test_fresh_weights_are_kaimings_and_every_branch_is_open():
    torch.manual_seed(0)
    encoder = FrameEncoder("resnet18")
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.03), name
            assert module.bias is None
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight)), name
            assert not module.bias.any(), name


def test_unit_vectors_and_the_zero_vector():
    features = torch.randn(2, 5, 3, 3)
    features[0, :, 1, 1] = 0
    lengths = unit(features).norm(dim=1)
    assert lengths[0, 1, 1] == 0
    lengths[0, 1, 1] = 1
    torch.testing.assert_close(lengths, torch.ones(2, 3, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet5000"}, "no backbone 'resnet5000'"),
        ({"backbone": "convnext_atto"}, "ConvNeXt.*ResNet of timm's"),
        ({"backbone": "resnetblur50"}, "BlurPool2d, which cannot be kept dense"),
        ({"backbone": "resnet18", "last": "layer4", **TINY}, "no layer4"),
        ({"backbone": "resnet18", "last": "layer1"}, "a stride of 4, not 8"),
    ],
)
def test_what_cannot_be_cut_is_refused(arguments, message):
    with pytest.raises(ZooError, match=message):
        FrameEncoder(**arguments)


def test_weights_that_cannot_be_fetched_are_named():
    with pytest.raises(FetchError, match=r"resnet18\.tv_in1k.*pretrained=False"):
        FrameEncoder("resnet18.tv_in1k", pretrained=True)
    with pytest.raises(ZooError, match="no backbone 'resnet5000'"):
        FrameEncoder("resnet5000", pretrained=True)
