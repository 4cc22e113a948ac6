"""Two-dimensional ImageNet weights in a video network."""

from __future__ import annotations

import pytest
import timm
import torch

from zoo.errors import WeightsError
from zoo.networks.inflate import from_timm, inflate_into
from zoo.networks.resnet3d import Layout, ResNet3d

# One that pads as timm's does and leaves time alone.
STILL = Layout((5, 7, 7), (1, 2, 2), (1, 3, 3), (1, 2, 2), (0, 1, 1), 1)


@pytest.fixture(scope="module")
def resnet() -> torch.nn.Module:
    """A two-dimensional ResNet with some life in its norms."""
    torch.manual_seed(0)
    network = timm.create_model("resnet50", pretrained=False)
    for name, value in network.state_dict().items():
        if value.dim() == 1 and "fc" not in name:
            torch.nn.init.uniform_(value, 0.5, 1.0) if name.endswith(("weight", "var")) else torch.nn.init.normal_(
                value
            )
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize("inflate", [None, "3x1x1", "3x3x3"])
def test_a_still_clip_gives_the_image_network_s_features(inflate: str | None, resnet: torch.nn.Module) -> None:
    """In every frame of C2D; in I3D where no kernel has reached over the ends of the clip."""
    trunk = ResNet3d(50, inflate=inflate, layout=STILL, nonlocal_after={"res3": (1,)}).eval()
    inflate_into(trunk, from_timm(resnet.state_dict()))
    image = torch.randn(1, 3, 64, 64)
    frames = 25 if inflate else 2  # nine kernels of 3 and one of 5 reach 11 frames to either side
    features = trunk(image.unsqueeze(2).expand(-1, -1, frames, -1, -1))
    expected = resnet.forward_features(image)
    middle = features[:, :, frames // 2]
    torch.testing.assert_close(middle, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    if inflate:
        assert not torch.allclose(features[:, :, 0], expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))


def test_blocks_stay_fresh(resnet: torch.nn.Module) -> None:
    trunk = ResNet3d(50, inflate="3x1x1", nonlocal_after={"res4": (1,)})
    before = trunk.res4.nonlocal_blocks["1"].theta.weight.clone()
    inflate_into(trunk, from_timm(resnet.state_dict()))
    torch.testing.assert_close(trunk.res4.nonlocal_blocks["1"].theta.weight, before, rtol=0, atol=0)
    assert trunk.res4.nonlocal_blocks["1"].norm.weight.abs().max() == 0


def test_errors_name_what_does_not_fit(resnet: torch.nn.Module) -> None:
    state = from_timm(resnet.state_dict())
    trunk = ResNet3d(50)
    lacking = {key: value for key, value in state.items() if key != "res2.blocks.0.conv1.weight"}
    with pytest.raises(WeightsError, match=r"missing res2\.blocks\.0\.conv1\.weight\."):
        inflate_into(trunk, lacking)
    with pytest.raises(WeightsError, match=r"no place for res9\.odd"):
        inflate_into(trunk, {**state, "res9.odd": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"stem\.conv\.weight is \[64, 1, 7, 7\], which does not inflate to"):
        inflate_into(trunk, {**state, "stem.conv.weight": torch.zeros(64, 1, 7, 7)})
    with pytest.raises(WeightsError, match=r"no place for .*res4\.blocks\.10\.conv1\.weight"):
        inflate_into(trunk, from_timm(timm.create_model("resnet101").state_dict()))
    with pytest.raises(WeightsError, match=r"not a plain bottleneck ResNet: no place for .*layer1\.0\.se"):
        from_timm(timm.create_model("seresnet50").state_dict())
