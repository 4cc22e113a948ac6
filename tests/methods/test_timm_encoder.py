"""Image networks as frame encoders."""

from __future__ import annotations

import pytest
import timm
import torch

import zoo


def test_it_is_the_image_network_at_stride_eight():
    torch.manual_seed(0)
    network = timm.create_model("resnet18").eval()
    model = zoo.create("timm_encoder", backbone="resnet18.tv_in1k", references=2).eval()
    model.start_from_image(network.state_dict())
    assert model.image_backbone == "resnet18.tv_in1k"
    assert model.spec.mean == (0.485, 0.456, 0.406)
    assert model.propagation.references == 2
    frames = torch.randn(2, 3, 64, 48)
    maps = model(frames.unsqueeze(2))
    assert maps.shape == (2, 256, 1, 8, 6)
    # Up to where it is kept dense, it is the very network.
    theirs = network.maxpool(network.act1(network.bn1(network.conv1(frames))))
    torch.testing.assert_close(model.encoder.stage(frames, "layer2"), network.layer2(network.layer1(theirs)))


def test_nothing_in_it_learns():
    assert not any(p.requires_grad for p in zoo.create("timm_encoder", backbone="resnet18").parameters())


def test_without_a_network_it_says_what_it_wanted():
    with pytest.raises(zoo.FetchError, match=r"resnet18\.a1_in1k"):
        zoo.create("timm_encoder", backbone="resnet18.a1_in1k", pretrained=True)
    with pytest.raises(zoo.ZooError, match="no backbone 'resnet5000'"):
        zoo.create("timm_encoder", backbone="resnet5000")
