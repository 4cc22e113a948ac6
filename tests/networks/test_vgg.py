"""VGG-16: the reference's outputs under the names of its files, torchvision's names and size."""

from __future__ import annotations

import pytest
import torch

from tests import goldens
from zoo.methods.charades_keys import one_linear, vgg_weights
from zoo.networks.cost import cost
from zoo.networks.vgg import Vgg16


@pytest.mark.slow
def test_the_published_flow_network():
    case = goldens.load("temporal_fields_vgg16flow")
    state, rest = vgg_weights(case.state())
    with torch.device("meta"):
        network = Vgg16(20, dropout=(0.9, 0.8))
    network.load_state_dict(state, assign=True)
    network.eval()
    flow = case.input("flow")
    with torch.no_grad():
        x = flow
        for number, layer in enumerate(network.features):
            x = layer(x)
            if f"module{number}#mean_std" in case.outputs:  # before the ReLU that follows changes it
                case.check(f"module{number}#every997", x.flatten()[::997])
                case.check(f"module{number}#mean_std", torch.stack([x.mean(), x.std(correction=0)]).double())
        x = network.pool(x).flatten(1)
        case.check("fc6", network.classifier[:2](x))
        case.check("fc7", fc7 := network(flow))
        head = one_linear(rest)
        case.check("logits", torch.nn.functional.linear(fc7, head["head.weight"], head["head.bias"]))
    case.assert_complete()


def test_names_and_size_are_torchvisions():
    with torch.device("meta"):
        network = Vgg16()
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    layers = [*(f"features.{n}" for n in convolutions), "classifier.0", "classifier.3"]
    assert list(network.state_dict()) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    parameters, multiply_adds = cost(network, (1, 3, 224, 224))
    assert parameters == 138_357_544 - 4_097_000  # without the thousand classes
    assert abs(multiply_adds / 1e9 - (15.47 - 0.004)) < 0.01
    assert network.out_features == 4096


def test_a_narrow_one_sees_frames_of_any_size_and_tells_them_apart():
    torch.manual_seed(0)
    network = Vgg16(4, widths=(4, 8, 8), blocks=(1, 2, 1), hidden=16, side=4).eval()
    for size in ((32, 32), (40, 64)):
        first, second = network(torch.rand(2, 4, *size))
        assert first.shape == (16,)
        assert not torch.allclose(first, second)
    # Fresh weights neither swell nor fade a signal through the layers.
    deep = Vgg16(widths=(32,) * 5, hidden=64, side=2).eval()
    assert 0.1 < deep(torch.randn(4, 3, 64, 64)).square().mean().sqrt() < 10


def test_dropout_is_that_of_each_layer():
    network = Vgg16(20, dropout=(0.9, 0.8), widths=(4,), blocks=(1,), hidden=1000, side=1).train()
    torch.nn.init.ones_(network.classifier[0].bias)
    torch.nn.init.ones_(network.classifier[3].bias)
    torch.nn.init.zeros_(network.classifier[0].weight)
    torch.nn.init.zeros_(network.classifier[3].weight)
    share = lambda x: float((x == 0).float().mean())  # noqa: E731
    assert abs(share(network.classifier[:3](torch.ones(8, 4))) - 0.9) < 0.03
    assert abs(share(network(torch.ones(8, 20, 2, 2))) - 0.8) < 0.03
